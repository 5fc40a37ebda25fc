"""Gates: each promises a verdict, the value it rests on, and a sentence that says by how much."""

from typing import Any

import pytest

from whisper_train.evaluation.gates import judge
from whisper_train.job import Gates

QUIET = {"loops": 0, "too_long": 0, "clips": 0, "share": 0.0}


def measured(wer: float, before: float | None, **more: Any) -> dict[str, Any]:
    baseline = None if before is None else {"wer": before}
    compared = {"wer": {"difference": wer - (before or 0), "certain": True, "p_value": 0.01}, "sentence": "compared"}
    return {"wer": wer, "baseline": baseline, "hallucination": QUIET, "seconds": 600.0, "comparison": compared, **more}


def results(**sets: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): one for name, one in sets.items()}
    return {"sets": named, "silence": {"tuned": {"words_per_minute": 0.0}}}


def only(gates: Gates, found: dict[str, Any]) -> dict[str, Any]:
    (judged,) = judge(gates, found)
    return judged


def test_without_gates_nothing_is_judged() -> None:
    assert judge(Gates(), results(first=measured(0.5, None))) == []


@pytest.mark.parametrize(("limit", "met"), [(0.081, True), (0.08, False)])
def test_the_wer_is_that_of_the_first_set(limit: float, met: bool) -> None:
    verdict = only(Gates(wer=limit), results(first=measured(0.081, 0.124), other=measured(0.5, None)))
    assert (verdict["set"], verdict["measured"], verdict["met"]) == ("first", 0.081, met)
    assert verdict["unit"] == "rate"
    assert verdict["sentence"] == f"WER on first is 8.10 %; at most {100 * limit:.2f} % was asked for"


@pytest.mark.parametrize(
    ("difference", "certain", "met"), [(-0.04, True, True), (-0.04, False, False), (0.04, True, False)]
)
def test_significance_wants_a_certain_gain_not_a_certain_loss(difference: float, certain: bool, met: bool) -> None:
    compared = {"wer": {"difference": difference, "certain": certain, "p_value": 0.01}, "sentence": "so much"}
    assert only(Gates(significant=True), results(first=measured(0.1, 0.14, comparison=compared)))["met"] is met


def test_retention_says_by_how_much_a_language_got_worse() -> None:
    gates = Gates.model_validate({"retention": {"max_loss": 0.005}})
    found = results(french=measured(0.08, 0.12), german=measured(0.0712, 0.051), spanish=measured(0.0549, 0.05))
    german, spanish = judge(gates, found)
    assert (german["set"], german["met"]) == ("german", False)
    assert german["measured"] == pytest.approx(0.0202)
    assert german["sentence"] == "german got worse: WER 5.10 % → 7.12 %, +2.02 points; at most +0.50 are allowed"
    assert (spanish["set"], spanish["met"]) == ("spanish", True)
    assert spanish["sentence"].startswith("spanish lost no more than allowed: WER 5.00 % → 5.49 %, +0.49 points;")


def test_retention_judges_the_sets_it_names() -> None:
    gates = Gates.model_validate({"retention": {"sets": ["spanish"]}})
    found = results(french=measured(0.08, 0.12), german=measured(0.9, 0.1), spanish=measured(0.04, 0.05))
    verdict = only(gates, found)
    assert (verdict["set"], verdict["met"]) == ("spanish", True)
    assert "did not get worse" in verdict["sentence"]


@pytest.mark.parametrize(
    ("before", "after", "met"), [(0.10, 0.11, True), (0.10, 0.1101, False), (0.0, 0.01, False), (0.0, 0.0, True)]
)
def test_long_form_is_relative_to_the_baseline(before: float, after: float, met: bool) -> None:
    gates = Gates.model_validate({"long_form": {"max_worse": 0.1000001}})
    assert only(gates, results(first=measured(0.1, 0.1), long_form=measured(after, before)))["met"] is met


