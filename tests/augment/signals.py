"""Speech to change, an index of it, and how loud it is where."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.tiny import SPEECH
from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.augmenter import Augmenter, augmenter_for
from whisper_train.data.index import Index, write_index
from whisper_train.data.sources import read_source
from whisper_train.job_augment import Augment
from whisper_train.job_data import Source


def make_speech(folder: Path, clips: int) -> Index:
    """An index of sentences by espeak-ng, of two voices in turns."""
    source = Source.model_validate({"synthetic": {**SPEECH, "clips": clips}})
    rows = [
        {"id": clip.id, "audio": clip.audio, "text": clip.text, "language": "de", "speaker": clip.speaker}
        | {"row_group": -1, "row": -1, "source": 0, "seconds": 1.0, "audio_hash": number + 1}
        for number, clip in enumerate(read_source(source, 0, language="de", cache=folder))
    ]
    write_index(folder / "clips.arrow", rows)
    return Index(folder / "clips.arrow", cache=None)


def read(index: Index, position: int) -> Waveform:
    return np.asarray(soundfile.read(index[position]["audio"], dtype="float32")[0])


def speech_like(seconds: float, seed: int) -> Waveform:
    """Harmonics of a voice that swells and fades four times a second, and some hiss."""
    chance = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = chance.uniform(90, 250)
    tones = sum(np.sin(2 * np.pi * pitch * number * time + number) / number for number in range(1, 30))
    swell = 0.5 - 0.45 * np.cos(2 * np.pi * 4 * time + chance.uniform(0, 6))
    return np.asarray(0.2 * swell * tones + 0.01 * chance.standard_normal(len(time)), np.float32)


def augmenter(index: Index, seed: int = 1, /, **effects: dict[str, Any]) -> Augmenter:
    """What applies `effects` to every clip of the index."""
    made = augmenter_for([Augment.model_validate(effects)], index, [None], seed)
    assert made
    return made


def band_power(waveform: Waveform, low: float, high: float) -> float:
    """The energy between two frequencies, Hz."""
    spectrum = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    return float(spectrum[(hertz >= low) & (hertz <= high)].sum())


def in_band(waveform: Waveform, low: float, high: float) -> Waveform:
    """What lies between two frequencies, by removing all else from the spectrum: no filter of ours."""
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    return np.asarray(np.fft.irfft(np.where((hertz >= low) & (hertz <= high), spectrum, 0), len(waveform)), np.float32)


def decibels(power: float, reference: float) -> float:
    return float(10 * np.log10(power / reference))


def lag(changed: Waveform, original: Waveform) -> int:
    """By how many samples `changed` comes later."""
    from scipy.signal import correlate

    return int(np.abs(correlate(changed, original, method="fft")).argmax()) - len(original) + 1
