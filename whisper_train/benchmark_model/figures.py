"""The turns as figures: medians and their range, ratios within a round, error rates and how they differ from float."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from whisper_train.benchmark_model.candidates import POST, TRAINED
from whisper_train.evaluation.bootstrap import rate_interval
from whisper_train.evaluation.compare import Unit, as_json, choose_unit, compare_tallies, make_sentence
from whisper_train.evaluation.score import Scored, count_pairs, rates

TIMED = ("encoder_ms", "decoder_ms", "latency_s")

Turns = Sequence[Mapping[str, Any]]


def speed(turns: Turns, before: Turns | None) -> dict[str, Any]:
    """Times of one candidate, and how many times as fast as `before` it is, round by round."""
    figures: dict[str, Any] = {
        key: with_ratio(medians(turns, key), medians(before, key) if before else None) for key in TIMED
    }
    figures["load_s"] = median(turn["load_seconds"] for turn in turns)
    figures["real_time_factor"] = {
        size: with_ratio(real_time_factors(turns, size), real_time_factors(before, size) if before else None)
        for size in turns[0]["batches"]
    }
    return figures


def medians(turns: Turns, key: str) -> list[float]:
    return [median(turn[key]) for turn in turns]


def real_time_factors(turns: Turns, size: str) -> list[float]:
    return [turn["batches"][size]["seconds"] / turn["batches"][size]["audio"] for turn in turns]


def with_ratio(values: Sequence[float], before: Sequence[float] | None) -> dict[str, Any]:
    """Median and range of `values`, one a round; `faster`: the same of before / value within each round."""
    figures: dict[str, Any] = spread(values)
    if before:
        figures["faster"] = spread([old / new for old, new in zip(before, values, strict=True)])
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def memory(turns: Turns) -> dict[str, Any]:
    """The most resident bytes of its process by batch; `model` without what libraries took before it was loaded."""
    peaks = {size: max(turn["peak_bytes"][size] for turn in turns) for size in turns[0]["peak_bytes"]}
    libraries = max(turn["libraries_bytes"] for turn in turns)
    return {"peak_bytes": peaks, "libraries_bytes": libraries, "model_bytes": max(0, peaks["1"] - libraries)}


def lines_of(turns: Turns) -> list[dict[str, Any]]:
    """Every clip once, in the order of sets and positions: the same for every candidate."""
    return sorted((line for turn in turns for line in turn["clips"]), key=lambda line: (line["set"], line["position"]))


def unit_of(lines: Sequence[Mapping[str, Any]]) -> Unit:
    """Over what comparisons are drawn. Recordings and clips of two sets are told apart; a speaker may be in both."""

    def labels(key: str) -> list[str]:
        return [f"{line['set']}:{line.get('source', 0)}:{line[key]}" if line.get(key) else "" for line in lines]

    return choose_unit([str(line.get("speaker") or "") for line in lines], labels("recording"), labels("clip"))


def score(lines: Sequence[Mapping[str, Any]], normalizer: str) -> Scored:
    return count_pairs([(line["reference"], line["hypothesis"]) for line in lines], [normalizer])[normalizer]


def error_rates(own: Scored, before: Scored | None, unit: Unit) -> dict[str, Any]:
    """WER and CER with their intervals; `difference` to `before` with its interval, and the sentence that says it."""
    figures: dict[str, Any] = {
        **{key: rates(own)[key] for key in ("wer", "cer", "words")},
        "wer_interval": rate_interval(own.words.edits, own.words.units, unit.groups),
        "cer_interval": rate_interval(own.characters.edits, own.characters.units, unit.groups),
    }
    if before is not None:
        figures["difference"] = compare(before, own, unit)
    return figures


def compare(before: Scored, own: Scored, unit: Unit) -> dict[str, Any]:
    words = compare_tallies(before.words, own.words, unit)
    characters = compare_tallies(before.characters, own.characters, unit)
    sentence = make_sentence(words, unit.name, unit.note, has_units=bool(own.words.units.any()))
    return {"wer": as_json(words, unit.name), "cer": as_json(characters, unit.name), "sentence": sentence}


def take(lines: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["set"] == name]


def hearing(found: Mapping[str, Turns], baseline: str, sets: Sequence[str], normalizer: str) -> dict[str, Any]:
    """By candidate its error rates over all sets together, and of each set under `sets`."""
    lines = {name: lines_of(turns) for name, turns in found.items()}
    unit = unit_of(lines[baseline])
    scored = {name: score(heard, normalizer) for name, heard in lines.items()}
    figures = {
        name: error_rates(own, None if name == baseline else scored[baseline], unit) | {"sets": {}}
        for name, own in scored.items()
    }
    for chosen in sets:
        own_unit = unit_of(take(lines[baseline], chosen))
        before = score(take(lines[baseline], chosen), normalizer)
        for name, heard in lines.items():
            own = score(take(heard, chosen), normalizer)
            figures[name]["sets"][chosen] = error_rates(own, None if name == baseline else before, own_unit)
    return figures


def compare_trained(
    candidates: Sequence[Mapping[str, Any]], found: Mapping[str, Turns], baseline: str, normalizer: str
) -> list[dict[str, Any]]:
    """Each trained file against the rounded one of the same format and precision; `won_back` of what that lost."""
    pairs = []
    unit = unit_of(lines_of(found[baseline]))
    scores = {
        one["name"]: score(lines_of(found[one["name"]]), normalizer) for one in candidates if one["name"] in found
    }
    for one in candidates:
        same = [
            other
            for other in candidates
            if other["origin"] == POST and all(other[key] == one[key] for key in ("format", "precision"))
        ]
        if one["origin"] != TRAINED or not same or not {one["name"], same[0]["name"]} <= scores.keys():
            continue
        rounded, trained = scores[same[0]["name"]], scores[one["name"]]
        lost = rounded.words.rate - scores[baseline].words.rate
        pairs.append(
            {
                "form": f"{one['format']} {one['precision']}",
                "trained": one["name"],
                "rounded": same[0]["name"],
                **compare(rounded, trained, unit),
                "lost_by_rounding": lost,
                "won_back": (rounded.words.rate - trained.words.rate) / lost if lost > 0 else None,
            }
        )
    return pairs


def other_texts(turns: Turns) -> dict[str, Any]:
    """By batch how many clips got another text than alone, and of how many: rounding may see the whole batch."""
    sizes = [size for size in turns[0]["batches"] if size != "1"]
    return {
        size: {key: int(np.sum([turn["batches"][size][key] for turn in turns])) for key in ("other_texts", "clips")}
        for size in sizes
    }
