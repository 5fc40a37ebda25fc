"""How many entities were found: by seqeval's strict rule, an entity is right when its span and its label are.

Precision, recall and F1 are ratios of counts over a set, never means of sentences. 1 - F1 is (false + missed) /
(predicted + true), a ratio of sums as an error rate is: so the intervals are those of evaluation/bootstrap.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whisper_train.evaluation.bootstrap import Interval, rate_interval
from whisper_train.job_entities import ENTITIES


@dataclass(frozen=True, slots=True)
class Counts:
    """By sentence and entity, (sentences, 3) in the order of ENTITIES; `right`: the sentence as a whole."""

    true: np.ndarray
    predicted: np.ndarray
    found: np.ndarray
    right: np.ndarray

    def of(self, chosen: np.ndarray) -> "Counts":
        return Counts(self.true[chosen], self.predicted[chosen], self.found[chosen], self.right[chosen])


def count_sentences(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
    """Compares labels, a list for each sentence, by IOB2: a predicted I- that continues nothing is no entity."""
    true = [entities_of(labels) for labels in truth]
    given = [entities_of(labels) for labels in predicted]
    return count_pairs(true, given)


def entities_of(labels: Sequence[str]) -> list[tuple[str, Any]]:
    """(entity, place) of each entity that seqeval sees in the labels of a sentence."""
    from seqeval.scheme import IOB2, Entities

    return [(one.tag, (one.start, one.end)) for one in Entities([list(labels)], IOB2).entities[0]]


def count_pairs(truth: Sequence[list[tuple[str, Any]]], given: Sequence[list[tuple[str, Any]]]) -> Counts:
    """Compares (entity, what tells it from others) lists, sentence by sentence; what comes twice counts twice."""
    arrays = np.zeros((3, len(truth), len(ENTITIES)), np.int64)
    right = np.zeros(len(truth), np.int64)
    for row, (true, predicted) in enumerate(zip(truth, given, strict=True)):
        left = list(true)
        for one in predicted:
            column = ENTITIES.index(one[0])
            arrays[1, row, column] += 1
            if one in left:
                left.remove(one)
                arrays[2, row, column] += 1
        for name, _ in true:
            arrays[0, row, ENTITIES.index(name)] += 1
        right[row] = not left and len(true) == len(predicted)
    return Counts(arrays[0], arrays[1], arrays[2], right)


def share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def rates(counts: Counts) -> dict[str, Any]:
    """`entities` with precision, recall, f1 and how many there are of each; `macro_f1`, `f1`, `sentence_accuracy`.

    `f1` is of all entities together, whatever their label; None where there are none. In the mean of the labels one
    that is neither there nor predicted is left out; 0 where none is left.
    """
    entities = {}
    for column, name in enumerate(ENTITIES):
        true, predicted, found = (
            int(values[:, column].sum()) for values in (counts.true, counts.predicted, counts.found)
        )
        entities[name] = {
            "precision": share(found, predicted),
            "recall": share(found, true),
            "f1": share(2 * found, true + predicted),
            "true": true,
            "predicted": predicted,
        }
    scores = [one["f1"] for one in entities.values() if one["f1"] is not None]
    return {
        "entities": entities,
        "macro_f1": float(np.mean(scores)) if scores else 0.0,
        "f1": share(2 * float(counts.found.sum()), float(counts.true.sum() + counts.predicted.sum())),
        "sentence_accuracy": float(counts.right.mean()) if len(counts.right) else 0.0,
    }


def rates_with_intervals(counts: Counts, groups: np.ndarray) -> dict[str, Any]:
    """The rates with their 95 % intervals over `groups` (sentences,): sentences of one pattern err together."""
    found = rates(counts)
    for column, name in enumerate(ENTITIES):
        true, given, right = counts.true[:, column], counts.predicted[:, column], counts.found[:, column]
        one = found["entities"][name]
        one["precision_interval"] = of_errors(given - right, given, groups)
        one["recall_interval"] = of_errors(true - right, true, groups)
        one["f1_interval"] = of_errors(true + given - 2 * right, true + given, groups)
    given = counts.true.sum(axis=1) + counts.predicted.sum(axis=1)
    found["f1_interval"] = of_errors(given - 2 * counts.found.sum(axis=1), given, groups)
    found["macro_f1_interval"] = macro_interval(counts, groups)
    found["sentence_accuracy_interval"] = of_errors(1 - counts.right, np.ones(len(counts.right)), groups)
    return found


def of_errors(errors: np.ndarray, units: np.ndarray, groups: np.ndarray) -> Interval | None:
    """The interval of the share that is right, where `errors` of `units` are not."""
    errors, units = np.asarray(errors, float), np.asarray(units, float)
    if units.any() and np.allclose(errors, units):  # all wrong: as if a right one hid in as many as could have escaped
        return rate_interval(np.zeros_like(units), units, groups)
    interval = rate_interval(errors, units, groups)
    return interval and (max(0.0, 1 - interval[1]), min(1.0, 1 - interval[0]))


def macro_interval(counts: Counts, groups: np.ndarray) -> Interval | None:
    """Of the mean F1: the mean of ratios, each linearized about its value, as one ratio with the same residuals."""
    units = (counts.true + counts.predicted).astype(float)
    errors = units - 2 * counts.found
    there = units.sum(axis=0) > 0
    if not there.any():
        return None
    units, errors = units[:, there], errors[:, there]
    totals = units.sum(axis=0)
    each = errors.sum(axis=0) / totals
    scaled = (units / totals).mean(axis=1)
    residuals = ((errors - each * units) / totals).mean(axis=1)
    # rate_interval takes counts: in units of the mean total, so that its rule of three knows how much was seen
    size = float(totals.mean())
    return of_errors(size * (residuals + each.mean() * scaled), size * scaled, groups)
