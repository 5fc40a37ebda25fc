"""Passages: joined recordings are those of one speaker, probes hold no speech, samples are always the same clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.augment.signals import augmenter
from tests.evaluation.listening import WINDOW_SECONDS, listen, make_whisper, write_clips
from whisper_train.audio import SAMPLE_RATE, SILENCE_PEAK
from whisper_train.evaluation.passages import (
    AUGMENT_SEED,
    PAUSE_SECONDS,
    PROBE_LENGTHS,
    PROBES,
    Clips,
    JoinedClips,
    Probes,
    choose_clips,
    make_probe,
)


def groups(folder: Path, lengths: list[float], seconds: float, minutes: float = 10, **columns: list[Any]) -> Any:
    return JoinedClips(write_clips(folder, lengths, **columns), [None], seconds, minutes).groups


# Joined clips.


def test_clips_too_few_for_one_recording_make_none(tmp_path: Path) -> None:
    assert groups(tmp_path, [1.0, 1.0, 1.0], seconds=5.0) == []


def test_two_speakers_never_share_a_recording(tmp_path: Path) -> None:
    speakers = ["anna", "bert", "anna", "bert", "anna", "bert"]
    assert groups(tmp_path, [1.0] * 6, seconds=4.0, speaker=speakers) == [(0, 2, 4), (1, 3, 5)]
    assert groups(tmp_path, [1.0] * 6, seconds=4.6, speaker=speakers) == [], "three clips of each, with pauses 4.0 s"


def test_two_languages_never_share_a_recording(tmp_path: Path) -> None:
    assert groups(tmp_path, [1.0] * 4, seconds=2.0, language=["de", "fr", "de", "fr"]) == [(0, 2), (1, 3)]


def test_no_more_than_so_many_minutes_are_joined(tmp_path: Path) -> None:
    assert len(groups(tmp_path, [1.0] * 20, seconds=2.0)) == 10
    assert len(groups(tmp_path, [1.0] * 20, seconds=2.0, minutes=0.1)) == 3, "6 s"


def test_a_recording_holds_its_clips_in_their_order_with_pauses_and_their_texts_joined(tmp_path: Path) -> None:
    joined = JoinedClips(write_clips(tmp_path, [1.0, 0.5, 0.75]), [None], 3.0, 10)
    assert len(joined) == 1
    item = joined[0]
    pause = round(PAUSE_SECONDS * SAMPLE_RATE)
    assert len(item["waveform"]) == round(2.25 * SAMPLE_RATE) + 2 * pause
    assert not item["waveform"][SAMPLE_RATE : SAMPLE_RATE + pause].any()
    assert np.abs(item["waveform"][:SAMPLE_RATE]).max() > 0.1
    assert item["line"]["reference"] == "text 0 text 1 text 2"
    assert (item["line"]["parts"], item["line"]["seconds"]) == ([0, 1, 2], 3.25)
    assert joined.seconds == [pytest.approx(3.25)]
    assert (item["line"]["position"], item["language"]) == (0, "de")


def test_a_clip_that_vanished_is_missing_from_its_recording(tmp_path: Path) -> None:
    joined = JoinedClips(write_clips(tmp_path, [1.0, 0.5, 0.75]), [None], 3.0, 10)
    (tmp_path / "0.wav").unlink()
    with pytest.warns(UserWarning, match="no such file"):
        waveform = joined[0]["waveform"]
    assert len(waveform) == round((1.25 + PAUSE_SECONDS) * SAMPLE_RATE)
    for number in (1, 2):
        (tmp_path / f"{number}.wav").unlink()
    with pytest.warns(UserWarning, match="no such file"):
        assert joined[0]["waveform"] is None, "nothing is left to transcribe"


def test_clips_are_heard_as_the_set_says_at_every_call_and_joined_as_by_themselves(tmp_path: Path) -> None:
    index = write_clips(tmp_path, [1.0, 0.5, 0.75])
    change = augmenter(index, AUGMENT_SEED, noise={"kinds": ["white", "babble"]}, telephone={})
    clean, heard = Clips(index, [None], [0, 1, 2]), Clips(index, [None], [2, 1, 0], change)
    alone = [heard[2 - number]["waveform"] for number in range(3)]
    assert all(not np.array_equal(wave, clean[number]["waveform"]) for number, wave in enumerate(alone))
    again = Clips(
        index, [None], [1], augmenter(index, AUGMENT_SEED, noise={"kinds": ["white", "babble"]}, telephone={})
    )
    assert np.array_equal(again[0]["waveform"], alone[1])
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    joined = JoinedClips(index, [None], 3.0, 10, change)[0]["waveform"]
    assert np.array_equal(joined, np.concatenate([alone[0], pause, alone[1], pause, alone[2]]))


def test_joined_recordings_are_transcribed(tmp_path: Path) -> None:
    joined = JoinedClips(write_clips(tmp_path, [1.0] * 8), [None], 4.0, 10)
    lines = listen(make_whisper(), joined, 8)
    assert [line["parts"] for line in lines.values()] == [[0, 1, 2], [3, 4, 5]]
    assert all(isinstance(line["hypothesis"], str) for line in lines.values())


# Probes.


def test_probes_are_all_within_the_window_and_the_same_at_every_call() -> None:
    probes = Probes(WINDOW_SECONDS, "de")
    assert sorted(set(probes.seconds)) == [part * WINDOW_SECONDS for part in PROBE_LENGTHS]
    assert len(probes) == len(PROBES) * len(PROBE_LENGTHS) == len(set(probes.keys))
    for number in range(len(probes)):
        item, again = probes[number], probes[number]
        assert np.array_equal(item["waveform"], again["waveform"])
        assert len(item["waveform"]) == probes.seconds[number] * SAMPLE_RATE
        assert (item["line"]["reference"], item["line"]["position"]) == ("", number)
        assert item["line"]["seconds"] == probes.seconds[number]


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_is_silent_or_soft_noise(kind: str) -> None:
    wave = make_probe(kind, 2.0)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    peak = float(np.abs(wave).max())
    assert peak == 0 if kind == "silence" else SILENCE_PEAK < peak < 0.1


# Samples.


@pytest.mark.parametrize("at_most", [None, 8, 9])
def test_as_many_as_there_are_is_all_of_them(tmp_path: Path, at_most: int | None) -> None:
    assert choose_clips(write_clips(tmp_path, [0.1] * 8), at_most) == list(range(8))


@pytest.mark.parametrize("at_most", [1, 2, 5, 7])
def test_fewer_are_spread_over_the_whole_set_none_twice(tmp_path: Path, at_most: int) -> None:
    index = write_clips(tmp_path, [0.1] * 8)
    chosen = choose_clips(index, at_most)
    assert chosen == choose_clips(index, at_most)
    assert len(set(chosen)) == at_most
    assert chosen == sorted(chosen)
    assert at_most == 1 or (chosen[0], chosen[-1]) == (0, 7)


def test_a_slower_clip_still_fits_the_window(tmp_path: Path) -> None:
    index = write_clips(tmp_path, [1.0, 2.5])
    slow = augmenter(index, AUGMENT_SEED, speed={"factor": [0.5, 0.5], "probability": 1.0})
    heard = Clips(index, [None], [0, 1], slow, window_seconds=1.5)
    assert [len(heard[number]["waveform"]) / SAMPLE_RATE for number in (0, 1)] == pytest.approx([1.5, 2.5], abs=0.01)
