"""Everything that is done once before an entity model is trained: its data, its base, the checkpoint to go on from."""

from collections.abc import Callable, Mapping
from pathlib import Path

from whisper_train.chains.inputs import learning_inputs
from whisper_train.chains.lineage import find_ancestors
from whisper_train.entities.model import create_encoder, load_encoder, load_tokenizer
from whisper_train.entities.pieces import count_pieces
from whisper_train.entities.sets import Sentences, audit, read_sets
from whisper_train.job import Job
from whisper_train.job_entities import Entities
from whisper_train.machine import Layout
from whisper_train.model import resolve_place
from whisper_train.paths import Directories
from whisper_train.plan import RunPlan
from whisper_train.prepare import check_same_base, check_same_data, make_resumable
from whisper_train.run_folder import RunFolder, start
from whisper_train.training.checkpoints import find_good


def settings_of(job: Job) -> Entities:
    return job.entities or Entities()


def prepare(
    job: Job,
    folder: RunFolder,
    layout: Layout,
    directories: Directories,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> RunPlan:
    """The plan of a run; raises UserError for wrong data, or a base that does not label words.

    DeepSpeed, which a machine profile may name for speech, is left out: an encoder fits on any card.
    """
    from whisper_train.entities.room import check_download_room, check_training_room
    from whisper_train.training.arguments import make_arguments

    say(f"data: reading {', '.join(source.label for source in job.data.train)}")
    sets = read_sets(job)
    base = resolve_place(job.base, directories)
    if job.base == "new":
        base = make_new_base(job, folder, sets["train"])
    check_download_room(job, base, directories, say)
    tokenizer = load_tokenizer(base, revision=job.base_revision)
    model = load_encoder(base, revision=job.base_revision, seed=job.training.get("seed", 42))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if layout.ranks == 1:
        make_arguments(job, layout, folder.path, None)  # what transformers refuses is told before the run begins
    inputs = learning_inputs(job, directories)
    check_same_base(job, folder, inputs["base"])
    start(job, folder, {"base": job.base, "inputs": inputs, "lineage": find_ancestors(job, directories)})
    most = settings_of(job).max_tokens
    facts = audit(sets, job, folder.data, lambda tokens: count_pieces(tokenizer, tokens), most)
    for name, counted in facts["sets"].items():
        lost = ", ".join(f"{number:,} {reason}" for reason, number in counted["dropped"].items())
        say(f"data: {name}: {counted['kept']:,} of {counted['clips']:,} sentences kept; dropped: {lost or 'none'}")
    digests = {name: counted["digest"] for name, counted in facts["sets"].items()}
    checkpoint = find_good(folder.checkpoints, say)
    check_training_room(job, folder, parameters, layout.global_batch, say)
    if checkpoint is not None:
        check_same_data(folder, digests)
        make_resumable(checkpoint, layout, None, say)
    folder.update(data=digests)
    return RunPlan(
        job=job,
        folder=folder,
        cache=directories.cache,
        base=base,
        layout=layout,
        deepspeed=None,
        checkpoint=checkpoint,
    )


def make_new_base(job: Job, folder: RunFolder, train: Sentences) -> str:
    """The folder of the random weights that `base: new` starts from; made on the first run."""
    settings = settings_of(job)
    assert settings.encoder is not None
    place: Path = folder.new_base
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        texts = (sentence.tokens for sentence in train.sentences)
        create_encoder(settings.encoder, settings.max_tokens, texts, job.training.get("seed", 42), place)
    return str(place)
