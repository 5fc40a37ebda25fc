"""Training on a part of the encoder's window: of its positions the first, with their own entries of the table."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from whisper_train.audio import SAMPLE_RATE

FRAMES_PER_POSITION = 2  # the stride of Whisper's convolutions


def count_positions(seconds: float, hop_length: int) -> int:
    """Encoder positions for `seconds` of audio, the last one perhaps in part."""
    return math.ceil(round(seconds * SAMPLE_RATE) / (FRAMES_PER_POSITION * hop_length))


def count_samples(positions: int, hop_length: int) -> int:
    return positions * FRAMES_PER_POSITION * hop_length


def see_positions(model: Any, positions: int) -> None:
    """Makes the encoder of `model`, a Whisper or one with adapters, take windows of so many positions.

    Transformers asks the encoder's configuration how long its input must be, and its table for how many positions it
    has; the weights and the model's own configuration, which is saved, stay whole.
    """
    encoder = model.get_encoder()
    encoder.config = copy.copy(encoder.config)
    encoder.config.max_source_positions = positions
    encoder.embed_positions.num_embeddings = positions


@contextmanager
def whole_window(model: Any, positions: int | None) -> Iterator[None]:
    """Within the block the encoder takes its whole window, afterwards `positions` again; None: it does anyway."""
    if positions is None:
        yield
        return
    see_positions(model, model.config.max_source_positions)
    try:
        yield
    finally:
        see_positions(model, positions)
