"""Disk that a job takes: its checkpoints, its base and its model, in bytes. Estimates, each with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from whisper_train.job import Job

WEIGHT, MASTER, ADAM_STATES, EIGHT_BIT_STATES = 4, 4, 8, 2.1  # bytes a parameter
HALF = 2
DATA_BYTES = 50_000_000_000  # for data from the hub, whose size nobody tells beforehand
OTHER_BYTES = 10_000_000_000  # logs, indexes, transcriptions, synthetic speech
SPEECH_BYTES = 57_000  # of a synthetic clip of the demo's jobs on the disk, measured: 38,000 to 57,000
TRANSCRIBED_BYTES = 1_000  # of a clip in transcriptions and results, by one model; measured: 400 to 600
UNLIMITED = 5  # checkpoints, where save_total_limit keeps all and nothing tells how many there will be


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    checkpoint: int  # bytes of one
    checkpoints: int  # how many there are at most
    models: int  # bytes of the bases and of what is trained
    data: int

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.models + self.data


def checkpoint_bytes(job: Job, parameters: int, trained: int | None = None) -> int:
    """Bytes of a checkpoint: float32 weights with Adam's states, or what ZeRO-2 writes beside its 16-bit weights."""
    learned = parameters if trained is None else trained
    states = EIGHT_BIT_STATES if "8bit" in str(job.training.get("optim", "")) else ADAM_STATES
    if job.machine.deepspeed is None:
        weights = WEIGHT * (learned if job.model.lora else parameters)
        return round(weights + states * learned)
    # DeepSpeed keeps the module beside transformers' own copy of its weights, master and states a rank.
    return round(2 * HALF * parameters + (MASTER + states) * learned)


def most_checkpoints(job: Job, steps: int | None = None) -> int:
    """How many there are at once: those kept, the best, and one being written; or all that `steps` steps make."""
    limit, saves = job.training.get("save_total_limit"), count_saves(job, steps)
    most = None if limit is None and saves is not None else (limit or UNLIMITED) + 2
    return min(number for number in (most, saves) if number is not None)


def count_saves(job: Job, steps: int | None) -> int | None:
    """Checkpoints that a training of `steps` steps writes, one of a stop among them; None where that is not known."""
    every = float(job.training.get("save_steps", 500))  # below 1 a share of all steps, as transformers has it
    if steps is None or job.training.get("save_strategy", "steps") != "steps":
        return None
    return math.ceil(steps / (every if every >= 1 else max(1, math.ceil(every * steps)))) + 1


def estimate_disk(jobs: Sequence[Job], parameters: int, trained: int | None = None, steps: int | None = None) -> Disk:
    """The disk of `jobs`, which train one after the other on the same base of `parameters`, for `steps` steps each."""
    kept = sum(most_checkpoints(job, steps) for job in jobs)
    sources = [source for job in jobs for source in job.data.training_sources]
    on_hub = any(source.hub and not source.streaming for source in sources)
    return Disk(
        checkpoint=max(checkpoint_bytes(job, parameters, trained) for job in jobs),
        checkpoints=kept,
        models=WEIGHT * parameters * (1 + len(jobs)),
        data=DATA_BYTES if on_hub else OTHER_BYTES,
    )
