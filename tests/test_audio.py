"""Audio in: any usual file to 16 kHz mono, broken ones named, and log-mel as Whisper was trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import MakeWav
from whisper_train.audio import SAMPLE_RATE, LogMel, Waveform, decode

FORMATS: dict[str, dict[str, Any]] = {
    ".wav": {},
    ".flac": {},
    ".ogg": {"format": "OGG", "subtype": "VORBIS"},
    ".opus": {"format": "OGG", "subtype": "OPUS"},
    ".mp3": {"format": "MP3"},
}


def loudest_pitch(waveform: Waveform) -> float:
    """The frequency in Hz with the most energy."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(waveform))


# What cannot be used is a ValueError that says why.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "cannot be decoded"),
        (lambda path: path.write_bytes(b"this is no audio at all"), "cannot be decoded"),
        (cut, "cannot be decoded|holds no samples"),
    ],
    ids=["empty", "text", "cut"],
)
def test_broken_files_are_refused(
    place: Path, make_wav: MakeWav, suffix: str, damage: Callable[[Path], object], reason: str
) -> None:
    path = make_wav(place / f"a{suffix}", **FORMATS[suffix])
    damage(path)

    with pytest.raises(ValueError, match=reason):
        decode(path)
    with pytest.raises(ValueError, match=reason):
        decode(path.read_bytes())


def test_no_samples_are_refused(place: Path, make_wav: MakeWav) -> None:
    with pytest.raises(ValueError, match="holds no samples"):
        decode(make_wav(place / "a.wav", seconds=0))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(place: Path, number: float) -> None:
    samples = np.zeros(1_000, np.float32)
    samples[500] = number
    soundfile.write(place / "a.wav", samples, 16_000, subtype="FLOAT")

    with pytest.raises(ValueError, match="no finite numbers"):
        decode(place / "a.wav")


def test_a_missing_file_and_a_folder_are_refused(place: Path) -> None:
    for path in (place / "gone.wav", place):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode(path)


