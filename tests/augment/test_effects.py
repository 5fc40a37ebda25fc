"""Each effect does what its name says and nothing else: lengths, places and levels stay, silence stays silence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.augment.signals import band_power, decibels, in_band, lag, speech_like
from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.effects import change_gain, change_pitch, change_speed, clip_peaks, drop_out
from whisper_train.augment.levels import mean_power
from whisper_train.augment.line import MP3_KILOBITS, over_codec, over_telephone, telephone_band
from whisper_train.augment.room import reverberate, room_response
from whisper_train.job_augment import Augment, Clipping, Codec, Dropouts, Gain, Pitch, Room, Speed, Telephone

EFFECTS: dict[str, tuple[Callable[..., Waveform], Any]] = {
    "speed": (lambda waveform, settings, draws: change_speed(waveform, settings, draws, None), Speed()),
    "pitch": (change_pitch, Pitch()),
    "room": (reverberate, Room()),
    "gain": (change_gain, Gain()),
    "clipping": (clip_peaks, Clipping()),
    "mu-law": (over_telephone, Telephone(codecs=["mu-law"])),
    "gsm": (over_telephone, Telephone(codecs=["gsm"])),
    "mp3": (over_codec, Codec(formats=["mp3"])),
    "opus": (over_codec, Codec(formats=["opus"])),
    "dropouts": (drop_out, Dropouts()),
}
CODED: tuple[str, ...] = ("mu-law", "gsm", "mp3", "opus")


@pytest.fixture
def voice() -> Waveform:
    return speech_like(2.0, seed=1)


def draws(seed: int = 0) -> Draws:
    return Draws(np.random.default_rng(seed))


def apply(name: str, waveform: Waveform, seed: int = 0, **values: Any) -> Waveform:
    effect, settings = EFFECTS[name]
    return effect(waveform, settings.model_copy(update=values), draws(seed))


# Of every effect.


def test_every_effect_of_a_job_is_tested_here() -> None:
    tested = {"telephone" if name in CODED[:2] else "codec" if name in CODED else name for name in EFFECTS}
    assert tested | {"noise"} == set(Augment.model_fields)


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("samples", [1, 160, 1_601, 32_000])
def test_silence_and_clips_of_10_ms_survive(name: str, samples: int) -> None:
    hiss = (0.1 * np.random.default_rng(1).standard_normal(samples)).astype(np.float32)
    for waveform in (np.zeros(samples, np.float32), hiss):
        for seed in range(3):
            heard = apply(name, waveform, seed)
            assert heard.dtype == np.float32
            assert np.isfinite(heard).all()
            assert len(heard) == samples or (name == "speed" and len(heard) > 0)
            if name != "gsm":  # of silence it makes a click of -60 dB
                assert waveform.any() or np.abs(heard).max() < 1e-3


@pytest.mark.parametrize("name", EFFECTS)
def test_the_waveform_that_was_given_is_left_as_it_was(name: str, voice: Waveform) -> None:
    before = voice.copy()
    apply(name, voice)
    assert np.array_equal(voice, before)


@pytest.mark.parametrize("name", [name for name in EFFECTS if name != "speed"])
def test_words_stay_where_they_are(name: str, voice: Waveform) -> None:
    """Else time stamps would be wrong, and the end of a clip might be cut off."""
    swell = np.convolve(voice**2, np.ones(800) / 800, "same")
    heard = np.convolve(apply(name, voice) ** 2, np.ones(800) / 800, "same")
    assert abs(lag(heard - heard.mean(), swell - swell.mean())) <= 0.03 * SAMPLE_RATE


@pytest.mark.parametrize("name", EFFECTS)
def test_what_is_drawn_is_told(name: str, voice: Waveform) -> None:
    effect, settings = EFFECTS[name]
    drawn = draws()
    effect(voice, settings, drawn)
    assert drawn.values


# Speed and pitch.


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_pitch_together(factor: float) -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(16_000) / SAMPLE_RATE).astype(np.float32)
    heard = apply("speed", tone, factor=(factor, factor))
    assert len(heard) == round(16_000 / factor)
    near = 400 * factor
    assert band_power(heard, near - 10, near + 10) > 0.95 * band_power(heard, 0, 8_000)


@pytest.mark.parametrize("seconds", [1.9, 2.0, 2.1])
def test_speed_never_makes_a_clip_longer_than_the_window(seconds: float) -> None:
    voice = speech_like(seconds, seed=1)
    drawn = draws()
    heard = change_speed(voice, Speed(factor=(0.5, 0.5)), drawn, 2.0)
    assert len(heard) == max(2 * SAMPLE_RATE, len(voice))
    assert drawn.values["factor"] == pytest.approx(min(seconds / 2.0, 1.0)), "and says what it did"


@pytest.mark.parametrize("semitones", [-4.0, 3.0])
def test_pitch_changes_pitch_alone(semitones: float) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 400 * np.arange(32_000) / SAMPLE_RATE).astype(np.float32)
    heard = apply("pitch", tone, semitones=(semitones, semitones))
    near = 400 * 2 ** (semitones / 12)
    assert len(heard) == len(tone)
    assert band_power(heard, near - 15, near + 15) > 0.9 * band_power(heard, 0, 8_000)


# Gain, clipping, dropouts.


def test_gain_is_as_much_as_was_asked_but_never_over_full_scale() -> None:
    quiet, loud = np.full(100, 0.1, np.float32), np.full(100, 0.9, np.float32)
    assert apply("gain", quiet, decibels=(6.0, 6.0)).max() == pytest.approx(0.1 * 10**0.3)
    assert apply("gain", quiet, decibels=(-12.0, -12.0)).max() == pytest.approx(0.1 * 10**-0.6)
    assert apply("gain", loud, decibels=(6.0, 6.0)).max() == pytest.approx(1.0)


def test_clipping_cuts_off_what_is_over_full_scale(voice: Waveform) -> None:
    heard = apply("clipping", voice, decibels=(6.0, 6.0))
    twice = voice * (10**0.3 / np.abs(voice).max())
    assert np.abs(heard).max() == 1.0
    assert np.allclose(heard, np.clip(twice, -1, 1))
    assert (np.abs(heard) == 1.0).mean() > 0.001


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3])
def test_dropouts_take_the_share_that_was_asked(share: float) -> None:
    heard = apply("dropouts", np.ones(32_000, np.float32), share=(share, share))
    lost = float((heard == 0).mean())
    assert 0.7 * share <= lost <= share + 1e-4, "two of them may overlap"
    assert set(np.unique(heard)) <= {0.0, 1.0}


# The room.


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.7, 1.2, 2.0])
def test_the_echo_takes_as_long_as_was_asked(seconds: float) -> None:
    """Measured as acoustics does: how long the echo takes from -5 to -25 dB, times three (ISO 3382)."""
    measured = []
    for seed in range(8):
        response = room_response(seconds, (0.5, 3.0), draws(seed))
        left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
        level = 10 * np.log10(left / left[0])
        measured.append(3 * (np.argmax(level < -25) - np.argmax(level < -5)) / SAMPLE_RATE)
    assert np.mean(measured) == pytest.approx(seconds, rel=0.25)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("distance", [0.1, 1.0, 5.0])
def test_there_is_a_room_for_every_echo_and_distance(seconds: float, distance: float) -> None:
    drawn = draws()
    response = room_response(seconds, (distance, distance), drawn)
    assert np.isfinite(response).all()
    assert response.any()
    assert 0.1 <= float(drawn.values["distance_meters"]) <= distance, "a small room ends before"


def test_farther_away_more_echo_is_heard() -> None:
    def direct_share(distance: float) -> float:
        responses = [room_response(0.5, (distance, distance), draws(seed)) for seed in range(5)]
        return float(np.mean([(one[:40] ** 2).sum() / (one**2).sum() for one in responses]))

    assert direct_share(0.3) > direct_share(1.0) > direct_share(3.0)


def test_a_room_sounds_the_same_on_any_number_of_cores() -> None:
    """Threads of the library add up in their own order, and every loading process would start as many."""
    import pyroomacoustics

    responses = []
    for threads in (1, 7):
        pyroomacoustics.constants.set("num_threads", threads)
        responses.append(room_response(0.5, (0.5, 3.0), draws()))
    one_thread, seven = responses
    assert np.array_equal(one_thread, seven)


def test_a_room_keeps_length_loudness_and_the_place_of_the_direct_sound(voice: Waveform) -> None:
    heard = apply("room", voice, distance_meters=(0.5, 0.5))
    assert len(heard) == len(voice)
    assert mean_power(heard) == pytest.approx(mean_power(voice), rel=1e-3)
    assert abs(lag(heard, voice)) <= 2


# Telephone and codecs.


@pytest.mark.parametrize("codec", ["mu-law", "gsm"])
def test_a_telephone_lets_speech_through_in_its_place(codec: str, voice: Waveform) -> None:
    heard = apply(codec, voice)
    assert abs(decibels(band_power(heard, 400, 3_300), band_power(voice, 400, 3_300))) < 1.5
    assert abs(lag(heard, in_band(voice, 300, 3_400))) <= 8, "half a millisecond"


def test_the_band_of_a_telephone_is_flat_within_and_steep_at_its_ends() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[8_000] = 1.0
    passed = np.abs(np.fft.rfft(telephone_band(click)))  # a bin a hertz
    assert np.abs(20 * np.log10(passed[350:3_351])).max() < 0.1
    assert 20 * np.log10(np.maximum(passed[[50, 200, 300, 3_400, 4_000, 7_000]], 1e-9)).max() < -50


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_a_codec_keeps_the_place_of_every_sound(name: str, voice: Waveform) -> None:
    for kilobits in (24.0, 64.0):  # at 8 the waveform itself is another one
        assert abs(lag(apply(name, voice, kilobits=(kilobits, kilobits)), voice)) <= 8


def test_a_lower_rate_leaves_less_of_the_sound(voice: Waveform) -> None:
    def error(name: str, kilobits: float) -> float:
        return mean_power(apply(name, voice, kilobits=(kilobits, kilobits)) - voice)

    for name in ("mp3", "opus"):
        assert error(name, 8) > error(name, 24) > error(name, 64)


@pytest.mark.parametrize(("name", "kilobits"), [*(("mp3", rate) for rate in MP3_KILOBITS), ("opus", 8), ("opus", 32)])
def test_codecs_take_the_rate_that_was_asked(name: str, kilobits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libsndfile calls a compression level is no rate: the table of rates is ours."""
    import io

    import soundfile

    sizes = []
    wrapped = soundfile.write

    def write(file: io.BytesIO, *given: Any, **how: Any) -> None:
        wrapped(file, *given, **how)
        sizes.append(len(file.getvalue()))

    monkeypatch.setattr(soundfile, "write", write)
    apply(name, speech_like(20.0, seed=1), kilobits=(float(kilobits), float(kilobits)))
    assert 8 * sizes[0] / 20 / 1000 == pytest.approx(kilobits, rel=0.15)


@pytest.mark.parametrize("name", CODED)
def test_what_is_over_full_scale_is_turned_down_not_clipped(name: str, voice: Waveform) -> None:
    loud = voice / np.abs(voice).max()
    heard, expected = apply(name, 3 * loud), apply(name, loud)
    assert np.corrcoef(heard, expected)[0, 1] > 0.97
    assert np.abs(heard).max() < 1.2
