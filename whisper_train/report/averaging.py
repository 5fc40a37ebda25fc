"""The curve between base and tuned model, as run.json has it, arranged for the page."""

from collections.abc import Mapping
from typing import Any

from whisper_train.report.charts import Series, line_chart
from whisper_train.report.figures import Chart
from whisper_train.report.formats import percent


def draw_averaging(run: Mapping[str, Any]) -> list[Chart]:
    """The error rate of every set over the share of the tuned model, with what was kept marked; nothing without it."""
    made = run.get("averaging") or {}
    return [draw_set(name, metric.upper(), made) for name, metric in made.get("metrics", {}).items()]


def draw_set(name: str, metric: str, made: Mapping[str, Any]) -> Chart:
    points = [(float(point["weight"]), float(point["rates"][name])) for point in made["curve"]]
    described = "; ".join(f"{weight:g}: {percent(rate)}" for weight, rate in points)
    drawing = line_chart(
        [Series(name, "first", points)],
        title=f"{metric} on {name} by share of the tuned model. {described}; kept: {made['chosen']:g}",
        x_label="share of the tuned model; the upright line is what was kept",
        form=lambda value: f"{100 * value:.4g} %",
        marked=float(made["chosen"]),
    )
    return Chart(f"{metric} on {name}", drawing, [])


def list_averages(run: Mapping[str, Any]) -> list[tuple[str, bool, list[float]]]:
    """(weight as people read it, whether it was kept, the rate on every set) of each average, base and tuned model."""
    made = run.get("averaging") or {}
    ends = {0: " (base)", 1: " (tuned)"}
    return [
        (
            f"{point['weight']:g}{ends.get(point['weight'], '')}",
            point["weight"] == made["chosen"],
            [point["rates"][name] for name in made["metrics"]],
        )
        for point in made.get("curve", [])
    ]
