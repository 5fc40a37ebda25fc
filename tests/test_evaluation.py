"""Normalizers, goals, and the words for scores."""

from typing import Any

import pytest

from whisper_train.evaluation.normalize import make_normalizer
from whisper_train.evaluation.results import band, judge_goal, make_table


def test_normalizers_are_named_behaviours() -> None:
    basic, raw = make_normalizer("whisper-basic"), make_normalizer("raw")
    assert basic("Guten Tag, Herr Müller! [lacht] (leise)") == "guten tag herr müller"
    assert raw(" Guten Tag! ") == "Guten Tag!"


@pytest.mark.parametrize(
    ("wer", "word"), [(0.0, "excellent"), (0.0999, "excellent"), (0.1, "good"), (0.25, "acceptable"), (0.3, "poor")]
)
def test_bands(wer: float, word: str) -> None:
    assert band(wer) == word


def result(wer: float, before: float | None) -> dict[str, Any]:
    baseline = None if before is None else {"wer": before}
    return {"wer": wer, "wer_interval": [wer, wer], "baseline": baseline, "clips": 1200}


def test_the_table_shows_before_after_and_change() -> None:
    table = make_table({"sets": {"hard": result(0.081, 0.124), "new": result(0.5, None)}})
    assert "12.40%      8.10%" in table
    assert "-35%" in table
    assert "1,200" in table


def test_the_goal_is_judged_on_the_first_set() -> None:
    results = {"sets": {"hard": result(0.081, 0.124), "other": result(0.5, None)}}
    met = judge_goal(0.081, results)
    missed = judge_goal(0.08, results)
    assert met is not None
    assert missed is not None
    assert (met["set"], met["met"], missed["met"]) == ("hard", True, False)
    assert judge_goal(None, results) is None
