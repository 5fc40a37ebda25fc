"""Audio in: any file to 16 kHz mono, and the log-mel spectrogram that Whisper's encoder sees."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.paths import open_regular

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000  # Hz, what every Whisper model was trained on
SILENCE_PEAK = 1e-3  # full scale 1: a clip that never gets louder than -60 dB is silent
LEAST_POWER = 1e-10  # what silence counts as
LOUDEST = 2.0**31  # full scale of integers that were saved as float; the power of louder ones would be infinite
BLOCK_VALUES = 2**20  # decoded at once, whatever the number of channels: 4 MB

Waveform = NDArray[np.float32]


def decode(source: Path | bytes, max_seconds: float | None = None) -> Waveform:
    """Decodes WAV, FLAC, OGG, Opus or MP3, a file or its bytes, to a float32 waveform of shape (samples,).

    Channels are averaged and any rate is resampled to SAMPLE_RATE. Stops reading after `max_seconds`. Memory holds
    what is returned, twice, whatever rate and channels the file has or says it has.
    Raises ValueError saying what is wrong when the audio cannot be read, is empty or holds no finite numbers.
    """
    import soundfile

    try:
        with opened(source) as file:
            blocks = list(resampled(file, max_seconds))
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot be decoded ({error.error_string.strip().rstrip('.')})") from error
    except (OSError, RuntimeError, TypeError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().rstrip(".") or type(error).__name__
        raise ValueError(f"cannot be decoded ({reason})") from error
    waveform = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if not len(waveform):
        raise ValueError("holds no samples")
    return waveform


def in_memory(content: bytes) -> int:
    """A descriptor of a file that holds `content` and lies on no disk.

    soundfile reads bytes by callbacks, each of which prints a traceback where a header leads to before the beginning.
    """
    descriptor = os.memfd_create("audio", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextmanager
def opened(source: Path | bytes) -> Iterator[Any]:
    """The SoundFile of a regular file or of its bytes; the format is told by what is in it, never by the name."""
    import soundfile

    descriptor = in_memory(source) if isinstance(source, bytes) else open_regular(source)
    try:
        with soundfile.SoundFile(descriptor, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def resampled(file: Any, max_seconds: float | None) -> Iterator[Waveform]:
    """Yields an open SoundFile, no more than `max_seconds` of it, as mono at SAMPLE_RATE, a few MB at a time."""
    import soxr

    stream = None if file.samplerate == SAMPLE_RATE else soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1)
    left = math.inf if max_seconds is None else int(max_seconds * file.samplerate)
    frames = max(1, BLOCK_VALUES // file.channels)
    ended = False
    while not ended:
        samples = file.read(int(min(frames, left)), dtype="float32", always_2d=True)
        left -= len(samples)
        ended = len(samples) < frames or left <= 0
        with np.errstate(over="ignore"):  # that is told below
            mono = samples.mean(axis=1)
        if not np.isfinite(mono).all():
            raise ValueError("holds samples that are no finite numbers")
        if len(mono) and np.abs(mono).max() > LOUDEST:
            raise ValueError("holds samples that are louder than any sound")
        yield np.ascontiguousarray(stream.resample_chunk(mono, last=ended) if stream else mono, dtype=np.float32)


class LogMel:
    """Log-mel spectrograms as `extractor`, a WhisperFeatureExtractor, describes them; holds their filters on `device`.

    Equal to the extractor's own to 1e-4 (openai/whisper, audio.py); computed in float32 whatever the training
    precision, since bf16 audio has no more than 48 dB.
    """

    def __init__(self, extractor: Any, device: "torch.device") -> None:
        import torch

        self.extractor = extractor
        self.window = torch.hann_window(extractor.n_fft, device=device)
        self.filters = torch.from_numpy(extractor.mel_filters).to(device, torch.float32)

    def __call__(self, waveforms: "torch.Tensor", window_samples: int | None = None) -> "torch.Tensor":
        """Float32 `waveforms` (batch, samples) as (batch, mel bins, frames).

        Pads with silence to `window_samples`, by default the extractor's; longer ones stay as long as they are.
        """
        import torch

        extractor = self.extractor
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            pad, samples = torch.nn.functional.pad, waveforms.shape[-1]
            total = max(samples, window_samples or extractor.n_samples)
            heard = min(samples + extractor.n_fft + extractor.hop_length, total)  # silence after it is not computed
            padded = pad(waveforms.float(), (0, heard - samples))
            spectrum = torch.stft(
                padded, extractor.n_fft, extractor.hop_length, window=self.window, return_complex=True
            )
            power = spectrum[..., :-1].abs() ** 2
            decibels = (self.filters.T @ power).clamp(min=LEAST_POWER).log10()
            silent_frames = total // extractor.hop_length - decibels.shape[-1]
            decibels = pad(decibels, (0, silent_frames), value=math.log10(LEAST_POWER))
            loudest = decibels.amax(dim=(1, 2), keepdim=True)
            return (torch.maximum(decibels, loudest - 8.0) + 4.0) / 4.0
