"""The table of a chain: stages and sets, what each stage gave, what was lost of what had been learned, what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.evaluation.bootstrap import rate_interval
from whisper_train.evaluation.compare import Unit, as_json, choose_unit, compare_tallies
from whisper_train.evaluation.gates import UNSPACED_LANGUAGES
from whisper_train.evaluation.results import aligned, column, languages_of, within_source
from whisper_train.evaluation.score import count_pairs
from whisper_train.evaluation.table import align
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.run_log import duration

OWN, BETTER, WORSE = "*", "↓", "↑"
LEGEND = f"{OWN} what the stage is for; {BETTER} {WORSE} certainly better or worse than the stage before (95 %)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A row to be: one model, what it heard in which set, and the set that its stage is for (none: the first base)."""

    name: str
    files: Mapping[str, Path]
    own_set: str | None
    seconds: float | None
    long_form: Mapping[str, Any] | None = None


def make_rows(models: Sequence[Measured], sets: Sequence[str], normalizer: str) -> list[dict[str, Any]]:
    """A row for each model, in order: `sets` holds for each set what score_set() says of it."""
    scored = {name: score_set(models, name, normalizer) for name in sets}
    return [
        {
            "stage": model.name,
            "own_set": model.own_set,
            "seconds": model.seconds,
            "long_form": model.long_form,
            "sets": {name: rows[position] for name, rows in scored.items() if rows[position]},
        }
        for position, model in enumerate(models)
    ]


def score_set(models: Sequence[Measured], name: str, normalizer: str) -> list[dict[str, Any] | None]:
    """For each model its rate on the set, a fraction, with its 95 % interval; None for one that was not measured.

    `change` compares with the model before; `lost` is how much worse the rate is than that of the model whose stage the
    set belongs to, or of the first model for a set of no stage's own.
    """
    read = {
        position: read_transcription(model.files[name]) for position, model in enumerate(models) if name in model.files
    }
    if not read:
        return [None] * len(models)
    first = next(iter(read.values()))
    metric = "cer" if set(languages_of(first)) <= UNSPACED_LANGUAGES else "wer"
    unit = unit_of(first.lines)
    tallies = {}
    for position, transcription in read.items():
        scores = count_pairs(aligned(transcription, first), [normalizer])[normalizer]
        tallies[position] = scores.words if metric == "wer" else scores.characters
    learned = next((position for position, model in enumerate(models) if model.own_set == name), min(read))
    rows: list[dict[str, Any] | None] = []
    before = None
    for position in range(len(models)):
        tally = tallies.get(position)
        if tally is None:
            rows.append(None)
            continue
        later = position > learned and learned in tallies
        rows.append(
            {
                "metric": metric,
                "rate": tally.rate,
                "interval": rate_interval(tally.edits, tally.units, unit.groups),
                "clips": len(first.lines),
                "change": as_json(compare_tallies(before, tally, unit), unit.name) if before else None,
                "lost": tally.rate - tallies[learned].rate if later else None,
            }
        )
        before = tally
    return rows


def unit_of(lines: Sequence[Mapping[str, Any]]) -> Unit:
    return choose_unit(column(lines, "speaker"), within_source(lines, "recording"), within_source(lines, "clip"))


def most_lost(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The largest loss on any set after it was learned: set, stage, points as a fraction; None with a single stage."""
    losses = [
        {"set": name, "stage": row["stage"], "lost": one["lost"]}
        for row in rows
        for name, one in row["sets"].items()
        if one["lost"] is not None
    ]
    return max(losses, key=lambda loss: loss["lost"], default=None)


def show_rows(rows: Sequence[Mapping[str, Any]], sets: Sequence[str]) -> list[str]:
    """The table for a terminal, without its legend."""
    table = [("stage", *sets, "took")]
    for row in rows:
        cells = [show_cell(row["sets"].get(name), own=name == row["own_set"]) for name in sets]
        table.append((row["stage"], *cells, duration(row["seconds"]) if row["seconds"] else "-"))
    lines = align(table)
    for row in rows:
        if row["long_form"]:
            lines.append(show_long_form(row))
    return lines


def show_cell(one: Mapping[str, Any] | None, *, own: bool) -> str:
    if one is None:
        return "-"
    interval = f" ({100 * one['interval'][0]:.1f}–{100 * one['interval'][1]:.1f})" if one["interval"] else ""
    change = one["change"]
    sign = (BETTER if change["difference"] < 0 else WORSE) if change and change["certain"] else ""
    return f"{one['rate']:.2%}{interval} {OWN if own else ''}{sign}".rstrip()


def show_long_form(row: Mapping[str, Any]) -> str:
    measured = row["long_form"]
    before = f" after {measured['baseline']['wer']:.2%}" if measured.get("baseline") else ""
    minutes = measured["seconds"] / 60
    alone = measured.get("alone")  # the same clips one by one
    name = alone["set"] if alone else row["own_set"]
    clips = f"; clip by clip {alone['wer']:.2%}" if alone else ""
    return f"{row['stage']}: long recordings of {name}, {minutes:.0f} min: WER {measured['wer']:.2%}{before}{clips}"


def say_losses(name: str, rows: Sequence[Mapping[str, Any]], beside: str, others: Sequence[Mapping[str, Any]]) -> str:
    """The sentence below the table: the most that any set lost after it was learned, in one chain and in the other."""
    loss = most_lost(rows)
    said = f"{name}: {say_most_lost(loss)}"
    if not others:
        return said
    other = most_lost(others)
    times = ""
    if loss and other and 0 < loss["lost"] < other["lost"]:
        times = f", {other['lost'] / loss['lost']:.1f} times as much"
    return f"{said}; {beside}: {say_most_lost(other)}{times}"


def say_most_lost(loss: Mapping[str, Any] | None) -> str:
    if loss is None:
        return "nothing could be lost yet"
    if loss["lost"] <= 0:
        return "no set got worse after it was learned"
    return f"at most {100 * loss['lost']:.2f} points of what was learned were lost ({loss['set']}, in {loss['stage']})"
