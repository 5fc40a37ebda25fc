"""Two models on the same clips: over what the comparison is drawn, its figures, and the sentence that says them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from whisper_train.evaluation.bootstrap import Difference, compare_rates

FEWEST_GROUPS = 10  # with fewer, one speaker decides: 10 kept to 5 % false alarms, and hardly show a difference


class Tally(Protocol):
    """Edits and reference units (words or characters) by clip, arrays of shape (clips,)."""

    @property
    def edits(self) -> np.ndarray: ...
    @property
    def units(self) -> np.ndarray: ...


class Tallies(Protocol):
    """One model's errors on a set."""

    @property
    def words(self) -> Tally: ...
    @property
    def characters(self) -> Tally: ...


@dataclass(frozen=True, slots=True)
class Unit:
    """What is drawn: `name` is speaker, recording or clip, `groups` the label of each clip, (clips,) int.

    `note` ends a sentence where the unit is finer than one would wish; else it is empty.
    """

    name: str
    groups: np.ndarray
    note: str


def choose_unit(speakers: Sequence[str], recordings: Sequence[str], clips: Sequence[str]) -> Unit:
    """The coarsest unit that at least half of the clips know, with at least ten of its kind; else clips.

    All sequences have one entry a clip; an empty one is unknown. A clip of an unknown speaker counts with its
    recording, one without both by itself. Equal labels are one group: where sources could share names, the caller
    tells them apart.
    """
    if can_group(speakers):
        note = "" if all(speakers) else "clips of unknown speakers counted apart"
        return Unit("speaker", number_groups(speakers, recordings, clips), note)
    if can_group(recordings):
        return Unit("recording", number_groups(recordings, clips), describe(speakers))
    return Unit("clip", number_groups(clips), describe(speakers))


def can_group(labels: Sequence[str]) -> bool:
    return len(known(labels)) >= FEWEST_GROUPS and 2 * sum(map(bool, labels)) >= len(labels)


def known(labels: Sequence[str]) -> set[str]:
    return {label for label in labels if label}


def describe(speakers: Sequence[str]) -> str:
    """What a comparison that is not over speakers leaves open."""
    count = len(known(speakers))
    if count == 0:
        return "the speakers are unknown, so other speakers may differ more"
    if count < FEWEST_GROUPS:
        return f"only {say_count(count, 'speaker')} known, so this says nothing about other speakers"
    return "most clips have no known speaker, so other speakers may differ more"


def number_groups(*kinds: Sequence[str]) -> np.ndarray:
    """Labels (clips,) from 0: by the first of `kinds` that knows a clip; a clip that none knows has its own."""
    numbers: dict[tuple[int, str | int], int] = {}
    labels = np.empty(len(kinds[0]), np.int64)
    for position, names in enumerate(zip(*kinds, strict=True)):
        key = next(((kind, name) for kind, name in enumerate(names) if name), (len(kinds), position))
        labels[position] = numbers.setdefault(key, len(numbers))
    return labels


def compare_sets(before: Tallies, after: Tallies, unit: Unit) -> dict[str, Any]:
    """The `comparison` of a set in results.json: baseline (`before`) and tuned model (`after`) on the same clips."""
    words = compare_tallies(before.words, after.words, unit)
    return {
        "wer": as_json(words, unit.name),
        "cer": as_json(compare_tallies(before.characters, after.characters, unit), unit.name),
        "sentence": make_sentence(words, unit.name, unit.note, has_units=bool(before.words.units.any())),
    }


def compare_tallies(before: Tally, after: Tally, unit: Unit) -> Difference:
    assert np.array_equal(before.units, after.units), "both models must be scored against the same references"
    return compare_rates(before.edits, after.edits, before.units, unit.groups)


def as_json(difference: Difference, unit: str) -> dict[str, Any]:
    return {
        "before": difference.before,
        "after": difference.after,
        "difference": difference.difference,
        "interval": list(difference.interval) if difference.interval else None,
        "p_value": difference.p_value,
        "certain": difference.certain,
        "unit": unit,
        "units": difference.units,
        "needed_units": difference.needed_units,
    }


def make_sentence(difference: Difference, unit: str, note: str = "", has_units: bool = True) -> str:
    """As in "WER 12.4 → 8.1, 35 % fewer errors, certain at 95 % (200 clips)"; rates in percent."""
    if not has_units:
        return "WER: the references hold no words, so there is nothing to compare"
    rates = f"WER {' → '.join(say_rates(difference.before, difference.after))}"
    counted = say_count(difference.units, unit)
    end = f"; {note}" if note else ""
    if difference.certain:
        return f"{rates}, {say_change(difference.before, difference.after)}, certain at 95 % ({counted}{end})"
    if difference.interval is None:
        verb = "is" if difference.units == 1 else "are"
        return f"{rates}: {counted} {verb} too few to show a difference{end}"
    if difference.interval == (0.0, 0.0):
        return f"{rates}: the same number of errors everywhere ({counted}{end})"
    needed = f"; about {round_up(difference.needed_units):,} would be needed" if difference.needed_units else ""
    return f"{rates}: no difference can be shown with {counted}{needed}{end}"


def say_rates(before: float, after: float) -> tuple[str, str]:
    """Two rates in percent with one decimal, or as many up to three as it takes to tell them apart."""
    for decimals in (1, 2, 3):
        said = f"{100 * before:.{decimals}f}", f"{100 * after:.{decimals}f}"
        if said[0] != said[1]:
            return said
    return f"{100 * before:.1f}", f"{100 * after:.1f}"


def say_change(before: float, after: float) -> str:
    """By how much the errors changed; `before` and `after` differ."""
    if before == 0:
        return "errors where there were none"
    if after >= 2 * before:
        return f"{after / before:,.{0 if after >= 10 * before else 1}f} times as many errors"
    change = 100 * abs(after - before) / before
    share = f"{change:,.0f}"
    if change < 1:
        share = "under 1"
    elif 99 <= change < 100:
        share = "over 99"
    return f"{share} % {'fewer' if after < before else 'more'} errors"


def say_count(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def round_up(count: int) -> int:
    """To two digits that people can read: 1,873 becomes 1,900."""
    step: int = 10 ** max(0, int(math.log10(count)) - 1)
    return -(-count // step) * step
