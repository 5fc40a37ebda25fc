"""What a run proved: results.json, the transcriptions behind it, and the table that is printed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.data.index import Index
from whisper_train.evaluation.normalize import VERSIONS, make_normalizer
from whisper_train.evaluation.score import Counts, count_errors
from whisper_train.paths import written_whole

BANDS = ((0.10, "excellent"), (0.20, "good"), (0.30, "acceptable"))
RESAMPLES = 1_000
PERCENTILES = (2.5, 97.5)


def score_texts(index: Index, texts: Mapping[int, str], normalizer: str) -> dict[str, Any]:
    """WER and CER, as fractions with 95 % intervals, of the clips in `texts` (position in the index -> hypothesis)."""
    normalize = make_normalizer(normalizer)
    positions = sorted(texts)
    references = [normalize(index[position]["text"]) for position in positions]
    hypotheses = [normalize(texts[position]) for position in positions]
    words = count_errors(references, hypotheses, "word")
    characters = count_errors(references, hypotheses, "character")
    return {
        "wer": words.rate,
        "wer_interval": _interval(words),
        "cer": characters.rate,
        "cer_interval": _interval(characters),
    }


def _interval(counts: Counts) -> tuple[float, float]:
    """95 % interval of the rate by bootstrap over clips (Bisani and Ney 2004)."""
    chance = np.random.default_rng(0)
    edits, units = counts.edits, counts.units
    rates = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = chance.integers(0, len(edits), len(edits))
        rates[number] = edits[drawn].sum() / max(units[drawn].sum(), 1)
    low, high = np.percentile(rates, PERCENTILES)
    return float(low), float(high)


def set_result(
    index: Index,
    tuned: Mapping[int, str],
    baseline: Mapping[int, str] | None,
    *,
    normalizer: str,
    sources: Sequence[str],
    digest: str,
    revisions: Sequence[str | None],
) -> dict[str, Any]:
    """One eval set's entry in results.json."""
    return {
        **score_texts(index, tuned, normalizer),
        "baseline": score_texts(index, baseline, normalizer) if baseline is not None else None,
        "normalizer": normalizer,
        "normalizer_version": VERSIONS[normalizer],
        "clips": len(tuned),
        "seconds": round(float(np.nansum(index.column("seconds")[sorted(tuned)])), 3),
        "sources": list(sources),
        "revisions": list(revisions),
        "digest": digest,
    }


def write_transcriptions(
    path: Path, index: Index, tuned: Mapping[int, str], baseline: Mapping[int, str] | None
) -> None:
    """One JSON object a clip: what was said, what the tuned model and its baseline heard."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for position in sorted(tuned):
            row = index[position]
            line = {
                "clip": row["id"],
                "speaker": row["speaker"],
                "reference": row["text"],
                "hypothesis": tuned[position],
            }
            if baseline is not None:
                line["baseline"] = baseline[position]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def band(wer: float) -> str:
    return next((word for limit, word in BANDS if wer < limit), "poor")


def make_table(results: dict[str, Any]) -> str:
    """WER of every set before and after, as text."""
    rows = [("set", "clips", "WER before", "WER after", "95 % interval", "change", "in words")]
    for name, result in results["sets"].items():
        before, after = result["baseline"], result["wer"]
        change = f"{after / before['wer'] - 1:+.0%}" if before and before["wer"] else "-"
        low, high = result["wer_interval"]
        rows.append(
            (
                name,
                f"{result['clips']:,}",
                f"{before['wer']:.2%}" if before else "-",
                f"{after:.2%}",
                f"{low:.2%} to {high:.2%}",
                change,
                band(after),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def judge_goal(goal: float | None, results: dict[str, Any]) -> dict[str, Any] | None:
    """The goal on the first eval set with what was measured."""
    if goal is None:
        return None
    name, result = next(iter(results["sets"].items()))
    return {"set": name, "metric": "wer", "goal": goal, "measured": result["wer"], "met": result["wer"] <= goal}
