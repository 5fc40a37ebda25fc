"""Seq2SeqTrainer, changed where it is wrong for a job of any task: order, loss, evaluation, checkpoints, faults."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Seq2SeqTrainer

from whisper_train.data.order import ClipOrder
from whisper_train.data.workers import Patience, shielded
from whisper_train.model import QUANTIZATION_FILE
from whisper_train.paths import write_json
from whisper_train.training.callbacks import StopCallback
from whisper_train.training.checkpoints import INCOMPLETE, finish_checkpoint, remove_old
from whisper_train.training.disk_room import DiskRoom
from whisper_train.training.evaluate import EvaluationLeft
from whisper_train.training.loss_watch import check_explosion, check_finite
from whisper_train.training.meter import Meter


class JobTrainer(Seq2SeqTrainer):
    """What every job's training has: its order, its measure, its checkpoints, its meter, its way out of faults."""

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
        choices: int,
        quantization: dict[str, Any] | None = None,
        stop: StopCallback | None = None,
        room: DiskRoom | None = None,
        batch_timeout: int | None = None,
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
        self.choices = choices  # tokens or labels that a guess picks from
        self.quantization = quantization  # what quantization.json says of a checkpoint; None: there is none
        self.writing_checkpoint = False
        self.stop = stop
        self.room = room  # on the disk; None: not looked for
        self.patience = Patience(batch_timeout) if batch_timeout and self.args.dataloader_num_workers else None
        self.owes_evaluation = False  # of the last step: the run was asked to leave in it

    def asked(self) -> bool:
        """Whether this rank was asked to leave, where an evaluation can be left: a scheduler may live on its result."""
        return bool(self.stop and self.stop.request.asked and not hasattr(self.lr_scheduler, "num_bad_epochs"))

    def _get_train_sampler(self, train_dataset: Any = None) -> ClipOrder:
        return self.order

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        loader.base_dataloader.multiprocessing_context = shielded(self.args.dataloader_num_workers)
        loader.device = None  # _prepare_inputs copies them: accelerate would wait for the device at every batch
        return loader

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of one step, with what they hold and the time they took counted."""
        with self.patience or nullcontext():
            batches, items = super().get_batch_samples(self.meter.waiting(epoch_iterator), num_batches, device)
        for batch in batches:
            self.heard += batch["counts"].clips
            self.meter.count(batch["counts"])
        return batches, items

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """Transformers' own; raises BadLoss for a loss that is no number, of which nothing is saved.

        Nothing waits for the device here that would not a moment later: transformers looks at the same number.
        """
        loss: torch.Tensor = super().training_step(*args, **options)
        check_finite(loss, "loss", self.state.global_step + 1)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm before the weights change (with DeepSpeed: just after). In fp16 the scaler skips such steps."""
        norm = super()._get_grad_norm(model, grad_norm)
        if not self.args.fp16 and norm is not None:
            check_finite(norm, "norm of the gradients", self.state.global_step + 1)
        return norm

    def _run_epoch(self, **options: Any) -> None:
        """Nothing where a resumed run had come to its end before: transformers would take one step more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(**options)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Transformers would estimate them from token ids, which a batch of waveforms has not; the meter counts."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the steps since the last log took in and cost, on all ranks."""
        if "loss" in logs:
            self.settle()
            logs.update(self.meter.report())
            self.check_data()
            check_explosion(logs["loss"], self.state.log_history, self.choices, self.state.global_step)
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
        try:
            with self.meter.paused(), self.seeing_all():
                metrics = {f"eval_{name}": value for name, value in self.measure(self).items()}
        except EvaluationLeft:
            self.leave_without_evaluation()
            return {}
        finally:
            self.model.train(was_training)
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def leave_without_evaluation(self) -> None:
        """Ends training with a checkpoint that says what it owes: the next session evaluates first."""
        assert self.stop is not None
        self.owes_evaluation = self.stop.stopped = True
        self.control.should_evaluate = False
        self.control.should_save = self.control.should_training_stop = True

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether this evaluation is the best so far; one that is gets a checkpoint, whatever save_steps says."""
        if self.owes_evaluation:
            return True  # to be saved, and not known to be better
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
        """Writes a checkpoint where there is room, or waits for it; then removes those no longer needed."""
        folder = Path(str(self.args.output_dir))
        while True:
            if self.room is not None:
                self.room.wait(self.args)
            try:
                self.write_aside(folder, model, trial)
                break
            except Exception:
                if self.room is None or not self.room.is_spent():
                    raise
            shutil.rmtree(folder / INCOMPLETE, ignore_errors=True)
            self.room.filled_up(self.state.global_step, self.args.world_size)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            facts = {**self.checkpoint_facts, "owes_evaluation": self.owes_evaluation}
            name = f"checkpoint-{self.state.global_step}"
            finish_checkpoint(folder / INCOMPLETE / name, folder / name, facts)
            best = self.state.best_global_step if self.keep_best else None
            remove_old(folder, keep=self.keep_checkpoints, best_step=best)
        self.accelerator.wait_for_everyone()

    def write_aside(self, folder: Path, model: nn.Module, trial: Any) -> None:
        """Writes all files of a checkpoint where nothing takes them for one."""
        if self.args.should_save:  # what a killed run was writing, perhaps on another number of ranks
            shutil.rmtree(folder / INCOMPLETE, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.writing_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.writing_checkpoint = False
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            self.processor.save_pretrained(folder / INCOMPLETE / name)
            if self.quantization is not None:
                write_json(folder / INCOMPLETE / name / QUANTIZATION_FILE, self.quantization)

    def evaluate_first(self, checkpoint: Path) -> None:
        """What the session before had left: the evaluation of the step that it ended with, and its checkpoint."""
        self._load_rng_state(str(checkpoint))  # which the new checkpoint holds again
        self.control.should_evaluate = self.control.should_save = True
        self._maybe_log_save_evaluate(self._tr_loss, None, self.model_wrapped, None, 0.0, None, time.time())
