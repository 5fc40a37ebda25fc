"""A step that does not fit into memory: the one before it is saved, and the run left, to go on in smaller parts."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainerCallback

from whisper_train.data.workers import hush, kill_workers
from whisper_train.out_of_memory import OutOfMemory, describe, is_out_of_memory
from whisper_train.resident import free_memory
from whisper_train.sudden_ends import LostWorker
from whisper_train.training.checkpoints import is_complete
from whisper_train.training.lost_workers import describe_lost


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomState:
    """Where the generators stood that a checkpoint holds; of cards, this rank's own."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def now(cls) -> "RandomState":
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return cls(python=random.getstate(), numpy=np.random.get_state(), cpu=torch.get_rng_state(), cuda=cuda)

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


class StepWatch(TrainerCallback):
    """Whether a step is on its way, and whether it has begun to change the weights.

    DeepSpeed takes the optimizer's step inside the backward pass, so only the optimizer itself can tell.
    """

    def __init__(self) -> None:
        self.in_step = False
        self.updating = False
        self.random_state: RandomState | None = None  # at the end of the last whole step

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block the optimizer of this process tells when it begins to change the weights."""
        handle = register_optimizer_step_pre_hook(self.note_update)
        try:
            yield
        finally:
            handle.remove()

    def note_update(self, *args: Any) -> None:
        self.updating = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.in_step, self.updating = True, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.in_step = False
        self.random_state = RandomState.now()


def train_steps(trainer: Any, watch: StepWatch, checkpoint: Path | None, say: Callable[[str], None]) -> None:
    """Trains from `checkpoint`; raises OutOfMemory for a step that does not fit, once the last whole one is saved.

    The last step cannot be saved with several ranks, of which the others wait in a collective operation, nor once the
    step has begun to change the weights: then the newest checkpoint is what there is to go on from. Raises LostWorker
    where a process that reads the data has died or hangs.
    """
    try:
        with watch.watching():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return
    except (RuntimeError, MemoryError, EOFError, OSError) as error:
        if trainer.args.dataloader_num_workers:
            hush()
        if lost := describe_lost(error, trainer):
            kill_workers()
            raise LostWorker(lost, trainer.state.global_step + 1) from None
        if not (watch.in_step and is_out_of_memory(error)):
            raise
        told = describe(error)
    # Out here the error is gone, and with it the frames that held the activations.
    free_memory()
    if trainer.args.world_size == 1 and not watch.updating:
        save_last_step(trainer, watch, say)
    if trainer.args.world_size == 1:
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # closes what they write
    step = trainer.state.global_step + 1
    raise OutOfMemory(f"step {step:,} ran out of memory: {told}", step)


def save_last_step(trainer: Any, watch: StepWatch, say: Callable[[str], None]) -> None:
    """Saves the last whole step as it was when it ended, unless it is on the disk, or is none of this session."""
    step = trainer.state.global_step
    if watch.random_state is None or is_complete(Path(trainer.args.output_dir) / f"checkpoint-{step}"):
        return
    watch.random_state.restore()
    try:
        trainer._save_checkpoint(trainer.model, None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        say(f"step {step:,} cannot be saved for lack of memory: {describe(error)}")
