"""Scores: corpus rates through jiwer, intervals, normalizers, goals, and the words for them."""

from typing import Any

import jiwer
import numpy as np
import pytest

from whisper_train.evaluation.normalize import make_normalizer
from whisper_train.evaluation.results import band, judge_goal, make_table
from whisper_train.evaluation.score import Errors, count_errors

REFERENCES = ["der mann sucht den apfel", "ja", "die frau kauft ein buch"]
HYPOTHESES = ["der mann sucht apfel", "ja ja", "die frau kauft ein buch"]


def test_the_rates_are_those_of_the_corpus_not_means_of_clips() -> None:
    words = count_errors(REFERENCES, HYPOTHESES, "word")
    assert words.rate == jiwer.wer(REFERENCES, HYPOTHESES) == pytest.approx(2 / 11)
    assert count_errors(REFERENCES, HYPOTHESES, "character").rate == jiwer.cer(REFERENCES, HYPOTHESES)
    assert words.edits.tolist() == [1, 1, 0]
    assert words.units.tolist() == [5, 1, 5]


def test_words_where_nothing_was_said_count_as_insertions() -> None:
    words = count_errors(["", "ja"], ["vielen dank fürs zuschauen", "ja"], "word")
    assert words.edits.tolist() == [4, 0]
    assert words.rate == 4.0


def test_the_interval_holds_the_rate_and_narrows_with_more_clips() -> None:
    chance = np.random.default_rng(1)
    widths = []
    for clips in (50, 5_000):
        errors = Errors(chance.binomial(10, 0.1, clips), np.full(clips, 10))
        low, high = errors.interval()
        assert low < errors.rate < high
        widths.append(high - low)
    assert widths[1] < 0.2 * widths[0]


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
