"""What the run of an entity model and its evaluation will write, said before they begin; refused without room."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from whisper_train.data.order import ClipOrder
from whisper_train.data.weights import epoch_weights
from whisper_train.entities.model import load_encoder_config
from whisper_train.entities.sets import open_set
from whisper_train.evaluate import EvalModel, Request
from whisper_train.job import Job
from whisper_train.paths import Directories
from whisper_train.planning.clips import steps_of
from whisper_train.planning.disk import TRANSCRIBED_BYTES
from whisper_train.planning.room import Take, check_room
from whisper_train.planning.takes import download_takes, run_takes
from whisper_train.run_folder import RunFolder

Say = Callable[[str], None]


def count_parameters(config: Any) -> int:
    """Of the model that `config` describes, made without its weights; 0 of a kind that does not label words."""
    import torch
    from transformers import AutoModelForTokenClassification

    try:
        with torch.device("meta"):
            model = AutoModelForTokenClassification.from_config(config, trust_remote_code=False)
    except ValueError:  # what loads it says so
        return 0
    return sum(int(weight.numel()) for weight in model.parameters())


def check_download_room(job: Job, base: str, directories: Directories, say: Say) -> None:
    """Says what a base on the hub takes in the cache, where it is not there yet; UserError without room for it."""
    config = load_encoder_config(base, revision=job.base_revision)
    takes = download_takes(base, config, directories.cache, job.base_revision, count_parameters)
    check_room(takes, say, key="CACHE_DIR", way_out="CACHE_DIR names another disk")


def check_training_room(job: Job, folder: RunFolder, parameters: int, global_batch: int, say: Say) -> None:
    """Says what a training whose sentences are audited will write; raises UserError where the disk has no room for it.

    Raises UserError as well where the weights of the sources leave nothing to train on.
    """
    train: Any = open_set(folder.data, "train")  # ClipOrder asks for the sources alone
    order = ClipOrder(train, epoch_weights(job.data, train), global_batch, job.training.get("seed", 42))
    steps = job.training.get("max_steps") or steps_of(job, order.windows, global_batch)
    alone = job.model_copy(update={"machine": job.machine.model_copy(update={"deepspeed": None})})
    way_out = "training.save_total_limit: 1 keeps the fewest checkpoints, MODEL_DIR names another disk"
    check_room([*run_takes(alone, folder, parameters, steps)], say, key="MODEL_DIR", way_out=way_out)


def check_evaluation_room(request: Request, models: Sequence[EvalModel], sentences: Sequence[int], say: Say) -> None:
    """Says what is to be fetched and written of sets of so many `sentences`; UserError without room for it."""
    way_out = "MODEL_DIR and CACHE_DIR name other disks, --max-samples takes fewer sentences"
    check_room([*evaluation_takes(request, models, sum(sentences))], say, key="MODEL_DIR", way_out=way_out)


def evaluation_takes(request: Request, models: Sequence[EvalModel], sentences: int) -> Iterator[Take]:
    """Models of the hub that are not in the cache, and predictions: of a made sentence 520 bytes, measured."""
    for model in models:
        if model.place:
            config = load_encoder_config(model.place, revision=model.revision, key=model.key)
            yield from download_takes(model.place, config, request.cache, model.revision, count_parameters)
    what = f"predictions for {sentences:,} sentences by {len(models)} model{'s' if len(models) > 1 else ''}"
    yield Take(place=request.folder, bytes=TRANSCRIBED_BYTES * sentences * len(models), what=what)
