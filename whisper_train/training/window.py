"""Training on a part of the encoder's window: of its positions the first, with their own entries of the table."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from whisper_train.audio import SAMPLE_RATE
from whisper_train.job import Job

FRAMES_PER_POSITION = 2  # the stride of Whisper's convolutions
COMPILES = ("torch_compile", "torch_compile_backend", "torch_compile_mode")  # any of them asks for it
STEP = 25  # positions, half a second of Whisper's: windows are fitted in such steps, so that a device meets few shapes


def count_positions(seconds: float, hop_length: int) -> int:
    """Encoder positions for `seconds` of audio, the last one perhaps in part."""
    return math.ceil(round(seconds * SAMPLE_RATE) / (FRAMES_PER_POSITION * hop_length))


def count_samples(positions: int, hop_length: int) -> int:
    return positions * FRAMES_PER_POSITION * hop_length


def is_fitted(job: Job) -> bool:
    """Whether windows are fitted to their batch: not where clips are joined, nor where each shape is compiled."""
    compiled = any(job.training.get(key) for key in COMPILES)
    return bool(job.data.window_seconds and job.data.windows is None and not compiled)


def make_window(job: Job, model: Any, seconds: float, hop_length: int) -> "EncoderWindow":
    """The window of at most `seconds` that `job` asks for."""
    masks = model.config.mask_time_length if model.config.apply_spec_augment else 1  # frames
    least = -(-masks // FRAMES_PER_POSITION)
    return EncoderWindow(
        most=count_positions(seconds, hop_length), hop_length=hop_length, fitted=is_fitted(job), least=least
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderWindow:
    """How many positions the encoder sees in training: `most`, or where windows are `fitted`, what a batch needs."""

    most: int
    hop_length: int
    fitted: bool = False
    least: int = 1  # what SpecAugment's masks over time need

    def positions(self, seconds: float) -> int:
        """For a batch that needs so many `seconds`."""
        if not self.fitted:
            return self.most
        needed = -(-count_positions(seconds, self.hop_length) // STEP) * STEP
        return min(self.most, max(self.least, needed, STEP))

    def samples(self, seconds: float) -> int:
        return count_samples(self.positions(seconds), self.hop_length)


def see_positions(model: Any, positions: int) -> None:
    """Makes the encoder of `model`, a Whisper or one with adapters, take windows of so many positions.

    Transformers asks the encoder's configuration how long its input must be, and its table for how many positions it
    has; the weights and the model's own configuration, which is saved, stay whole.
    """
    encoder = model.get_encoder()
    if encoder.config.max_source_positions == positions == encoder.embed_positions.num_embeddings:
        return
    encoder.config = copy.copy(encoder.config)
    encoder.config.max_source_positions = positions
    encoder.embed_positions.num_embeddings = positions


def see_all_of(model: Any, features: Any) -> None:
    """Makes the encoder of `model` take windows as long as `features` (windows, mel bins, frames)."""
    see_positions(model, features.shape[-1] // FRAMES_PER_POSITION)


@contextmanager
def whole_window(model: Any) -> Iterator[None]:
    """Within the block the encoder takes its whole window, afterwards so many positions as before."""
    positions = model.get_encoder().config.max_source_positions
    see_positions(model, model.config.max_source_positions)
    try:
        yield
    finally:
        see_positions(model, positions)
