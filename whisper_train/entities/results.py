"""results.json of an entity model: every figure, from the files of predictions alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.entities.predictions import read_predictions
from whisper_train.entities.scores import Counts, count_sentences, rates_with_intervals
from whisper_train.evaluation.bootstrap import compare_rates
from whisper_train.evaluation.gates import gate, percent
from whisper_train.evaluation.results import BASELINE, FORMAT, TUNED
from whisper_train.evaluation.table import align
from whisper_train.job import Gates, Job
from whisper_train.job_entities import ENTITIES, ENTITIES_TASK
from whisper_train.paths import write_json
from whisper_train.run_folder import now


def write_results(
    folder: Path, job: Job, gates: Gates | None, names: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Scores the predictions in `folder` into results.json, and returns it; without `gates` nothing is judged."""
    results: dict[str, Any] = {"version": FORMAT, "task": ENTITIES_TASK, "date": now(), "job": job.name}
    results |= {"language": job.language, "sets": {}, "models": {}}
    for name in names:
        read = {label: read_predictions(folder / "predictions" / label / f"{name}.jsonl") for label in labels}
        results["sets"][name] = set_result(read, [source.label for source in job.data.eval[name]])
        for label, (header, _) in read.items():
            results["models"][label] = {"model": header["model"], "digest": header["model_digest"]}
        results["versions"] = read[TUNED][0].get("versions")
    results["base"] = results["models"].get(BASELINE, {}).get("model")
    results["gates"] = judge(gates, results) if gates else []
    results["promoted"] = all(one["met"] for one in results["gates"]) if gates else None
    write_json(folder / "results.json", results)
    return results


def set_result(
    read: Mapping[str, tuple[dict[str, Any], list[dict[str, Any]]]], sources: Sequence[str]
) -> dict[str, Any]:
    """One set's entry: the judged model's figures, the others', how it compares with the baseline, and each kind."""
    header, lines = read[TUNED]
    patterns = [line["pattern"] or line["text"] for line in lines]
    groups = np.unique(patterns, return_inverse=True)[1] if lines else np.zeros(0, int)
    counts = {
        label: count_sentences([line["labels"] for line in own], [line["predicted"] for line in own])
        for label, (_, own) in read.items()
    }
    figures = {label: rates_with_intervals(one, groups) for label, one in counts.items()}
    return {
        "clips": len(lines),
        "patterns": len(set(patterns)),
        "sources": list(sources),
        **figures.pop(TUNED),
        "baseline": figures.pop(BASELINE, None),
        "others": figures,
        "comparison": compare(counts[BASELINE], counts[TUNED], groups) if BASELINE in counts else None,
        "kinds": list_kinds(lines, counts, groups),
        "contamination": header.get("contamination"),
    }


def compare(before: Counts, after: Counts, groups: np.ndarray) -> dict[str, Any]:
    """Sentences that are wrong before and after, paired by pattern."""
    units = np.ones(len(groups))
    found = compare_rates(1.0 - before.right, 1.0 - after.right, units, groups)
    certain = "certain at 95 %" if found.certain else "perhaps chance"
    was, now_is = percent(1 - found.before), percent(1 - found.after)
    sentence = f"sentences with all cities right: {was} before, {now_is} now; {certain}"
    return {
        "difference": found.difference,
        "interval": found.interval,
        "p_value": found.p_value,
        "certain": found.certain,
        "unit": "pattern",
        "units": found.units,
        "sentence": sentence,
    }


def list_kinds(
    lines: Sequence[Mapping[str, Any]], counts: Mapping[str, Counts], groups: np.ndarray
) -> list[dict[str, Any]]:
    """Figures of each kind of sentence, the judged model's and every other's sentence accuracy; the worst kind last.

    F1 is of all entities together: many kinds do not have each of them, and one false stop would halve a mean.
    """
    kinds = np.array([line["kind"] for line in lines])
    rows = []
    for kind in dict.fromkeys(kinds.tolist()):
        chosen = kinds == kind
        own = rates_with_intervals(counts[TUNED].of(chosen), groups[chosen])
        rows.append(
            {
                "kind": kind or "not told",
                "sentences": int(chosen.sum()),
                "true": int(counts[TUNED].true[chosen].sum()),
                **{key: own[key] for key in ("f1", "f1_interval")},
                **{key: own[key] for key in ("sentence_accuracy", "sentence_accuracy_interval")},
                "others": {label: float(one.right[chosen].mean()) for label, one in counts.items() if label != TUNED},
            }
        )
    return sorted(rows, key=lambda row: -row["sentence_accuracy"])


def judge(gates: Gates, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each gate that `gates` states, judged on the first set."""
    name, first = next(iter(results["sets"].items()))
    judged = []
    for key, words in (("macro_f1", "macro F1"), ("sentence_accuracy", "share of sentences with all cities right")):
        if (limit := getattr(gates, key)) is not None:
            sentence = f"{words} on {name} is {percent(first[key])}; at least {percent(limit)} was asked for"
            judged.append(gate(key, name, "rate", limit, first[key], first[key] >= limit, sentence))
    if gates.significant:
        compared = first["comparison"]
        met = bool(compared["certain"] and compared["difference"] < 0)
        judged.append(gate("significant", name, "p", 0.05, compared["p_value"], met, f"{name}: {compared['sentence']}"))
    return judged


def make_table(results: Mapping[str, Any]) -> str:
    """The results as text: every set with every model, then each kind of sentence, and the gates."""
    rows: list[Sequence[str]] = [
        (
            "set",
            "sentences",
            "model",
            *(f"F1 {entity}" for entity in ENTITIES),
            "macro F1",
            "95 % interval",
            "all right",
        )
    ]
    for name, result in results["sets"].items():
        for label, one in models_in(result):
            scores = [percent_or_dash(one["entities"][entity]["f1"]) for entity in ENTITIES]
            rows.append(
                (
                    name,
                    f"{result['clips']:,}",
                    label,
                    *scores,
                    percent(one["macro_f1"]),
                    between(one["macro_f1_interval"]),
                    percent(one["sentence_accuracy"]),
                )
            )
    lines = [*align(rows), ""]
    kinds: list[Sequence[str]] = [("set", "kind of sentence", "sentences", "F1", "all right", "95 % interval")]
    for name, result in results["sets"].items():
        for row in result["kinds"]:
            score = percent(row["f1"]) if row["true"] else "-"
            cells = (score, percent(row["sentence_accuracy"]), between(row["sentence_accuracy_interval"]))
            kinds.append((name, row["kind"], f"{row['sentences']:,}", *cells))
    lines += align(kinds)
    for name, result in results["sets"].items():
        if result["comparison"]:
            lines.append(f"{name}: {result['comparison']['sentence']}")
    for one in results["gates"]:
        lines.append(f"gate {one['gate']}: {'met' if one['met'] else 'MISSED'}: {one['sentence']}")
    return "\n".join(lines)


def models_in(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(label, figures) of every model on a set, the judged one first."""
    named = [("tuned", result), ("zero-shot", result["baseline"]), *result["others"].items()]
    return [(label, one) for label, one in named if one is not None]


def percent_or_dash(value: float | None) -> str:
    return "-" if value is None else percent(value)


def between(interval: Sequence[float] | None) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else "-"
