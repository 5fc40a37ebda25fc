"""Effects on the voice and at the microphone: speed, pitch, gain, clipping; and packets lost on the line.

Each takes a waveform of shape (samples,) at 16 kHz and returns a new one of the same length (speed: of another).
"""

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import of_length
from whisper_train.job_augment import Clipping, Dropouts, Gain, Pitch, Speed


def change_speed(waveform: Waveform, settings: Speed, draws: Draws, max_seconds: float | None) -> Waveform:
    """Resampled, so that pitch and tempo change together (Ko et al. 2015); never longer than `max_seconds`."""
    import soxr

    factor = draws.within("factor", settings.factor)
    if max_seconds is not None:
        most = int(max_seconds * SAMPLE_RATE)
        factor = draws.keep("factor", max(factor, min(1.0, len(waveform) / most)))
        waveform = waveform[: max(most, len(waveform))]
    changed = soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE)
    if not len(changed):
        return waveform
    return changed if max_seconds is None else changed[: max(most, min(len(waveform), most))]


def change_pitch(waveform: Waveform, settings: Pitch, draws: Draws) -> Waveform:
    """Another pitch at the same speed (Rubber Band)."""
    from pedalboard import PitchShift

    semitones = draws.within("semitones", settings.semitones)
    return of_length(PitchShift(semitones=semitones)(waveform, SAMPLE_RATE), len(waveform))


def change_gain(waveform: Waveform, settings: Gain, draws: Draws) -> Waveform:
    """Louder or quieter, but nothing over full scale: that is what clipping is for."""
    from pedalboard import Gain as LinearGain

    decibels = draws.within("decibels", settings.decibels)
    if peak := float(np.abs(waveform).max()):
        decibels = draws.keep("decibels", min(decibels, max(0.0, -20 * np.log10(peak))))
    return LinearGain(gain_db=decibels)(waveform, SAMPLE_RATE)


def clip_peaks(waveform: Waveform, settings: Clipping, draws: Draws) -> Waveform:
    """Amplified until the loudest sample is so far over full scale, and cut off there."""
    decibels = draws.within("decibels", settings.decibels)
    peak = float(np.abs(waveform).max())
    if peak == 0.0:
        return waveform
    return np.clip(waveform * np.float32(10 ** (decibels / 20) / peak), -1.0, 1.0)


def drop_out(waveform: Waveform, settings: Dropouts, draws: Draws) -> Waveform:
    """Silence in place of lost packets, until the drawn share of the clip is lost."""
    lost = draws.within("share", settings.share) * len(waveform)
    changed = waveform.copy()
    while lost >= 1.0:
        drawn = draws.chance.uniform(*settings.milliseconds) * SAMPLE_RATE / 1000
        length = max(1, round(min(drawn, lost)))
        start = int(draws.chance.integers(len(waveform) - length + 1))
        changed[start : start + length] = 0.0
        lost -= length
    return changed
