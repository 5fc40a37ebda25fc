"""Audio in: any file to 16 kHz mono, and the log-mel spectrogram that Whisper's encoder sees."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000  # Hz, what every Whisper model was trained on
SILENCE_PEAK = 1e-3  # full scale 1: a clip that never gets louder than -60 dB is silent
LEAST_POWER = 1e-10  # what silence counts as

Waveform = NDArray[np.float32]


def decode(source: Path | bytes, max_seconds: float | None = None) -> Waveform:
    """Decodes WAV, FLAC, OGG, Opus or MP3, a file or its bytes, to a float32 waveform of shape (samples,).

    Channels are averaged and any rate is resampled to SAMPLE_RATE. Stops reading after `max_seconds`.
    Raises ValueError saying what is wrong when the audio cannot be read, is empty or holds no finite numbers.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
            frames = -1 if max_seconds is None else int(max_seconds * file.samplerate)
            samples = file.read(frames, dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise ValueError(f"cannot be decoded ({str(error).strip().rstrip('.')})") from error
    if not len(samples):
        raise ValueError("holds no samples")
    waveform = samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        raise ValueError("holds samples that are no finite numbers")
    if rate != SAMPLE_RATE:
        import soxr

        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
    return np.ascontiguousarray(waveform, dtype=np.float32)


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
