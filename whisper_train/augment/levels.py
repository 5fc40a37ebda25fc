"""How loud a waveform is, and how loud it may be."""

import numpy as np

from whisper_train.audio import Waveform

LEAST_MEAN_POWER = 1e-12  # full scale 1: below -120 dB there is nothing that could be made louder


def mean_power(waveform: Waveform) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


def loop_to(waveform: Waveform, samples: int, chance: np.random.Generator) -> Waveform:
    """So many samples from a place that chance gives, beginning again where the waveform ends."""
    start = int(chance.integers(max(len(waveform) - samples, 0) + 1 if len(waveform) > samples else len(waveform)))
    return np.resize(np.roll(waveform, -start) if len(waveform) <= samples else waveform[start:], samples)


def within_full_scale(waveform: Waveform) -> Waveform:
    """As it is, or so much quieter that nothing is over full scale (1.0) and cut off there."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return (waveform / peak if peak > 1.0 else waveform).astype(np.float32, copy=False)


def of_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut, or filled up with silence, at its end."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
