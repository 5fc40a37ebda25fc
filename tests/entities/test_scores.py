"""Scores: seqeval's strict rule, ratios over the set, intervals, and orders compared by their cities."""

import numpy as np
import pytest

from whisper_train.entities.rules import label_by_rules
from whisper_train.entities.scores import count_pairs, count_sentences, rates, rates_with_intervals
from whisper_train.entities.sentence import split_words
from whisper_train.entities.speech import figures, judge_travel
from whisper_train.job_entities import LABELS


def test_the_counts_are_those_of_seqeval() -> None:
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    chance = np.random.default_rng(0)
    truth, predicted = [], []
    for _ in range(60):
        labels = ["O", "B-DEPART", "I-DEPART", "O", "B-ARRIVEE", "B-VIA", "I-VIA"][: chance.integers(2, 8)]
        truth.append(labels)
        changed = [one if chance.random() > 0.3 else str(chance.choice(LABELS)) for one in labels]
        predicted.append(changed)
    report = classification_report(truth, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    ours = rates(count_sentences(truth, predicted))
    for entity, found in ours["entities"].items():
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert found[name] == pytest.approx(report[entity][key])
    assert ours["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert ours["f1"] == pytest.approx(report["micro avg"]["f1-score"])


def test_a_span_that_is_one_word_short_is_wrong() -> None:
    found = rates(count_sentences([["B-DEPART", "I-DEPART", "O"]], [["B-DEPART", "O", "O"]]))
    assert found["entities"]["DEPART"]["f1"] == 0
    assert found["sentence_accuracy"] == 0


def test_what_is_neither_there_nor_found_has_no_score() -> None:
    found = rates(count_sentences([["B-DEPART"], ["O"]], [["B-DEPART"], ["O"]]))
    assert found["entities"]["VIA"]["f1"] is None
    assert found["macro_f1"] == 1
    assert found["sentence_accuracy"] == 1


def test_intervals_hold_the_rates_and_narrow_with_more_patterns() -> None:
    truth = [["B-DEPART", "O", "B-ARRIVEE"]] * 400
    wrong = {number for number in range(400) if number % 9 == 0 and number < 360}
    predicted = [["B-DEPART", "O", "O" if number in wrong else "B-ARRIVEE"] for number in range(400)]
    counts = count_sentences(truth, predicted)
    wide = rates_with_intervals(counts, np.arange(400) // 20)
    narrow = rates_with_intervals(counts, np.arange(400))
    for found in (wide, narrow):
        for key in ("macro_f1", "f1", "sentence_accuracy"):
            low, high = found[f"{key}_interval"]
            assert low <= found[key] <= high <= 1
    assert narrow["sentence_accuracy"] == pytest.approx(0.9)
    spread = [ends[1] - ends[0] for ends in (narrow["macro_f1_interval"], wide["macro_f1_interval"])]
    assert 0 < spread[0] < 0.06


def test_without_an_error_the_interval_still_leaves_room() -> None:
    found = rates_with_intervals(count_sentences([["B-VIA"]] * 50, [["B-VIA"]] * 50), np.arange(50))
    assert found["macro_f1_interval"][0] < 0.97
    assert found["macro_f1_interval"][1] == 1


def test_without_anything_right_too() -> None:
    found = rates_with_intervals(count_sentences([["B-VIA"]] * 50, [["O"]] * 50), np.arange(50))
    low, high = found["sentence_accuracy_interval"]
    assert (low, found["sentence_accuracy"]) == (0, 0)
    assert 0.03 < high < 0.1


def test_a_city_named_twice_must_be_found_twice() -> None:
    counts = count_pairs([[("VIA", "dijon"), ("VIA", "dijon")]], [[("VIA", "dijon")]])
    assert counts.found.sum() == 1
    assert not counts.right[0]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("de Lyon à Nice", ["O", "B-DEPART", "O", "B-ARRIVEE"]),
        ("d'Aix-en-Provence", ["O", "B-DEPART", "I-DEPART", "I-DEPART", "I-DEPART", "I-DEPART"]),
        ("via saint etienne", ["O", "B-VIA", "I-VIA"]),
        ("il fait beau", ["O", "O", "O"]),
    ],
)
def test_the_rules_know_places_and_the_word_before(text: str, labels: list[str]) -> None:
    assert label_by_rules([text[start:end] for start, end in split_words(text)]) == labels


def test_an_order_is_lost_where_hearing_cost_a_city() -> None:
    true = [["DEPART", "lyon"], ["ARRIVEE", "nice"]]
    line = {"reference": "de Lyon à Nice", "true": true, "from_text": true}
    lines = [
        {**line, "hypothesis": "De Lyon à Nice.", "from_speech": true},
        {**line, "hypothesis": "de Lion à Nice", "from_speech": [["DEPART", "lion"], ["ARRIVEE", "nice"]]},
    ]
    found = figures(lines)
    assert (found["heard_exactly"], found["lost"]) == (1, 1)
    assert found["from_text"]["sentence_accuracy"] == 1
    assert found["from_speech"]["sentence_accuracy"] == 0.5
    travel = {"set": "orders", "models": {"tuned": found}}
    assert judge_travel(0.7, travel)["met"]
    assert not judge_travel(0.8, travel)["met"]
    assert not judge_travel(0.1, None)["met"]
