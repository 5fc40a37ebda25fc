"""The results as text, for a terminal and a log."""

from collections.abc import Mapping, Sequence
from typing import Any

BANDS = ((0.10, "excellent"), (0.20, "good"), (0.30, "acceptable"))


def band(wer: float) -> str:
    return next((word for limit, word in BANDS if wer < limit), "poor")


def make_table(results: Mapping[str, Any]) -> str:
    """WER of every set with every model; then how the first ones compare, and the gates."""
    rows = [("set", "clips", "model", "WER", "95 % interval", "CER", "in words")]
    own = results["promoted"] is not None  # the evaluation of a run, whose model and base need no names
    names = {label: label if own else str(model["model"]) for label, model in results["models"].items()}
    for name, result in results["sets"].items():
        models = [("tuned", result), ("baseline", result["baseline"]), *result["others"].items()]
        for label, own in models:
            if own is not None:
                rows.append((name, f"{result['clips']:,}", names[label], *score_cells(own)))
    lines = align(rows)
    for name, result in results["sets"].items():
        if result["comparison"]:
            lines.append(f"{name}: {result['comparison']['sentence']}")
        if result.get("alone"):
            lines.append(f"{name}: {say_alone(result, names)}")
    if results.get("travel"):
        from whisper_train.entities.speech import table_rows

        lines += ["", *align(table_rows(results["travel"])), ""]
    for gate in results["gates"]:
        lines.append(f"gate {gate['gate']}: {'met' if gate['met'] else 'MISSED'}: {gate['sentence']}")
    return "\n".join(lines)


def say_alone(result: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """How each model did on joined clips, and on the same clips one by one."""
    entries = {"tuned": result, "baseline": result["baseline"], **result["others"]}
    rates = [
        f"{names[label]} {one['wer']:.2%} joined, {one['alone']['wer']:.2%} one by one"
        for label, one in entries.items()
        if one and one.get("alone")
    ]
    return f"WER of {result['alone']['clips']:,} clips of {result['alone']['set']}: {'; '.join(rates)}"


def score_cells(own: Mapping[str, Any]) -> tuple[str, str, str, str]:
    interval = own["wer_interval"]
    shown = f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "-"
    return f"{own['wer']:.2%}", shown, f"{own['cer']:.2%}", band(own["wer"])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first row is the heading; columns are as wide as their widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
