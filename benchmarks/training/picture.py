"""The results as a picture: held-out loss over wall time, throughput, and the wait for the first update."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.training.ways import WAYS
from whisper_train.report.plots import GRID, INK, drawn


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes `path`.png and `path`.svg."""
    with drawn(path, 4.8, footnote(results)) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
        draw_loss(figure.add_subplot(grid[:, 0]), results)
        draw_rate(figure.add_subplot(grid[0, 1]), results)
        draw_first_update(figure.add_subplot(grid[1, 1]), results)


def draw_loss(axes: Any, results: Mapping[str, Any]) -> None:
    for name, way in results["ways"].items():
        minutes = [point["train_seconds"] / 60 for point in way["points"]]
        losses = [point["held_out_loss"] for point in way["points"]]
        axes.plot(minutes, losses, marker="o", markersize=4, linewidth=2, color=WAYS[name].color, label=way["label"])
    axes.set_title("Held-out loss at equal wall time")
    axes.set_xlabel("training time, minutes")
    axes.set_ylabel("cross entropy, nats a token")
    axes.set_xlim(left=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.legend(frameon=False)


def draw_rate(axes: Any, results: Mapping[str, Any]) -> None:
    ways = results["ways"]
    values = {name: way["audio_hours_per_hour"] for name, way in ways.items()}
    texts = {name: f"{value['median']:.1f}" for name, value in values.items()}
    for name, against in results["against_stock"].items():
        texts[name] += f"  ({against['audio_hours_per_hour']['median']:.1f}×)"
    medians = {name: value["median"] for name, value in values.items()}
    bars(axes, results, medians, texts, {name: (value["least"], value["most"]) for name, value in values.items()})
    axes.set_title("Speech per hour of training")
    axes.set_xlabel("hours of audio, median and range of the rounds")


def draw_first_update(axes: Any, results: Mapping[str, Any]) -> None:
    values = {name: way["first_update_after_seconds"] for name, way in results["ways"].items()}
    bars(axes, results, values, {name: f"{value:.1f}" for name, value in values.items()}, {})
    axes.set_title("Wait for the first update")
    axes.set_xlabel("seconds from the start of the process")


def bars(
    axes: Any,
    results: Mapping[str, Any],
    values: Mapping[str, float],
    texts: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """A bar for each way, the first one on top, with `texts` at their ends and `ranges` as whiskers."""
    widest = max([*values.values(), *(most for _, most in ranges.values())])
    for place, (name, value) in enumerate(values.items()):
        axes.barh(place, value, height=0.62, color=WAYS[name].color)
        least, most = ranges.get(name, (value, value))
        if name in ranges:
            axes.plot((least, most), (place, place), color=INK, linewidth=1.4, marker="|", markersize=7)
        axes.text(most + 0.015 * widest, place, texts[name], va="center")
    axes.set_yticks(range(len(values)), [results["ways"][name]["label"] for name in values])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * widest)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def footnote(results: Mapping[str, Any]) -> str:
    material, machine, settings = results["material"], results["machine"], results["settings"]
    return (
        f"Whisper {settings['model_size']}, random weights, {results['precision']};"
        f" {material['training_clips']:,} clips of {material['mean_clip_seconds']:.1f} s on average;"
        f" {machine['gpu'] or machine['processor']}, {machine['cores']} cores"
    )
