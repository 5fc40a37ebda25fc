"""Seq2SeqTrainer, changed where it is wrong for Whisper: inputs, loss, order, evaluation, checkpoints."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Seq2SeqTrainer

from whisper_train.audio import LogMel
from whisper_train.data.dataset import shielded
from whisper_train.data.order import ClipOrder
from whisper_train.errors import RunFailed
from whisper_train.model import QUANTIZATION_FILE
from whisper_train.paths import write_json
from whisper_train.training.checkpoints import INCOMPLETE, finish_checkpoint, remove_old
from whisper_train.training.distillation import Teacher
from whisper_train.training.layer_rates import split_by_layer
from whisper_train.training.loss import Loss
from whisper_train.training.meter import Meter
from whisper_train.training.window import count_samples, whole_window

LEAST_DROPPED = 20  # clips; fewer say nothing about a share


class JobTrainer(Seq2SeqTrainer):
    """What every job's training has: its order, its measure, its checkpoints, its meter."""

    def __init__(
        self,
        *,
        processor: Any,
        order: ClipOrder,
        measure: Callable[[Any], dict[str, float]],
        keep_checkpoints: int | None,
        keep_best: bool,
        checkpoint_facts: dict[str, Any],
        loss: Callable[..., torch.Tensor],
        meter: Meter,
        quantization: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(compute_loss_func=loss, **options)
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.processor = processor  # or a tokenizer: what is saved beside the weights
        self.order = order
        self.measure = measure
        self.keep_checkpoints = keep_checkpoints
        self.keep_best = keep_best
        self.checkpoint_facts = checkpoint_facts
        self.heard = 0  # clips of this session and rank
        self.meter = meter
        self.quantization = quantization  # what quantization.json says of a checkpoint; None: there is none
        self.writing_checkpoint = False

    def _get_train_sampler(self, train_dataset: Any = None) -> ClipOrder:
        return self.order

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        loader.base_dataloader.multiprocessing_context = shielded(self.args.dataloader_num_workers)
        loader.device = None  # _prepare_inputs copies them: accelerate would wait for the device at every batch
        return loader

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of one step, with what they hold and the time they took counted."""
        batches, items = super().get_batch_samples(self.meter.waiting(epoch_iterator), num_batches, device)
        for batch in batches:
            self.heard += batch["counts"].clips
            self.meter.count(batch["counts"])
        return batches, items

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Transformers would estimate them from token ids, which a batch of waveforms has not; the meter counts."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the steps since the last log took in and cost, on all ranks."""
        if "loss" in logs:
            self.settle()
            logs.update(self.meter.report())
            self.check_data()
        super().log(logs, start_time)

    def check_data(self) -> None:
        """Raises RunFailed where too much of the data turns out unusable; every rank calls it."""

    def seeing_all(self) -> AbstractContextManager[None]:
        """Within the block the model sees as much as it will when it is used."""
        return nullcontext()

    def settle(self) -> None:
        self.meter.settle(self.accelerator.reduce, self.args.world_size, self.args.device)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Measures the model on the first eval set; reports eval_ and the name of each measure."""
        was_training = self.model.training
        self.model.eval()
        with self.meter.paused(), self.seeing_all():
            metrics = {f"eval_{name}": value for name, value in self.measure(self).items()}
        self.model.train(was_training)
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether this evaluation is the best so far; one that is gets a checkpoint, whatever save_steps says."""
        better = bool(super()._determine_best_metric(metrics, trial))
        if better and self.keep_best:
            self.control.should_save = True
        return better

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(str(self.args.output_dir))
        return str(folder / INCOMPLETE if self.writing_checkpoint else folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes a checkpoint, which is no training, with all that was trained until then in the totals."""
        self.settle()
        with self.meter.paused():
            self.write_checkpoint(model, trial)

    def write_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes a checkpoint aside, completely, then gives it its name; then removes those no longer needed."""
        folder = Path(str(self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # what a killed run was writing, perhaps on another number of ranks
            shutil.rmtree(folder / INCOMPLETE, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.writing_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.writing_checkpoint = False
        if self.args.should_save:
            self.processor.save_pretrained(folder / INCOMPLETE / name)
            if self.quantization is not None:
                write_json(folder / INCOMPLETE / name / QUANTIZATION_FILE, self.quantization)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            finish_checkpoint(folder / INCOMPLETE / name, folder / name, self.checkpoint_facts)
            best = self.state.best_global_step if self.keep_best else None
            remove_old(folder, keep=self.keep_checkpoints, best_step=best)
        self.accelerator.wait_for_everyone()


class WhisperTrainer(JobTrainer):
    """Trains on batches of waveforms. Holds what transformers' trainer has no place for."""

    def __init__(
        self,
        *,
        dropped_file: Path,
        max_dropped_fraction: float,
        layer_decay: float | None,
        loss: Loss,
        window_positions: int | None,
        teacher: Teacher | None = None,
        **options: Any,
    ) -> None:
        super().__init__(loss=loss, **options)
        self.dropped_file = dropped_file
        self.max_dropped_fraction = max_dropped_fraction
        self.layer_decay = layer_decay
        self.dropped = 0  # clips of this session and rank
        self.window_positions = window_positions  # that the encoder sees in training; None: all
        self.teacher = teacher
        self.log_mel = LogMel(self.processor.feature_extractor, self.args.device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Waveforms to log-mel features on the training device, from float32 audio whatever the precision."""
        inputs = dict(inputs)
        del inputs["counts"]
        self.note_dropped(inputs.pop("dropped", []))
        device = self.args.device
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
        samples, waveforms = inputs.pop("samples"), inputs.pop("waveforms")
        hop_length = self.processor.feature_extractor.hop_length
        short = self.model.training and self.window_positions
        features = self.log_mel(waveforms, count_samples(short, hop_length) if short else None)
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
        return whole_window(self.model, self.window_positions)

    def create_optimizer(self, model: Any = None) -> Any:
        """Transformers' optimizer, with a learning rate a layer where the job asks for it."""
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new and self.layer_decay is not None:
            split_by_layer(optimizer, model or self.model, self.layer_decay)
        return optimizer
