"""When the steps of a trial ended, and when it has had enough of them."""

import time
from typing import Any

import torch
from transformers import TrainerCallback

from whisper_train.training.signals import on_any_rank


class StepClock(TrainerCallback):
    """Notes in `times` when each step ended, in seconds; ends the training after `seconds`, and two steps at least."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        late = len(self.times) > 1 and self.times[-1] - self.times[0] > self.seconds
        control.should_training_stop |= on_any_rank(late, args)
        return control
