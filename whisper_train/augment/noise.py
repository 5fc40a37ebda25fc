"""Noise behind the speech: made here, of other clips, or from recordings, mixed at what ratio is asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import LEAST_MEAN_POWER, loop_to, mean_power
from whisper_train.errors import UserError

Hear = Callable[[Waveform], Waveform]  # what of a sound reaches the model's ear, as through a telephone
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


def add_noise(waveform: Waveform, noise: Waveform, snr_db: tuple[float, float], draws: Draws, hear: Hear) -> Waveform:
    """Both (samples,) mixed so that, as heard, the mean power of the speech is so many decibels over the noise's."""
    wanted = draws.within("snr_db", snr_db)
    speech_power, noise_power = mean_power(hear(waveform)), mean_power(hear(noise))
    if min(speech_power, noise_power) < LEAST_MEAN_POWER:
        return waveform
    return waveform + noise * np.float32(np.sqrt(speech_power / noise_power / 10 ** (wanted / 10)))


def white_noise(samples: int, chance: np.random.Generator) -> Waveform:
    """As loud at every frequency."""
    return chance.standard_normal(samples, np.float32)


def pink_noise(samples: int, chance: np.random.Generator) -> Waveform:
    """3 dB quieter with each octave, from 20 Hz on: nearer to what rooms and streets hold."""
    length = max(samples, SAMPLE_RATE // 20)
    spectrum = np.fft.rfft(chance.standard_normal(length, np.float32))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), 20.0))
    return np.fft.irfft(spectrum, length)[:samples].astype(np.float32)


def babble(voices: list[Waveform], samples: int, chance: np.random.Generator) -> Waveform:
    """Several voices at once, each as loud as another."""
    mixed = np.zeros(samples, np.float32)
    for voice in voices:
        power = mean_power(voice)
        if power >= LEAST_MEAN_POWER:
            mixed += loop_to(voice, samples, chance) / np.float32(np.sqrt(power))
    return mixed


def find_recordings(folder: str, key: str) -> list[Path]:
    """The audio files below `folder`, in the order of their names; UserError, naming `key`, when there is none."""
    import soundfile

    place = Path(folder)
    if not place.is_dir():
        raise UserError(f"{key}: {folder}: no such folder; its path is relative to the job file")
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{key}: {folder}: holds no recording; put {', '.join(sorted(AUDIO_SUFFIXES))} files there")
    for path in files:
        try:
            frames = soundfile.info(path).frames
        except (soundfile.LibsndfileError, OSError) as error:
            raise UserError(f"{key}: {path}: cannot be read ({error}); remove or replace it") from error
        if not frames:
            raise UserError(f"{key}: {path}: holds no samples; remove it")
    return files


def read_crop(path: Path, samples: int, chance: np.random.Generator) -> Waveform:
    """So many samples of a recording at 16 kHz, from a place that chance gives; a short one is looped."""
    import soundfile
    import soxr

    with soundfile.SoundFile(path) as file:
        wanted = -(-samples * file.samplerate // SAMPLE_RATE) + 1
        file.seek(int(chance.integers(max(file.frames - wanted, 0) + 1)))
        part = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        rate = file.samplerate
    return loop_to(np.asarray(soxr.resample(part, rate, SAMPLE_RATE), np.float32), samples, chance)