@pytest.mark.parametrize(("alone", "met"), [(0.10, True), (0.0999, False), (0.0, False)])
def test_joined_clips_are_judged_against_the_same_clips_one_by_one(alone: float, met: bool) -> None:
    joined = measured(0.11, None, longest_seconds=606.0, alone={"set": "first", "clips": 380, "wer": alone, "cer": 0})
    gates = Gates.model_validate({"long_form": {"max_worse": None, "max_worse_than_clips": 0.1}})
    verdict = only(gates, results(first=measured(0.2, None), long_form=joined))
    assert (verdict["gate"], verdict["set"], verdict["met"]) == ("long_form_clips", "long-form", met)
    if alone == 0.10:
        assert verdict["sentence"] == (
            "recordings of up to 10.1 min have WER 11.00 %, their 380 clips one by one 10.00 %: +10%;"
            " at most +10% is allowed"
        )


def test_joined_clips_that_were_not_all_transcribed_one_by_one_are_not_met() -> None:
    gates = Gates.model_validate({"long_form": {"max_worse": None, "max_worse_than_clips": 0.1}})
    verdict = only(gates, results(first=measured(0.1, None), long_form=measured(0.1, None, alone=None)))
    assert (verdict["met"], verdict["measured"]) == (False, None)
    assert "evaluate again" in verdict["sentence"]
    both = judge(Gates.model_validate({"long_form": {"max_worse_than_clips": 0.1}}), results(first=measured(0.1, 0.1)))
    assert [(gate["gate"], gate["met"]) for gate in both] == [("long_form", False), ("long_form_clips", False)]


def test_long_form_that_could_not_be_measured_is_not_met() -> None:
    verdict = only(Gates.model_validate({"long_form": {}}), results(first=measured(0.1, 0.1)))
    assert (verdict["met"], verdict["measured"]) == (False, None)
    assert "too short" in verdict["sentence"]


def test_hallucination_is_judged_where_it_is_worst_and_in_silence() -> None:
    looping = {"loops": 3, "too_long": 1, "clips": 4, "share": 0.02}
    found = results(first=measured(0.1, 0.1), other=measured(0.2, 0.2, hallucination=looping))
    found["silence"]["tuned"]["words_per_minute"] = 12.5
    share, silence = judge(Gates.model_validate({"hallucination": {}}), found)
    assert (share["set"], share["measured"], share["met"]) == ("other", 0.02, False)
    assert (silence["measured"], silence["met"]) == (12.5, False)
    assert "12.5 words a minute" in silence["sentence"]


def test_exactly_half_a_point_is_allowed_whatever_floats_make_of_it() -> None:
    gates = Gates.model_validate({"retention": {"max_loss": 0.005}})
    verdict = only(gates, results(first=measured(0.5, 0.5), other=measured(0.014, 0.009)))
    assert verdict["met"], "0.014 - 0.009 is 0.005000000000000001"


def test_a_set_without_a_reference_word_meets_no_gate() -> None:
    nothing = measured(0.0, 0.0, words=0)
    gates = Gates.model_validate({"wer": 0.5, "retention": {}, "long_form": {}, "hallucination": {}})
    judged = judge(gates, results(first=nothing, other=nothing, long_form=nothing))
    assert [(gate["gate"], gate["met"]) for gate in judged[:4]] == [
        ("wer", False),
        ("retention", False),
        ("long_form", False),
        ("hallucination", False),
    ]


def test_languages_without_spaces_are_compared_by_characters() -> None:
    rates = {"languages": ["zh"], "cer": 0.2}
    chinese = measured(1.0, 1.0, **rates)
    chinese["baseline"]["cer"] = 0.1
    gates = Gates.model_validate({"retention": {"max_loss": 0.005}, "long_form": {}})
    retention, long_form = judge(gates, results(first=measured(0.5, 0.5), other=chinese, long_form=chinese))
    assert (retention["met"], long_form["met"]) == (False, False)
    assert "CER 10.00 % → 20.00 %" in retention["sentence"]
    assert "CER is 20.00 % after 10.00 %" in long_form["sentence"]
