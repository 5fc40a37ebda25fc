"""The trainer of a run without its data: for steps that are traced, and for steps that are tried."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from whisper_train.audio import SAMPLE_RATE
from whisper_train.data.dataset import Collator
from whisper_train.job import Job
from whisper_train.training.distillation import Teacher
from whisper_train.training.loss import make_loss
from whisper_train.training.meter import Meter, Work
from whisper_train.training.trainer import WhisperTrainer
from whisper_train.training.window import make_window


class Noise(Dataset[dict[str, Any]]):
    """Windows of `seconds` of noise with labels of `tokens`: all as long as the longest, so as dear as batches get."""

    def __init__(self, windows: int, seconds: float, tokens: int) -> None:
        self.windows = windows
        self.waveform = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)).astype(np.float32)
        self.tokens = [1] * (tokens + 1)

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, draw: Any) -> dict[str, Any]:
        return {"waveform": self.waveform, "tokens": self.tokens, "unlearned": 0, "clips": 1, "audio_seconds": 0.0}


def steps_alone(job: Job, precision: str, **training: Any) -> Job:
    """`job` with `training` laid over it, that only takes steps: it evaluates, saves and reports nothing."""
    quiet = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "report_to": ["none"]}
    kept = {key: value for key, value in job.training.items() if key not in ("bf16", "fp16", "push_to_hub")}
    machine = job.machine.model_copy(update={"precision": precision, "dataloader_num_workers": 0})
    settings = type(job.training)({**kept, **quiet, **training})
    return job.model_copy(update={"training": settings, "machine": machine})


class UnmovedTrainer(WhisperTrainer):
    """Leaves the model where it is: fake tensors lie nowhere, and torch refuses to move them as parameters."""

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        return None


def stand_in_trainer(
    kind: type[WhisperTrainer],
    job: Job,
    model: Any,
    args: Any,
    extractor: Any,
    folder: Path,
    *,
    windows: Noise,
    dtype: torch.dtype,
    callbacks: Sequence[Any] = (),
    teacher: Any = None,
) -> WhisperTrainer:
    """A trainer of `kind` that sees `windows` in their order, evaluates nothing and keeps nothing.

    `dtype` is the type that matrices are multiplied in; `teacher` is another model of the same
    base, where the job distils.
    """
    nothing: Any = None
    order: Any = range(len(windows))
    seconds = job.data.window_seconds or extractor.n_samples / SAMPLE_RATE
    taught = None
    if job.quantization and job.quantization.distillation and teacher is not None:
        taught = Teacher(teacher, job.quantization.distillation)
    return kind(
        model=model,
        args=args,
        train_dataset=windows,
        data_collator=Collator(pad_token=0),
        callbacks=list(callbacks),
        processor=SimpleNamespace(feature_extractor=extractor),
        order=order,
        measure=nothing,
        keep_checkpoints=None,
        keep_best=False,
        checkpoint_facts={},
        dropped_file=folder / "dropped.jsonl",
        max_dropped_fraction=0.0,
        layer_decay=job.model.layer_decay,
        loss=make_loss(model, args.label_smoothing_factor, dtype, taught),
        meter=Meter(Work(), lambda batch: 0.0, lambda batch: 0.0),
        choices=model.config.vocab_size,
        window=make_window(job, model, seconds, extractor.hop_length),
        teacher=taught,
    )
