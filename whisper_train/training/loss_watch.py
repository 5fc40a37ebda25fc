"""A loss that is no number, or that has exploded, ends the step before anything of it is saved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.sudden_ends import BadLoss

EXPLODED = 3.0  # times the lowest mean loss that was logged before


def check_finite(value: Any, what: str, step: int) -> None:
    """Raises BadLoss when `value`, a number or a tensor of one, is NaN or infinite."""
    number = float(value)
    if not math.isfinite(number):
        raise BadLoss(f"step {step:,}: the {what} is {number}", step)


def check_explosion(loss: float, history: Sequence[Mapping[str, Any]], vocabulary_size: int, step: int) -> None:
    """Raises BadLoss when a logged mean `loss` is worse than guessing, and three times the least of `history`.

    Guessing takes every token for equally likely: the logarithm of their number, in nats.
    """
    before = [entry["loss"] for entry in history if "loss" in entry]
    if before and loss > math.log(vocabulary_size) and loss > EXPLODED * min(before):
        raise BadLoss(f"step {step:,}: the loss has exploded: {loss:.4g}, after {min(before):.4g} at best", step)
