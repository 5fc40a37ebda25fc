"""The figures as tables in Markdown, for people and for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

MB = 1e6

Figures = Mapping[str, Any]


def make_table(results: Figures) -> str:
    """A row for each candidate, then what was measured, and the sentences at the end."""
    parts = [main_table(results)]
    if len(results["sets"]) > 1:
        parts.append(set_table(results))
    parts += [failures(results), *describe(results)]
    parts.append("\n".join(f"- {sentence}" for sentence in results["verdict"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def main_table(results: Figures) -> str:
    sizes = results["batches"]
    head = ["file", "MB", "memory MB", "encoder ms", "decoder ms a token", "a window, s"]
    head += [f"RTF × {size}" for size in sizes]
    head += ["WER", "against float", "CER", "against float"]
    rows = [row(one, sizes) for one in measured(results)]
    return lines([head, *rows])


def measured(results: Figures) -> list[Figures]:
    return [one for one in results["candidates"] if "failed" not in one]


def row(one: Figures, sizes: Sequence[str]) -> list[str]:
    cells = [one["name"], f"{one['size_bytes'] / MB:,.1f} ({one['size_ratio']:.2f})"]
    cells.append(f"{one['memory']['peak_bytes']['1'] / MB:,.0f} ({one['memory']['model_bytes'] / MB:,.0f})")
    cells += [
        timed(one[key], form) for key, form in (("encoder_ms", ".0f"), ("decoder_ms", ".2f"), ("latency_s", ".2f"))
    ]
    cells += [timed(one["real_time_factor"][size], ".4f") for size in sizes]
    for key in ("wer", "cer"):
        cells += [percent(one[key]), change(one.get("difference", {}).get(key))]
    return cells


def timed(figures: Figures, form: str) -> str:
    """The median; and how many times as fast as the baseline, with its range over the rounds."""
    text = format(figures["median"], form)
    if "faster" not in figures:
        return text
    faster = figures["faster"]
    return f"{text} (**{faster['median']:.2f}×**, {faster['least']:.2f} to {faster['most']:.2f})"


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def change(difference: Figures | None) -> str:
    """Points that a rate lies above that of float, with the 95 % interval."""
    if difference is None:
        return "–"
    text = f"{100 * difference['difference']:+.2f}"
    if difference["interval"] is None:
        return f"{text} (too few {difference['unit']}s)"
    low, high = difference["interval"]
    return f"{text} ({100 * low:+.2f} to {100 * high:+.2f})"


def set_table(results: Figures) -> str:
    """WER of each set by itself."""
    names = list(results["sets"])
    head = ["file", *(cell for name in names for cell in (f"WER {name}", "against float"))]
    rows = []
    for one in measured(results):
        cells = [one["name"]]
        for name in names:
            cells += [percent(one["sets"][name]["wer"]), change(one["sets"][name].get("difference", {}).get("wer"))]
        rows.append(cells)
    return lines([head, *rows])


def failures(results: Figures) -> str:
    failed = [one for one in results["candidates"] if "failed" in one]
    return "\n".join(f"- not measured: {one['name']}: {one['failed']}" for one in failed)


def describe(results: Figures) -> list[str]:
    """What was measured, on what."""
    machine, settings = results["machine"], results["settings"]
    sets = "; ".join(
        f"{name}: {one['clips']:,} clips"
        + (f", {one['left_out']:,} longer than the window left out" if one["left_out"] else "")
        for name, one in results["sets"].items()
    )
    return [
        f"{sets}. {settings['rounds']} rounds in turn, {settings['threads']} threads, beams {settings['beams']},"
        f" normalizer {settings['normalizer']}. In brackets: size and speed against {results['baseline']}, least to"
        " most of the rounds; memory without what libraries take; points of WER and CER with their 95 % interval.",
        f"A window is {results['window_seconds']:g} s with {settings['tokens']} tokens. RTF × n: seconds of work for a"
        f" second of speech in batches of n. {machine['processor']}, {machine['cores']} cores,"
        f" torch {results['versions'].get('torch', '?')}.",
    ]


def lines(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *others))