def test_a_recording_cut_off_in_the_middle_is_no_crash(place: Path, make_wav: MakeWav) -> None:
    """A WAV says its length at the start; what is really there can still be heard."""
    path = make_wav(place / "a.wav", seconds=1.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert len(decode(path)) == pytest.approx(SAMPLE_RATE / 2, abs=100)


# What can be used comes at 16 kHz, mono, float32.


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_any_rate_and_channel_count(place: Path, make_wav: MakeWav, rate: int, channels: int) -> None:
    waveform = decode(make_wav(place / "a.wav", seconds=1.0, rate=rate, channels=channels, pitch=440.0))

    assert waveform.dtype == np.float32
    assert waveform.shape == (SAMPLE_RATE,)
    assert waveform.flags.c_contiguous
    assert loudest_pitch(waveform) == pytest.approx(440, abs=2)
    assert np.abs(waveform).max() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("suffix", FORMATS)
def test_any_format(place: Path, make_wav: MakeWav, suffix: str, rate: int) -> None:
    path = make_wav(place / f"a{suffix}", seconds=1.0, rate=rate, channels=2, pitch=440.0, **FORMATS[suffix])

    waveform = decode(path)

    assert len(waveform) == pytest.approx(SAMPLE_RATE, rel=0.1)  # MP3 pads with up to a tenth of a second
    assert loudest_pitch(waveform) == pytest.approx(440, abs=2)
    assert np.array_equal(decode(path.read_bytes()), waveform)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_any_kind_of_sample(place: Path, make_wav: MakeWav, subtype: str) -> None:
    waveform = decode(make_wav(place / "a.wav", seconds=1.0, pitch=440.0, subtype=subtype))

    assert np.abs(waveform).max() == pytest.approx(0.3, abs=0.02)
    assert loudest_pitch(waveform) == pytest.approx(440, abs=2)


def test_channels_are_averaged(place: Path) -> None:
    left = np.linspace(-0.5, 0.5, 1_600)
    soundfile.write(place / "a.wav", np.stack([left, -left], axis=1), 16_000)

    assert np.abs(decode(place / "a.wav")).max() < 1e-4


def test_no_more_is_read_than_asked_for(place: Path, make_wav: MakeWav) -> None:
    path = make_wav(place / "a.flac", seconds=3.0, rate=48_000)

    assert len(decode(path, max_seconds=1.0)) == SAMPLE_RATE
    assert len(decode(path, max_seconds=10.0)) == 3 * SAMPLE_RATE


def test_real_recordings(speech: Path) -> None:
    digit = decode(speech / "digits-en" / "audio" / "0_george_0.wav")  # 8 kHz
    sentence = decode(next((speech / "kerstin-de" / "audio").glob("*.flac")))

    assert len(digit) == pytest.approx(0.298 * SAMPLE_RATE, abs=2)
    for waveform in (digit, sentence):
        assert 0.01 < np.abs(waveform).max() <= 1.01


# log-mel.


def make_waveform(kind: str, samples: int) -> Waveform:
    chance = np.random.default_rng(0)
    time = np.arange(samples) / SAMPLE_RATE
    shapes = {
        "noise": chance.normal(0, 0.1, samples),
        "quiet noise": chance.normal(0, 1e-4, samples),
        "sine": 0.5 * np.sin(2 * np.pi * 440 * time),
        "silence": np.zeros(samples),
        "click": np.eye(1, samples, samples // 2)[0],
    }
    waveform: Waveform = shapes[kind].astype(np.float32)
    return waveform


def features_of(extractor: Any, waveforms: list[Waveform]) -> np.ndarray:
    return np.asarray(extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features)


def ours(extractor: Any, waveforms: list[Waveform]) -> np.ndarray:
    padded = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for position, waveform in enumerate(waveforms):
        padded[position, : len(waveform)] = torch.from_numpy(waveform)
    return LogMel(extractor, padded.device)(padded).numpy()


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("kind", ["noise", "quiet noise", "sine", "silence", "click"])
@pytest.mark.parametrize("samples", [200, 16_000, 480_000])
def test_log_mel_is_that_of_transformers(kind: str, bins: int, samples: int) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=bins)
    waveforms = [make_waveform(kind, samples)]

    features = ours(extractor, waveforms)

    assert features.shape == (1, bins, 3_000)
    np.testing.assert_allclose(features, features_of(extractor, waveforms), rtol=0, atol=1e-4)


def test_clips_of_a_batch_do_not_change_each_other() -> None:
    """Loudness is levelled per clip, and a short clip beside a long one is padded with silence."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    waveforms = [make_waveform("noise", 300_000), make_waveform("quiet noise", 5_000), make_waveform("sine", 100)]

    features = ours(extractor, waveforms)

    np.testing.assert_allclose(features, features_of(extractor, waveforms), rtol=0, atol=1e-4)
    for position, waveform in enumerate(waveforms):
        np.testing.assert_allclose(features[position], ours(extractor, [waveform])[0], rtol=0, atol=1e-4)


def test_log_mel_of_a_shorter_window() -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=2, hop_length=320)
    waveforms = [make_waveform("noise", 20_000)]

    features = ours(extractor, waveforms)

    assert features.shape == (1, 80, 100)
    np.testing.assert_allclose(features, features_of(extractor, waveforms), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bins", [80, 128])
def test_log_mel_of_real_recordings(speech: Path, bins: int) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=bins)
    paths = sorted((speech / "kerstin-de" / "audio").glob("*.flac"))[:4]
    paths += sorted((speech / "digits-en" / "audio").glob("*.wav"))[:4]
    waveforms = [decode(path) for path in paths]

    np.testing.assert_allclose(ours(extractor, waveforms), features_of(extractor, waveforms), rtol=0, atol=1e-4)


def test_log_mel_is_float32_under_autocast() -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80)
    waveform = torch.from_numpy(make_waveform("noise", 16_000))[None]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = LogMel(extractor, waveform.device)(waveform)

    assert features.dtype == torch.float32
    assert torch.equal(features, LogMel(extractor, waveform.device)(waveform))


@pytest.mark.gpu
@pytest.mark.parametrize("bins", [80, 128])
def test_log_mel_on_the_gpu(bins: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=bins)
    waveforms = [make_waveform("noise", 100_000), make_waveform("sine", 100_000)]

    on_gpu = torch.from_numpy(np.stack(waveforms)).cuda()
    features = LogMel(extractor, on_gpu.device)(on_gpu).cpu().numpy()

    np.testing.assert_allclose(features, features_of(extractor, waveforms), rtol=0, atol=1e-4)
