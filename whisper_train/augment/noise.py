"""Noise behind the speech: made here, of other clips, or from recordings, mixed at the ratio that is asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import LEAST_MEAN_POWER, crop_or_loop, mean_power
from whisper_train.augment.settings import AUDIO_SUFFIXES, list_recordings
from whisper_train.errors import UserError

Hear = Callable[[Waveform], Waveform]  # what of a sound reaches the model, as through a telephone
LOWEST_PINK_HERTZ = 20.0  # below it pink noise gets no louder; a Whisper hears nothing of it anyway


def add_noise(waveform: Waveform, noise: Waveform, snr_db: tuple[float, float], draws: Draws, hear: Hear) -> Waveform:
    """Both (samples,) mixed so that, as heard, the mean power of the speech is so many decibels over the noise's.

    Silence stays as it is: there is nothing that noise could be compared with.
    """
    ratio = 10 ** (draws.within("snr_db", snr_db) / 10)
    speech_power, noise_power = mean_power(hear(waveform)), mean_power(hear(noise))
    if min(speech_power, noise_power) < LEAST_MEAN_POWER:
        return waveform
    return waveform + noise * np.float32(np.sqrt(speech_power / noise_power / ratio))


def white_noise(samples: int, chance: np.random.Generator) -> Waveform:
    """As loud at every frequency."""
    return chance.standard_normal(samples, np.float32)


def pink_noise(samples: int, chance: np.random.Generator) -> Waveform:
    """3 dB quieter with each octave: nearer to what rooms and streets sound like."""
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    length = next_fast_len(max(samples, round(SAMPLE_RATE / LOWEST_PINK_HERTZ)), real=True)
    spectrum = rfft(chance.standard_normal(length, np.float32))
    spectrum /= np.sqrt(np.maximum(rfftfreq(length, 1 / SAMPLE_RATE), LOWEST_PINK_HERTZ))
    return np.asarray(irfft(spectrum, length)[:samples], np.float32)


def babble(voices: list[Waveform], samples: int, chance: np.random.Generator) -> Waveform:
    """Several voices at once, each as loud as another."""
    mixed = np.zeros(samples, np.float32)
    for voice in voices:
        power = mean_power(voice)
        if power >= LEAST_MEAN_POWER:
            mixed += crop_or_loop(voice, samples, chance) / np.float32(np.sqrt(power))
    return mixed


def find_recordings(folder: str, key: str) -> list[Path]:
    """The audio files below `folder`, in the order of their names; UserError, naming `key`, when there is none."""
    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"{key}: {folder}: no such folder; its path is relative to the job file")
    files = list_recordings(place)
    if not files:
        raise UserError(f"{key}: {folder}: holds no recording of noise ({', '.join(AUDIO_SUFFIXES)}); put some there")
    return files


def check_recordings(folder: str, key: str) -> None:
    """Raises UserError, naming `key`, when `folder` holds no recording or one that is none."""
    import soundfile

    for path in find_recordings(folder, key):
        try:
            frames = soundfile.info(path).frames
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{key}: {path}: cannot be read ({str(error).strip()}); remove or replace it") from error
        if frames < 1:
            raise UserError(f"{key}: {path}: holds no samples; remove or replace it")


def read_crop(path: Path, samples: int, chance: np.random.Generator) -> Waveform:
    """So many samples of a recording at 16 kHz, from a place that chance gives; a short one is looped."""
    import soundfile
    import soxr

    with soundfile.SoundFile(path) as file:
        frames = samples * file.samplerate // SAMPLE_RATE + 1
        file.seek(int(chance.integers(max(file.frames - frames, 0) + 1)))
        part = file.read(frames, dtype="float32", always_2d=True).mean(axis=1)
        rate = file.samplerate
    return crop_or_loop(np.asarray(soxr.resample(part, rate, SAMPLE_RATE), np.float32), samples, chance)
