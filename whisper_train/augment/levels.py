"""How loud a waveform is and may be, and how long."""

import numpy as np

from whisper_train.audio import Waveform

LEAST_MEAN_POWER = 1e-12  # full scale 1: below -120 dB there is nothing that could be made louder


def mean_power(waveform: Waveform) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


def within_full_scale(waveform: Waveform) -> Waveform:
    """As it is, or so much quieter that nothing is over full scale (1.0) and cut off there."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return waveform / np.float32(peak) if peak > 1.0 else waveform


def of_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or filled up with silence, at its end."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def crop_or_loop(waveform: Waveform, samples: int, chance: np.random.Generator) -> Waveform:
    """So many samples from a place that chance gives; a shorter waveform begins again where it ends."""
    if len(waveform) > samples:
        start = int(chance.integers(len(waveform) - samples + 1))
        return waveform[start : start + samples]
    return np.resize(np.roll(waveform, -int(chance.integers(len(waveform)))), samples)
