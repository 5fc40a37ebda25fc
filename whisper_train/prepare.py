"""Everything that is done once, before the ranks start: base, data, the checkpoint to go on from."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from whisper_train.augment.settings import check_noise
from whisper_train.chains.inputs import learning_inputs
from whisper_train.chains.lineage import find_ancestors
from whisper_train.data.audit import text_problem
from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path, prepare_data
from whisper_train.data.sources import read_source
from whisper_train.data.weights import count_replayed, describe_replayed
from whisper_train.entities.speech import check_travel
from whisper_train.errors import UserError
from whisper_train.job import MAX_LABEL_TOKENS, Job
from whisper_train.job_file import display
from whisper_train.labels import PROMPT_AND_END
from whisper_train.machine import Layout
from whisper_train.model_parts import check_parts
from whisper_train.paths import Directories, find_config_dir, read_json, unseen_hint
from whisper_train.plan import RunPlan
from whisper_train.planning.room import check_room
from whisper_train.run_folder import RunFolder, start
from whisper_train.training.checkpoints import check_resumable, convert_to_universal, find_good

ENGLISH_ONLY_VOCABULARY = 51_864  # openai/whisper-*.en; the multilingual ones have one token more, or two


def prepare(
    job: Job,
    folder: RunFolder,
    layout: Layout,
    directories: Directories,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> RunPlan:
    """Everything that is done once, before the ranks start: base, data, checkpoint to go on from."""
    from whisper_train.model import load_config, load_processor, resolve_place
    from whisper_train.planning.takes import speech_takes
    from whisper_train.training.arguments import deepspeed_file, make_arguments, use_compiled_adam

    deepspeed_path = deepspeed_file(job, find_config_dir(environment))
    deepspeed = use_compiled_adam(read_json(deepspeed_path)) if deepspeed_path else None
    if missing := missing_manifests(job):  # before a base is fetched, perhaps for minutes
        raise UserError(
            f"{missing[0]}: no such file; check the source in the job (its paths are relative to the job file)"
            + unseen_hint()
        )
    check_noise(job.data)
    check_travel(job, directories)
    check_room(speech_takes(job, directories.cache), say, key="CACHE_DIR", way_out="CACHE_DIR names another disk")
    base = resolve_place(job.base, directories)
    if job.base == "new":
        base = make_new_base(job, folder, directories.cache)
    processor = load_processor(base, revision=job.base_revision)
    config = load_config(base, revision=job.base_revision)
    check_languages(job, processor.tokenizer, multilingual=config.vocab_size != ENGLISH_ONLY_VOCABULARY)
    check_parts(job.model.freeze, config)
    if job.quantization:
        check_quantization(job, base, config)
    whole_window = processor.feature_extractor.n_samples / processor.feature_extractor.sampling_rate
    if job.data.window_seconds and job.data.window_seconds > whole_window:
        raise UserError(
            f"data.window_seconds: {job.data.window_seconds:g}: the base's window has {whole_window:g} s; lower it, or"
            " leave it out"
        )
    if layout.ranks == 1 and deepspeed is None:
        make_arguments(job, layout, folder.path, None)  # what transformers refuses, it refuses before the data is read
    inputs = learning_inputs(job, directories)
    check_same_base(job, folder, inputs["base"])
    start(job, folder, {"base": job.base, "inputs": inputs, "lineage": find_ancestors(job, directories)})
    audit = prepare_data(
        job,
        folder.data,
        cache=directories.cache,
        count_tokens=lambda text: (
            len(processor.tokenizer(text, add_special_tokens=False)["input_ids"]) + PROMPT_AND_END
        ),
        max_tokens=min(config.max_target_positions, MAX_LABEL_TOKENS),
        window_seconds=whole_window,
        say=say,
    )
    note_replay(job, folder, directories.cache, say)
    digests = {name: counted["digest"] for name, counted in audit["sets"].items()}
    checkpoint = find_good(folder.checkpoints, say)
    check_training_room(job, folder, base, processor, config, layout, directories, say)
    if checkpoint is not None:
        check_same_data(folder, digests)
        deepspeed = make_resumable(checkpoint, layout, deepspeed, say)
    folder.update(data=digests)
    return RunPlan(
        job=job,
        folder=folder,
        cache=directories.cache,
        base=base,
        layout=layout,
        deepspeed=deepspeed,
        checkpoint=checkpoint,
    )


def check_training_room(
    job: Job,
    folder: RunFolder,
    base: str,
    processor: Any,
    config: Any,
    layout: Layout,
    directories: Directories,
    say: Callable[[str], None],
) -> None:
    """Says what the training will write, and raises UserError where the disk has no room for it."""
    from whisper_train.planning.takes import download_takes, training_takes

    takes = [*download_takes(base, config, directories.cache, job.base_revision)]
    takes += training_takes(
        job, folder, config, processor.feature_extractor.hop_length, directories, layout.global_batch
    )
    way_out = "training.save_total_limit: 1 keeps the fewest checkpoints, MODEL_DIR and CACHE_DIR name other disks"
    check_room(takes, say, key="MODEL_DIR", way_out=way_out)


def check_quantization(job: Job, base: str, config: Any) -> None:
    """Raises UserError where the fake quantizers of `job` do not fit the base, before the data is read.

    Tried on the base's model without its weights.
    """
    import torch
    from transformers import WhisperForConditionalGeneration

    from whisper_train.quantization.attach import attach
    from whisper_train.quantization.saved import read_facts

    assert job.quantization is not None
    with torch.device("meta"):
        attach(WhisperForConditionalGeneration(config), job.quantization)
    if job.quantization.distillation and read_facts(base, revision=job.base_revision):
        raise UserError(
            f"quantization.distillation: the base {job.base} is quantized itself and has no more to teach; start from"
            " the float model that it was made of, or leave distillation out"
        )


def note_replay(job: Job, folder: RunFolder, cache: Path, say: Callable[[str], None]) -> None:
    """Tells how many clips an epoch replays, and keeps it in run.json for the card."""
    if job.data.replay:
        replayed = count_replayed(job.data, Index(index_path(folder.data, "train"), cache))
        say(f"data: {describe_replayed(job.data, replayed)}")
        folder.update(replay=replayed)


def check_same_base(job: Job, folder: RunFolder, digest: str) -> None:
    """Raises UserError when a run that has begun would go on as if it came from another model."""
    before = folder.read().get("inputs", {}).get("base", digest)
    if before != digest and folder.checkpoints.is_dir():
        raise UserError(
            f"base: {job.base}: is another model than the one this run began from; make chain sets the run aside and"
            " begins anew, or give the job another name (--set name=…)"
        )


def check_languages(job: Job, tokenizer: Any, *, multilingual: bool) -> None:
    """Raises UserError for a language that the base has no token for."""
    from whisper_train.model import prompt_tokens

    for language in {job.language, *(source.language for source in job.data.training_sources if source.language)}:
        prompt_tokens(tokenizer, language, job.task, multilingual=multilingual)


def missing_manifests(job: Job) -> list[str]:
    """The manifests that the job names and that are not there."""
    sources = [*job.data.training_sources, *(source for sources in job.data.eval.values() for source in sources)]
    return [
        display(Path(source.manifest)) for source in sources if source.manifest and not Path(source.manifest).exists()
    ]


def make_resumable(
    checkpoint: Path, layout: Layout, deepspeed: dict[str, Any] | None, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The DeepSpeed configuration that loads `checkpoint`, of which a universal form is made where ranks differ."""
    say(f"resuming from {checkpoint.name}")
    universal = check_resumable(
        checkpoint, ranks=layout.ranks, deepspeed=deepspeed is not None, global_batch=layout.global_batch
    )
    if universal:
        say(f"converting {checkpoint.name} for {layout.ranks} rank(s)")
        convert_to_universal(checkpoint)
    if deepspeed is None:
        return None
    return {**deepspeed, "checkpoint": {**deepspeed.get("checkpoint", {}), "load_universal": universal}}


def check_same_data(folder: RunFolder, digests: Mapping[str, str]) -> None:
    """Raises UserError when the training clips are others than those the checkpoint was made with."""
    before = folder.read().get("data") or digests
    if before["train"] != digests["train"]:
        raise UserError(
            "data.train: other clips than this run has trained on so far, or the run was begun by an older version of"
            " this program, which keeps its list of them in another way; bring the old ones back, go on with that"
            " version, or give the job another name (--set name=…) to start afresh"
        )


def make_new_base(job: Job, folder: RunFolder, cache: Path) -> str:
    """The folder of the random weights that `base: new` starts from; made on the first run."""
    from whisper_train.create import create_base

    assert job.architecture is not None

    def texts() -> Iterable[str]:
        for position, source in enumerate(job.data.train):
            clips = read_source(source, position, language=job.language, cache=cache)
            yield from (clip.text for clip in clips if text_problem(clip.text) is None)

    if not folder.new_base.is_dir():
        create_base(job.architecture, texts(), job.training.get("seed", 42), folder.new_base)
    return str(folder.new_base)
