"""The trainer of speech: log-mel features, windows, clips that could not be read, a rate a layer, a teacher."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from whisper_train.audio import LogMel
from whisper_train.errors import RunFailed
from whisper_train.training.distillation import Teacher
from whisper_train.training.job_trainer import JobTrainer
from whisper_train.training.layer_rates import split_by_layer
from whisper_train.training.loss import Loss
from whisper_train.training.window import EncoderWindow, see_all_of, whole_window

LEAST_DROPPED = 20  # clips; fewer say nothing about a share


class WhisperTrainer(JobTrainer):
    """Trains on batches of waveforms. Holds what transformers' trainer has no place for."""

    def __init__(
        self,
        *,
        dropped_file: Path,
        max_dropped_fraction: float,
        layer_decay: float | None,
        loss: Loss,
        window: EncoderWindow,
        teacher: Teacher | None = None,
        **options: Any,
    ) -> None:
        super().__init__(loss=loss, **options)
        self.dropped_file = dropped_file
        self.max_dropped_fraction = max_dropped_fraction
        self.layer_decay = layer_decay
        self.dropped = 0  # clips of this session and rank
        self.window = window
        self.teacher = teacher
        self.log_mel = LogMel(self.processor.feature_extractor, self.args.device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Waveforms to log-mel features on the training device, from float32 audio whatever the precision."""
        inputs = dict(inputs)
        seconds = inputs.pop("counts").window_seconds
        self.note_dropped(inputs.pop("dropped", []))
        device = self.args.device
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        samples, waveforms = inputs.pop("samples"), inputs.pop("waveforms")
        hop_length = self.processor.feature_extractor.hop_length
        features = self.log_mel(waveforms, self.window.samples(seconds) if self.model.training else None)
        see_all_of(self.model, features)
        prepared: dict[str, Any] = super()._prepare_inputs({**inputs, "input_features": features})
        if self.model.training and getattr(self.model.config, "apply_spec_augment", False):
            frames = prepared["input_features"].shape[-1]
            heard = torch.div(samples - 1, hop_length, rounding_mode="floor") + 1
            prepared["attention_mask"] = (torch.arange(frames, device=device) < heard[:, None]).long()
        return prepared

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Transformers' own, after the teacher, if there is one, has heard the batch."""
        if self.teacher is not None:
            self.teacher.hear(inputs)
        return super().compute_loss(model, inputs, *args, **options)

    def note_dropped(self, dropped: list[tuple[str, str]]) -> None:
        """Names the clips that could not be read during training; their batch is that much smaller."""
        self.dropped += len(dropped)
        if dropped:
            with self.dropped_file.open("a", encoding="utf-8") as file:
                for clip, reason in dropped:
                    line = {"step": self.state.global_step, "clip": clip, "reason": reason}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def check_data(self) -> None:
        mine = torch.tensor([self.heard, self.dropped], device=self.args.device)
        heard, dropped = self.accelerator.reduce(mine).tolist()
        self.check_dropped(heard + dropped, dropped)

    def check_dropped(self, clips: int, dropped: int) -> None:
        """Raises RunFailed when too many clips turn out unreadable: a lost mount must not end as a trained model."""
        if dropped > max(self.max_dropped_fraction * clips, LEAST_DROPPED):
            raise RunFailed(
                f"{dropped:,} of {clips:,} clips could not be read during training, more than data.max_dropped_fraction"
                f" ({self.max_dropped_fraction:g}) allows; {self.dropped_file} names them; when the data is back, the"
                " same command goes on from the newest checkpoint"
            )

    def seeing_all(self) -> AbstractContextManager[None]:
        return whole_window(self.model)

    def create_optimizer(self, model: Any = None) -> Any:
        """Transformers' optimizer, with a learning rate a layer where the job asks for it."""
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new and self.layer_decay is not None:
            split_by_layer(optimizer, model or self.model, self.layer_decay)
        return optimizer
