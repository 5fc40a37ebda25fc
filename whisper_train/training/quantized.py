"""What a quantization-aware training adds to a trainer: fake quantizers, when they switch on, and a teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_quantization import Quantization
from whisper_train.model import load_model
from whisper_train.quantization.attach import attach, check_attached
from whisper_train.quantization.layers import Quantized, Switch
from whisper_train.quantization.saved import describe
from whisper_train.training.distillation import Teacher


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantizing:
    """The quantization of a run: what switches it on in training, and what quantization.json says of a checkpoint."""

    asked: Quantization
    switch: Switch
    facts: dict[str, Any]


def quantize(model: Any, job: Job, *, on: bool = False) -> Quantizing | None:
    """Puts the fake quantizers that `job` asks for into `model`; unless `on`, training switches them on."""
    if job.quantization is None:
        return None
    switch = Switch(on=on)
    attached = attach(model, job.quantization, switch)
    return Quantizing(
        asked=job.quantization, switch=switch, facts=describe(model, job.quantization, attached, rounded=False)
    )


def make_teacher(job: Job, base: str, dtype: torch.dtype, device: Any) -> Teacher | None:
    """The unquantized base, where `job` distils from it."""
    if job.quantization is None or job.quantization.distillation is None:
        return None
    model = load_model(base, revision=job.base_revision).to(device=device, dtype=dtype)
    return Teacher(model, job.quantization.distillation)


def first_step(start: float, steps: int) -> int:
    """How many of `steps` pass before rounding begins; `start` is a number of them, or a share below 1."""
    return int(start) if start >= 1 else int(start * steps)


def summary(model: Any, asked: Quantization) -> str:
    """What is rounded to what, for the log."""
    rounded = {id(module.weight): module.weight.numel() for module in model.modules() if isinstance(module, Quantized)}
    share = sum(rounded.values()) / sum(parameter.numel() for parameter in model.parameters())
    groups = f"groups of {asked.group_size}" if asked.group_size else "rows"
    inputs = "inputs rounded to 8 bits" if asked.activations else "inputs stay float"
    what = f"{len(rounded)} matrices, {share:.1%} of all parameters"
    return f"{asked.scheme} in {groups} for {asked.target}: {what}, {inputs}"


class QuantizationCallback(TrainerCallback):
    """Proves before the first step that everything is rounded that was to be, and switches rounding on in its time.

    It goes by the step alone, so a resumed run needs to know nothing of the session before.
    """

    def __init__(self, quantizing: Quantizing, say: Callable[[str], None]) -> None:
        self.quantizing = quantizing
        self.say = say

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
        asked = self.quantizing.asked
        start = first_step(asked.start_step, state.max_steps)
        if start >= state.max_steps:
            raise UserError(
                f"quantization.start_step: {asked.start_step:g}: the run has {state.max_steps} steps, so nothing would"
                " be trained quantized; lower it"
            )
        plain = getattr(model, "module", model)  # behind DDP or DeepSpeed
        check_attached(plain, asked)
        when = f"from step {start + 1:,} on" if start else "from the first step on"
        self.say(f"quantization: {summary(plain, asked)}; {when}")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        on = state.global_step >= first_step(self.quantizing.asked.start_step, state.max_steps)
        if on and not self.quantizing.switch.on and state.global_step:
            self.say(f"step {state.global_step + 1:,}: training rounds from here on")
        self.quantizing.switch.on = on
