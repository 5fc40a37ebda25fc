"""The figures as a picture: size against WER, and speed against WER."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_train.benchmark_model.candidates import FLOAT, POST, TRAINED
from whisper_train.benchmark_model.table import measured
from whisper_train.report.plots import GRID, INK, drawn

COLORS = {FLOAT: "#777777", POST: "#D1752B", TRAINED: "#2B6CB0"}
MARKS = {"transformers": "s", "onnx": "o", "ctranslate2": "^"}
LABELS = {FLOAT: "float", POST: "post-training quantization", TRAINED: "quantization-aware training"}


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes `path`.png and `path`.svg."""
    with drawn(path, 5.2, footnote(results)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        points(left, results, lambda one: one["size_bytes"] / 1e6)
        left.set_title("Size")
        left.set_xlabel("MB on the disk")
        left.set_ylabel("WER, %")
        points(right, results, lambda one: 1 / one["real_time_factor"]["1"]["median"])
        right.set_title("Speed")
        right.set_xlabel("seconds of speech a second, one clip at a time")
        legend(figure)


def points(axes: Any, results: Mapping[str, Any], value: Any) -> None:
    """A mark for each candidate at (value, WER): its colour says the origin, its shape the format."""
    for number, one in enumerate(measured(results)):
        x, y = value(one), 100 * one["wer"]
        color = COLORS[one["origin"]]
        difference = one.get("difference", {}).get("wer")
        if difference and difference["interval"]:
            before = 100 * difference["before"]
            axes.plot(
                (x, x), [before + 100 * end for end in difference["interval"]], color=color, linewidth=1, alpha=0.5
            )
        axes.plot(x, y, MARKS[one["format"]], color=color, markersize=8, markeredgecolor="white")
        above = 7 if number % 2 == 0 else -14  # neighbours are often equally good: their names are not to lie on one
        axes.annotate(one["precision"], (x, y), (0, above), textcoords="offset points", ha="center", fontsize=8.5)
    axes.set_xscale("log")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    plain_ticks(axes)


def plain_ticks(axes: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade, instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], marker="o", linestyle="", color=color, label=LABELS[origin]) for origin, color in COLORS.items()
    ]
    keys += [
        Line2D([], [], marker=mark, linestyle="", markerfacecolor="white", color=INK, label=form)
        for form, mark in MARKS.items()
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=6, frameon=False, fontsize=9.5)


def footnote(results: Mapping[str, Any]) -> str:
    machine, clips = results["machine"], sum(one["clips"] for one in results["sets"].values())
    return (
        f"{results['job']}: {clips:,} clips of {', '.join(results['sets'])}; {machine['processor']},"
        f" threads: {results['settings']['threads']}. Lines: the 95 % interval of the difference to float"
    )
