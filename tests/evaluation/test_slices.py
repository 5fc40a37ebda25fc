"""The parts of a set and their rates."""

import json
from typing import Any

import numpy as np
import pytest

from whisper_train.evaluation.slices import MOST_VALUES, name_duration, slice_scores


def sliced(clips: list[dict[str, Any]], **others: Any) -> dict[str, list[dict[str, Any]]]:
    """Scores of clips with ten words each and as many errors as their position is modulo four."""
    count = len(clips)
    given = {"edits": np.arange(count) % 4, "units": np.full(count, 10), "groups": np.arange(count)} | others
    found = slice_scores(clips, ["first", "second"], **given)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def values(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["value"] for entry in entries]


def test_nothing_known_of_the_clips_makes_no_slices() -> None:
    assert sliced([{}, {"seconds": None, "speaker": "", "source": None, "tags": None}]) == {}
    assert sliced([{"seconds": float("nan"), "tags": {"accent": ""}}] * 3) == {}
    assert sliced([]) == {}


def test_a_kind_that_would_repeat_the_whole_set_is_left_out() -> None:
    same = [{"seconds": 3.0, "speaker": "anna", "source": 0, "tags": {"noise": "none"}}] * 8
    assert sliced(same) == {}
    assert values(sliced([*same, {}])["speaker"]) == ["anna"]


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (0.0, "under 2 s"),
        (1.99, "under 2 s"),
        (2.0, "2 to 5 s"),
        (10.0, "10 to 20 s"),
        (20.0, "20 to 30 s"),
        (30.0, "20 to 30 s"),
        (30.01, "over 30 s"),
    ],
)
def test_a_clip_lies_in_one_duration_band(seconds: float, name: str) -> None:
    assert name_duration(seconds) == name


def test_durations_are_listed_by_length_and_only_those_with_clips() -> None:
    found = sliced([{"seconds": seconds} for seconds in (31.0, 6.0, 6.5, 6.7, 1.0)])
    assert values(found["duration"]) == ["under 2 s", "5 to 10 s", "over 30 s"]
    assert [entry["clips"] for entry in found["duration"]] == [1, 3, 1]


def test_a_part_has_its_own_figures() -> None:
    clips = [{"speaker": "anna" if number % 4 else "bert", "source": number % 2} for number in range(80)]
    found = sliced(clips, baseline_edits=np.full(80, 5))
    anna, bert = found["speaker"]
    assert (anna["value"], anna["clips"], anna["words"], anna["wer"]) == ("anna", 60, 600, 0.2)
    assert anna["wer_interval"][0] < 0.2 < anna["wer_interval"][1]
    assert (bert["value"], bert["wer"], bert["wer_interval"][0]) == ("bert", 0.0, 0.0)
    assert anna["baseline_wer"] == bert["baseline_wer"] == 0.5
    assert values(found["source"]) == ["first", "second"]


def test_without_a_baseline_its_rate_is_none() -> None:
    found = sliced([{"seconds": 1.0}, {"seconds": 3.0}])
    assert [entry["baseline_wer"] for entry in found["duration"]] == [None, None]
    assert [entry["wer_interval"] for entry in found["duration"]] == [None, None]


def test_every_tag_is_a_kind_and_none_hides_another() -> None:
    found = sliced(
        [
            {"speaker": "anna", "tags": {"noise": "street", "accent": "bavarian"}},
            {"speaker": "bert", "tags": {"noise": "none", "speaker": "child"}},
        ]
    )
    assert list(found) == ["speaker", "accent", "noise", "tags.speaker"]
    assert values(found["accent"]) == ["bavarian"]
    assert values(found["tags.speaker"]) == ["child"]


def test_of_many_values_the_fifty_with_the_most_words_are_listed() -> None:
    count = 60
    found = sliced([{"speaker": f"speaker {number:02}"} for number in range(count)], units=np.arange(count))
    assert values(found["speaker"]) == [f"speaker {number:02}" for number in range(59, 59 - MOST_VALUES, -1)]


def test_a_part_without_words_has_a_rate_but_no_interval() -> None:
    clips = [{"tags": {"noise": "silence" if number < 20 else "street"}} for number in range(40)]
    street, silence = sliced(clips, units=np.where(np.arange(40) < 20, 0, 10))["noise"]
    assert (silence["value"], silence["words"], silence["wer_interval"]) == ("silence", 0, None)
    assert street["wer_interval"] is not None


def test_a_part_of_many_speakers_is_drawn_by_speaker_and_that_of_one_by_clip() -> None:
    speakers = np.arange(400) // 20
    clips = [{"speaker": str(speaker), "seconds": 1.0 + 3.0 * (speaker % 2)} for speaker in speakers]
    edits = np.where(speakers % 4 < 2, 0, 2)
    found = sliced(clips, groups=speakers, edits=edits)
    alone = sliced(clips, edits=edits)
    wide, narrow = (np.diff(entries["duration"][0]["wer_interval"])[0] for entries in (found, alone))
    assert wide > 3 * narrow
    assert found["speaker"] == alone["speaker"]
