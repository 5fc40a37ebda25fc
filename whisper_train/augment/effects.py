"""Effects on the voice and at the microphone: speed, pitch, gain, clipping; and packets lost on the line.

Each takes a waveform of shape (samples,) at 16 kHz and returns a new one of the same length (speed: of another).
"""

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import of_length
from whisper_train.job_augment import Clipping, Dropouts, Gain, Pitch, Speed


def change_speed(waveform: Waveform, settings: Speed, draws: Draws, max_seconds: float | None) -> Waveform:
    """Resampled, so that pitch and tempo change together (Ko et al. 2015); not beyond `max_seconds`."""
    import soxr

    samples = len(waveform)
    most = samples if max_seconds is None else max(samples, int(max_seconds * SAMPLE_RATE))
    slowest = 0.0 if max_seconds is None else samples / most
    factor = draws.keep("factor", max(draws.within("factor", settings.factor), slowest))
    changed = np.asarray(soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE), np.float32)
    if not len(changed):  # a few samples made faster
        return waveform
    return changed if max_seconds is None else changed[:most]


def change_pitch(waveform: Waveform, settings: Pitch, draws: Draws) -> Waveform:
    """Another pitch at the same speed (Rubber Band)."""
    from pedalboard import PitchShift

    semitones = draws.within("semitones", settings.semitones)
    return of_length(PitchShift(semitones=semitones)(waveform, SAMPLE_RATE), len(waveform))


def change_gain(waveform: Waveform, settings: Gain, draws: Draws) -> Waveform:
    """Louder or quieter, but nothing over full scale: that is what clipping is for."""
    decibels = draws.within("decibels", settings.decibels)
    if peak := float(np.abs(waveform).max()):
        decibels = draws.keep("decibels", min(decibels, max(0.0, -20 * float(np.log10(peak)))))
    return waveform * amplitude(decibels)


def clip_peaks(waveform: Waveform, settings: Clipping, draws: Draws) -> Waveform:
    """Amplified until the loudest sample is so far over full scale, and cut off there."""
    loudest = amplitude(draws.within("decibels", settings.decibels))
    peak = np.abs(waveform).max()
    if peak == 0:
        return waveform
    return np.asarray(np.clip(waveform * (loudest / peak), -1.0, 1.0), np.float32)


def drop_out(waveform: Waveform, settings: Dropouts, draws: Draws) -> Waveform:
    """Silence in place of lost packets, until the drawn share of the clip is lost."""
    lost = round(draws.within("share", settings.share) * len(waveform))
    changed = waveform.copy()
    while lost > 0:
        drawn = round(draws.chance.uniform(*settings.milliseconds) * SAMPLE_RATE / 1000)
        length = min(drawn, lost)
        start = int(draws.chance.integers(len(waveform) - length + 1))
        changed[start : start + length] = 0.0
        lost -= length
    return changed


def amplitude(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))
