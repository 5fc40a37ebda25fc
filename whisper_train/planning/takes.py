"""What each step is about to write: speech, downloads, checkpoints, models, transcriptions. The sums are disk.py's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source
from whisper_train.machine import list_gpus, plan_layout
from whisper_train.paths import Directories, as_size, size_of
from whisper_train.planning.bases import dimensions_of_values, find_dimensions
from whisper_train.planning.clips import count_data
from whisper_train.planning.disk import HALF, SPEECH_BYTES, TRANSCRIBED_BYTES, WEIGHT, estimate_disk
from whisper_train.planning.room import Take
from whisper_train.run_folder import RunFolder, run_folder

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def speech_takes(job: Job, cache: Path) -> list[Take]:
    """The synthetic speech of `job` that is not made yet."""
    from whisper_train.data.synthetic import synthetic_folder

    sources: list[Source] = [*job.data.training_sources, *(one for each in job.data.eval.values() for one in each)]
    clips = {
        synthetic_folder(source.synthetic, cache, source.language or job.language): source.synthetic.clips
        for source in sources
        if source.synthetic
    }
    missing = sum(count for folder, count in clips.items() if not folder.is_dir())
    return [Take(place=cache / "synthetic", bytes=SPEECH_BYTES * missing, what=f"{missing:,} clips of speech")]


def download_takes(
    place: str,
    config: Any,
    cache: Path,
    revision: str | None = None,
    count: Callable[[Any], int] | None = None,
) -> list[Take]:
    """The weights of a model of the hub that are not in its cache; in the type that its configuration says.

    `count` tells the parameters of a configuration; None: of a Whisper's.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(place).is_absolute() or any(
        isinstance(try_to_load_from_cache(place, name, revision=revision), str) for name in WEIGHTS
    ):
        return []
    each = HALF if "16" in str(config.dtype) else WEIGHT
    return [Take(place=cache, bytes=each * (count or parameters_of)(config), what=place)]


def training_takes(
    job: Job, folder: RunFolder, config: Any, hop: int, directories: Directories, global_batch: int
) -> Iterator[Take]:
    """Checkpoints and model of a run whose data are audited, less the checkpoints that lie there already."""
    dimensions = dimensions_of_values(config.to_dict(), hop)
    steps = count_data(job, directories, dimensions, global_batch).steps
    return run_takes(job, folder, dimensions.parameters, steps, count_trained(job, config))


def run_takes(
    job: Job, folder: RunFolder, parameters: int, steps: int | None, trained: int | None = None
) -> Iterator[Take]:
    """Checkpoints and model of a run of `steps` on a model of so many `parameters`, of which `trained` (None: all)."""
    disk = estimate_disk([job], parameters, trained, steps)
    there = size_of([folder.checkpoints]) if folder.checkpoints.is_dir() else 0
    what = f"at most {disk.checkpoints} checkpoints of {as_size(disk.checkpoint)}"
    what += f", {as_size(there)} of that is there" if there else ""
    yield Take(place=folder.checkpoints, bytes=disk.checkpoint * disk.checkpoints - there, what=what)
    models = 2 if job.averaging else 1  # an average is made beside the tuned model
    yield Take(place=folder.path, bytes=models * WEIGHT * parameters, what="the model")


def parameters_of(config: Any) -> int:
    return dimensions_of_values(config.to_dict(), 1).parameters


def count_trained(job: Job, config: Any) -> int | None:
    """Parameters that `job` trains; None for all."""
    if not job.model.lora and not job.model.freeze:
        return None
    import torch
    from transformers import WhisperForConditionalGeneration

    from whisper_train.model import shape_for_training

    with torch.device("meta"):
        model = shape_for_training(WhisperForConditionalGeneration(config), job.model)
    return sum(int(weight.numel()) for weight in model.parameters() if weight.requires_grad)


def evaluation_takes(folder: Path, clips: Sequence[int], missing: int) -> list[Take]:
    """Transcriptions of sets of `clips` by as many models as are `missing` there."""
    count = sum(clips)
    what = f"transcriptions of {count:,} clips by {missing} model{'s' if missing > 1 else ''}"
    return [Take(place=folder, bytes=TRANSCRIBED_BYTES * count * missing, what=what)]


def chain_takes(
    jobs: Sequence[Job], first: Job, directories: Directories, environment: Mapping[str, str]
) -> list[Take]:
    """What the stages `jobs` will leave in their order, in a chain that begins with `first`.

    Nothing where the size of its base is not known yet, and of LoRA the models alone: each stage says its own.
    """
    try:
        dimensions, _ = find_dimensions(first.base, first.architecture, directories)
    except UserError:
        return []
    takes = []
    for position, job in enumerate(jobs):
        batch = plan_layout(job, gpus=len(list_gpus(environment))).global_batch
        steps = count_data(job, directories, dimensions, batch).steps
        disk = estimate_disk([job], dimensions.parameters, steps=steps)
        if position < len(jobs) - 1:  # one that is being written is there once
            disk = replace(disk, checkpoints=max(1, disk.checkpoints - 1))
        folder = run_folder(job, directories)
        there = size_of([folder.checkpoints]) if folder.checkpoints.is_dir() else 0
        checkpoints = 0 if job.model.lora else max(0, disk.checkpoint * disk.checkpoints - there)
        takes.append(Take(place=folder.path, bytes=checkpoints + WEIGHT * dimensions.parameters, what=job.name))
    return takes
