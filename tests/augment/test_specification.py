"""Issue 5, done when 4: a telephone passes 300 to 3,400 Hz, and the noise is as loud as was asked, over 1,000 clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.augment.signals import augmenter, decibels, make_speech, read, speech_like
from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import mean_power
from whisper_train.augment.line import over_telephone
from whisper_train.data.index import Index
from whisper_train.job_augment import Telephone

pytestmark = pytest.mark.slow
CLIPS = 1_000
SENTENCES = 250  # different ones of espeak-ng; the other clips are other noises behind them
ALLOWED_DB = 0.5


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return make_speech(tmp_path_factory.mktemp("speech"), SENTENCES)


@pytest.fixture(scope="module")
def sentences(speech: Index) -> list[Waveform]:
    return [read(speech, position) for position in range(SENTENCES)]


def outside_of_band(waveform: Waveform) -> float:
    """The energy outside 300 to 3,400 Hz, in decibels below that of the whole."""
    from scipy.signal import welch

    hertz, power = welch(waveform, SAMPLE_RATE, nperseg=min(2048, len(waveform)))
    outside = (hertz < 300) | (hertz > 3_400)
    return decibels(power[outside].sum(), power.sum())


@pytest.mark.parametrize("codec", ["mu-law", "gsm"])
def test_energy_outside_of_a_telephone_is_25_db_down(codec: str, sentences: list[Waveform]) -> None:
    settings = Telephone.model_validate({"codecs": [codec]})
    loudest = -np.inf
    for number in range(CLIPS):
        chance = np.random.default_rng(number)
        kind = number % 4
        if kind == 0:  # noise is as loud outside of the band as within
            clip = (0.1 * chance.standard_normal(SAMPLE_RATE)).astype(np.float32)
        elif kind == 1:
            clip = speech_like(1.0, number)
        else:
            clip = sentences[number % SENTENCES] * np.float32(chance.uniform(0.05, 1.0))
        heard = over_telephone(clip, settings, Draws(chance))
        assert heard.dtype == np.float32
        assert len(heard) == len(clip)
        loudest = max(loudest, outside_of_band(heard))
    assert loudest <= -25, f"{loudest:.1f} dB"


@pytest.mark.parametrize("by_telephone", [False, True], ids=["microphone", "telephone"])
@pytest.mark.parametrize("kind", ["white", "pink", "babble", "recording"])
def test_noise_is_as_loud_as_was_asked(
    kind: str, by_telephone: bool, speech: Index, sentences: list[Waveform], tmp_path: Path
) -> None:
    """By telephone too: measured behind it, where most of a white noise is gone and little of the speech."""
    asked: dict[str, Any] = {"kinds": [kind], "snr_db": (0.0, 15.0)}
    if kind == "recording":
        asked |= {"kinds": [], "folder": str(make_recordings(tmp_path))}
    line = {"telephone": {"codecs": ["mu-law"]}} if by_telephone else {}
    augment = augmenter(speech, noise=asked, **line)
    errors = []
    for number in range(CLIPS):
        position, epoch = number % SENTENCES, number // SENTENCES
        clip = 0.1 * sentences[position]  # so quiet that nothing must be turned down
        heard, applied = augment.apply(clip, 0, position, epoch=epoch)
        alone = over_telephone(clip, Telephone(codecs=["mu-law"]), Draws(np.random.default_rng(0)))
        alone = alone if by_telephone else clip
        wanted = applied[0].values["snr_db"]
        assert isinstance(wanted, float)
        errors.append(decibels(mean_power(alone), mean_power(heard - alone)) - wanted)
    assert np.abs(errors).max() <= ALLOWED_DB


def make_recordings(folder: Path) -> Path:
    """Noise of two rates, of one channel and two, shorter and longer than the clips."""
    chance = np.random.default_rng(0)
    street = np.cumsum(chance.standard_normal((30_000, 2)), axis=0)
    soundfile.write(folder / "street.wav", 0.3 * street / np.abs(street).max(), 44_100)
    soundfile.write(folder / "fan.flac", 0.1 * chance.standard_normal(5 * 8_000), 8_000)
    return folder
