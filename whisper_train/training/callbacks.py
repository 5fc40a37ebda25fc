"""What happens around the steps: signals, the order of an epoch, progress, TensorBoard."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from whisper_train.mirror import Mirror
from whisper_train.run_folder import RunFolder
from whisper_train.run_log import duration
from whisper_train.training.arguments import compute_dtype
from whisper_train.training.flops import matmul_rate
from whisper_train.training.meter import Meter
from whisper_train.training.signals import StopRequest, on_any_rank

SHORTEST_NOTICE = 30.0  # seconds that a rented machine gives before it goes: Azure and Google 30, Amazon 120
SHARES = ("wer", "cer", "macro_f1", "sentence_accuracy")  # measures that are told in percent


class StopCallback(TrainerCallback):
    """Ends training after the step in which any rank was asked to stop, with a checkpoint."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        asked = on_any_rank(self.request.asked, args)
        if state.global_step >= state.max_steps:
            control.should_save = True  # transformers' own end of training saves for one of its strategies only
        elif asked and not self.evaluation_due(args, state, control):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
        return control

    @staticmethod
    def evaluation_due(args: Any, state: Any, control: Any) -> bool:
        """Whether an evaluation follows this step: the stop then waits for the next, or a resumed run would lack it."""
        at_end_of_epoch = float(state.epoch).is_integer()
        return bool(control.should_evaluate or (args.eval_strategy == "epoch" and at_end_of_epoch))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.stopped:  # an epoch left in the middle is no epoch that ended
            control.should_evaluate = False
            control.should_save = False
        return control


class NoticeCallback(TrainerCallback):
    """Says once, before anybody asks, that leaving takes longer than `notice` seconds: a step and a checkpoint."""

    def __init__(self, say: Callable[[str], None], notice: float = SHORTEST_NOTICE) -> None:
        self.say = say
        self.notice = notice
        self.mark = self.step = 0.0
        self.told = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.mark = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self.step, self.mark = now - self.mark, now

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.mark = time.monotonic()  # one that is under way is left

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = time.monotonic() - self.mark
        if self.told or self.step + checkpoint <= self.notice:
            return
        self.told = True
        self.say(
            f"WARNING: leaving takes about {self.step + checkpoint:.0f} s (a step {self.step:.0f} s, a checkpoint"
            f" {checkpoint:.0f} s), and some rented machines give {self.notice:.0f} s: what was trained since the last"
            f" checkpoint is lost then. Make it little with training.save_steps (now {args.save_steps:g}), or write to"
            " a faster disk"
        )


class OwedEvaluationCallback(TrainerCallback):
    """Before the first step: the evaluation that the session before was asked to leave."""

    def __init__(self, evaluate: Callable[[], None]) -> None:
        self.evaluate = evaluate

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.evaluate()


class OrderCallback(TrainerCallback):
    """Tells the sampler where training is: accelerate's own set_epoch does not reach it behind a resumed loader."""

    def __init__(self, order: Any) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.go_on(state.global_step)


class SmallerStepsCallback(TrainerCallback):
    """After a rollback: what is left of the job's learning rate, where the checkpoint still has more of it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor  # of the rate that the checkpoint, or the job, has

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.factor == 1.0:
            return
        scheduler = kwargs["lr_scheduler"]
        while hasattr(scheduler, "scheduler"):  # accelerate's and DeepSpeed's wrappers
            scheduler = scheduler.scheduler
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * self.factor for rate in scheduler.base_lrs]
        for group in kwargs["optimizer"].param_groups:
            group["lr"] *= self.factor


class EarlyStopCallback(TrainerCallback):
    """Ends training after `patience` evaluations without a better one, counted from the log of evaluations.

    Transformers' own callback counts in memory and starts again from zero in a resumed run. `best` says which of the
    measured values is the best: the smallest, where they are errors.
    """

    def __init__(self, metric: str, patience: int | None, best: Callable[[list[float]], float] = min) -> None:
        self.key = f"eval_{metric.removeprefix('eval_')}"
        self.patience = patience
        self.best = best

    def is_over(self, state: Any) -> bool:
        values = [log[self.key] for log in state.log_history if self.key in log]
        return bool(values and self.patience and len(values) - 1 - values.index(self.best(values)) >= self.patience)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.is_over(state):
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A run killed after the evaluation that ended it does not train on: it leaves after one step."""
        if self.is_over(state):
            control.should_training_stop = True
        return control


class ProgressCallback(TrainerCallback):
    """A bar with the time left on a terminal, and a line for every log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.bar: Any = None
        self.started = time.monotonic()
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()
        self.first_step = state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        if any(f"eval_{name}" in logs for name in (*SHARES, "loss")):
            values = (
                f"{name.replace('_', ' ')} {logs[f'eval_{name}']:.2%}" for name in SHARES if f"eval_{name}" in logs
            )
            loss = [f"loss {logs['eval_loss']:.4f}"] if "eval_loss" in logs else []
            self.say(f"step {state.global_step:,}: evaluated: {', '.join([*values, *loss])}")
        elif "loss" in logs:
            done, total = state.global_step, state.max_steps
            spent = time.monotonic() - self.started
            left = spent / max(done - self.first_step, 1) * (total - done)
            self.say(
                f"step {done:,}/{total:,}  loss {logs['loss']:.4f}  grad {logs.get('grad_norm', 0):.2f}"
                f"  lr {logs['learning_rate']:.2e}  {taken_in(logs)}"
                f"  wait {logs['data_wait_share']:.0%}  mfu {logs['model_flops_utilization']:.0%}"
                f"  {duration(left)} left"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def taken_in(logs: dict[str, float]) -> str:
    """What the steps took in: clips and their audio, or the sentences of a job without audio."""
    if "audio_hours_per_hour" not in logs:
        return f"{rate(logs['clips_per_second'])} sentences/s  pad {logs['label_padding_share']:.0%}"
    return (
        f"{rate(logs['clips_per_second'])} clips/s  {rate(logs['audio_hours_per_hour'])} audio h/h"
        f"  pad {logs['padding_share']:.0%}"
    )


def rate(value: float) -> str:
    """Three digits or so: 0.4, 41.6, 416, 4,162."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


class ThroughputCallback(TrainerCallback):
    """Measures from the first step on, and leaves the totals in run.json with every checkpoint, the last among them."""

    def __init__(self, meter: Meter, folder: RunFolder) -> None:
        self.meter = meter
        self.folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Nothing else runs yet, reading processes neither: else the device would seem slower than it is."""
        self.meter.start(matmul_rate(args.device, compute_dtype(args)))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.folder.update(throughput=self.meter.total.report())


class MirrorCallback(TrainerCallback):
    """On the first rank: a copy of every checkpoint."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.mirror.ask()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.mirror.finish()


class TensorBoardCallback(TrainerCallback):
    """Writes every number that is logged as a TensorBoard event; a resumed run goes on where its checkpoint was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            purge = state.global_step + 1 if state.global_step else None
            self.writer = SummaryWriter(str(self.folder), purge_step=purge)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if self.writer is None:
            return
        for name, value in logs.items():
            if isinstance(value, (int, float)) and not name.startswith("train_"):
                tag = f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
                self.writer.add_scalar(tag, value, state.global_step)
        self.writer.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
