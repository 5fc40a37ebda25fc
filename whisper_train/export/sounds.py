"""What a conversion is verified on: recordings that are given, else sounds that are made here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.audio import SAMPLE_RATE, LogMel, Waveform, decode
from whisper_train.errors import UserError

MADE = 6  # clips
SYLLABLE_SECONDS = 0.18


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One window of sound, as log-mel (bins, frames); its language and what is said in it, where that is known."""

    name: str
    features: NDArray[np.float32]
    language: str | None = None
    text: str | None = None


def make_clips(extractor: Any, files: Sequence[Path]) -> list[Clip]:
    """The first window of each of `files`, else sounds that are made; raises UserError for what is no audio."""
    window = extractor.n_samples
    if files:
        sounds = [(path.name, read(path)) for path in files]
    else:
        sounds = [(f"babble {number}", babble(number, window / SAMPLE_RATE)) for number in range(MADE)]
    return [Clip(name=name, features=features_of(extractor, sound[:window])) for name, sound in sounds]


def read(path: Path) -> Waveform:
    try:
        return decode(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}; name an audio file") from error


def features_of(extractor: Any, sound: Waveform) -> NDArray[np.float32]:
    """Log-mel (bins, frames) of a recording, at least one window long."""
    import torch

    return LogMel(extractor, torch.device("cpu"))(torch.from_numpy(sound)[None])[0].numpy()


def babble(number: int, window_seconds: float) -> Waveform:
    """Something like speech, always the same for a `number`: a buzz in syllables, through formants, with pauses."""
    chance = np.random.default_rng(number)
    seconds = window_seconds * (0.3 + 0.7 * chance.random())
    count = int(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    syllables = max(1, round(seconds / SYLLABLE_SECONDS))
    at = np.minimum((time / SYLLABLE_SECONDS).astype(int), syllables - 1)
    pitch = np.cumsum(chance.uniform(90, 220, syllables)[at]) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * pitch * harmonic) / harmonic for harmonic in range(1, 12))
    formant = np.cumsum(chance.uniform(400, 2800, syllables)[at]) / SAMPLE_RATE
    loud = (chance.random(syllables) > 0.2)[at] * np.sin(np.pi * (time / SYLLABLE_SECONDS % 1)) ** 2
    wave = loud * buzz * (1 + np.sin(2 * np.pi * formant)) + 0.003 * chance.standard_normal(count)
    return np.asarray(0.2 * wave / np.abs(wave).max(), np.float32)
