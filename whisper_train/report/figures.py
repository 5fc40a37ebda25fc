"""The figures of results.json arranged for the page: models per set, curves, and charts by duration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from whisper_train.report.charts import THIN, Dots, Series, dot_chart, interval_bar, line_chart
from whisper_train.report.formats import interval, limits, number, percent

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its heading and the keys (name, class) of what is drawn."""

    title: str
    drawing: Markup
    keys: list[tuple[str, str]]


def labels_of(results: Mapping[str, Any]) -> list[str]:
    """The models' labels, the one that is judged first."""
    return list(results.get("models") or {"tuned": {}})


def models_of(results: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(label, class, figures) of every model that transcribed the set of `result`."""
    entries = [(labels_of(results)[0], "first", result)]
    if result.get("baseline"):
        entries.append((BASELINE, "baseline", result["baseline"]))
    return entries + [(label, "other", entry) for label, entry in (result.get("others") or {}).items()]


def highest_rate(entries: Sequence[tuple[str, str, Mapping[str, Any]]]) -> float:
    """The right end of the scale on which the models of one set are drawn."""
    rates = [number(entry.get("wer")) for _, _, entry in entries]
    ends = [limits(entry.get("wer_interval")) for _, _, entry in entries]
    return max([rate for rate in rates if rate is not None] + [pair[1] for pair in ends if pair] + [0.0])


def draw_interval(entry: Mapping[str, Any], kind: str, highest: float) -> Markup:
    """The WER of one model with its interval; nothing where there is none."""
    wer = number(entry.get("wer"))
    if wer is None:
        return Markup("")
    title = f"WER {percent(wer)}, 95 % interval {interval(entry.get('wer_interval'))}"
    return interval_bar(wer, limits(entry.get("wer_interval")), highest, kind, title)


def normalizers_of(entries: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[tuple[str, str, list[Any]]]:
    """(name, version, each model's figures) of all normalizers that any of the models has."""
    tables = [entry.get("by_normalizer") or {} for _, _, entry in entries]
    versions = {name: str(row.get("version", "")) for table in tables for name, row in table.items()}
    return [(name, version, [table.get(name) or {} for table in tables]) for name, version in versions.items()]


def points_of(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the entries that have `key`; of a step that comes twice the later one, as after a resume."""
    found: dict[float, float] = {}
    for entry in history:
        step, value = number(entry.get("step")), number(entry.get(key))
        if step is not None and value is not None:
            found[step] = value
    return sorted(found.items())


def draw_curves(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Loss and WER over the steps, as far as they were logged."""
    charts = []
    training, evaluated = points_of(history, "loss"), points_of(history, "eval_loss")
    if training or evaluated:
        series = [
            Series("training", f"baseline{THIN}", training),
            Series("evaluation", "first", evaluated),
        ]
        charts.append(curve("Loss", series, lambda value: f"{value:.4g}"))
    if wers := points_of(history, "eval_wer"):
        charts.append(
            curve("WER on the first set", [Series("WER", "first", wers)], lambda value: f"{100 * value:.4g} %")
        )
    return charts


def curve(title: str, series: Sequence[Series], form: Any) -> Chart:
    shown = [one for one in series if one.points]
    last = "; ".join(f"{one.name}: {form(one.points[0][1])} to {form(one.points[-1][1])}" for one in shown)
    drawing = line_chart(shown, title=f"{title} over steps. {last}", x_label="step", form=form)
    return Chart(title, drawing, [(one.name, one.kind) for one in shown] if len(shown) > 1 else [])


def draw_durations(results: Mapping[str, Any]) -> list[Chart]:
    """WER by the length of clips, for every set that was sliced so."""
    charts = []
    for name, result in results["sets"].items():
        rows = [row for row in (result.get("slices") or {}).get("duration") or [] if number(row.get("wer")) is not None]
        if not rows:
            continue
        first = labels_of(results)[0]
        dots = [dots_of(rows, first, "first", "wer"), dots_of(rows, BASELINE, "baseline", "baseline_wer")]
        dots = [row for row in dots if any(value is not None for value in row.values)]
        values = [str(row.get("value", "")) for row in rows]
        described = "; ".join(f"{row.get('value')}: {percent(row.get('wer'))}" for row in rows)
        drawing = dot_chart(
            values,
            dots,
            title=f"WER on {name} by length of clip. {described}",
            x_label="length of clip, with 95 % intervals",
            form=lambda value: f"{100 * value:.4g} %",
        )
        charts.append(Chart(name, drawing, [(row.name, row.kind) for row in dots]))
    return charts


def dots_of(rows: Sequence[Mapping[str, Any]], name: str, kind: str, key: str) -> Dots:
    return Dots(
        name, kind, [number(row.get(key)) for row in rows], [limits(row.get(f"{key}_interval")) for row in rows]
    )
