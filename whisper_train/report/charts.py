"""Charts as inline SVG. Colours and fonts come from the page's style sheet, by class; shapes tell series apart too."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 220  # units of the view box: about the pixels of a phone, so that text stays readable there
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 10, 34
BAR_WIDTH, BAR_HEIGHT = 180, 16
LOG_FROM = 20.0  # largest by smallest value from which a logarithmic axis shows more
MOST_POINTS = 300
THIN = " thin"  # ends the class of a line that has too many points for marks
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its points (x, y) in order of x; `kind` is the class that styles it, with THIN it has no marks."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Dots:
    """One value per category with its interval; None where there is none."""

    name: str
    kind: str
    values: Sequence[float | None]
    intervals: Sequence[tuple[float, float] | None]


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values laid over pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values that cover `low` to `high`, about `about` of them."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in STEPS if size * magnitude >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Values 1, 2 and 5 of each decade, or 1 alone where there are many, that cover `low` to `high` (both above 0)."""
    steps = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
    below = [tick for tick in ticks if tick <= low * (1 + 1e-9)]
    above = [tick for tick in ticks if tick >= high * (1 - 1e-9)]
    return [tick for tick in ticks if below[-1] <= tick <= above[0]]


def thin_out(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """`points`, or the means of at most `most` equal runs of them: what a line of some hundred pixels can show."""
    if len(points) <= most:
        return list(points)
    edges = [number * len(points) // most for number in range(most + 1)]
    runs = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, form: Format, marked: float | None = None
) -> Markup:
    """Lines over a linear x axis; y is logarithmic where the values span much, and else starts at or near 0.

    An upright line stands at the x that is `marked`.
    """
    lines = [Series(one.name, one.kind, thin_out(one.points)) for one in series if one.points]
    x_values = [x for one in lines for x, _ in one.points]
    y_values = [y for one in lines for _, y in one.points]
    smallest, largest = min(y_values), max(y_values)
    logarithmic = smallest > 0 and largest / smallest > LOG_FROM
    y_ticks = logarithmic_ticks(smallest, largest) if logarithmic else linear_ticks(min(smallest, 0.0), largest)
    y_axis = Axis(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, logarithmic)
    x_ticks = linear_ticks(min(*x_values, 0.0), max(*x_values, 1.0), 4)
    x_axis = Axis(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    parts = [draw_y_axis(y_axis, y_ticks, form), draw_x_ticks(x_axis, x_ticks)]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label, "label"))
    if marked is not None:
        upright = Markup('<path class="marked" d="M{} {}V{}"/>')
        parts.append(upright.format(x_axis.place(marked), TOP, HEIGHT - BOTTOM))
    for one in lines:
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in one.points]
        line = " ".join(f"{x:g},{y:g}" for x, y in places)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(one.kind, line))
        if not one.kind.endswith(THIN):
            parts += [draw_mark(x, y, one.kind) for x, y in places]
    return svg(WIDTH, HEIGHT, title, parts)


def dot_chart(categories: Sequence[str], rows: Sequence[Dots], *, title: str, x_label: str, form: Format) -> Markup:
    """For each category a dot with its interval per row of `rows`, side by side, over an axis that starts at 0."""
    ends = [end for row in rows for pair in row.intervals if pair for end in pair]
    known = [value for row in rows for value in row.values if value is not None]
    y_ticks = linear_ticks(0.0, max([*ends, *known, 0.01]))
    y_axis = Axis(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [draw_y_axis(y_axis, y_ticks, form)]
    width = (WIDTH - RIGHT - LEFT) / len(categories)
    for position, category in enumerate(categories):
        middle = LEFT + (position + 0.5) * width
        parts.append(text(round(middle, 1), HEIGHT - BOTTOM + 14, category, "tick"))
        for number, row in enumerate(rows):
            x = round(middle + (number - (len(rows) - 1) / 2) * min(16.0, width / (len(rows) + 1)), 1)
            if pair := row.intervals[position]:
                low, high = y_axis.place(pair[0]), y_axis.place(pair[1])
                parts.append(Markup('<path class="whisker {}" d="M{} {}V{}"/>').format(row.kind, x, low, high))
            if (value := row.values[position]) is not None:
                parts.append(draw_mark(x, y_axis.place(value), row.kind))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label, "label"))
    return svg(WIDTH, HEIGHT, title, parts)


def interval_bar(value: float, ends: tuple[float, float] | None, highest: float, kind: str, title: str) -> Markup:
    """A small bar from 0 to `highest` with the value and its interval, for a table's cell."""
    axis = Axis(0.0, highest or 1.0, 4, BAR_WIDTH - 4)
    middle = BAR_HEIGHT // 2
    parts = [Markup('<path class="grid" d="M4 {}H{}"/>').format(middle, BAR_WIDTH - 4)]
    if ends:
        low, high = axis.place(ends[0]), axis.place(ends[1])
        parts.append(Markup('<path class="whisker {}" d="M{} {}H{}"/>').format(kind, low, middle, high))
    parts.append(draw_mark(axis.place(value), middle, kind))
    return svg(BAR_WIDTH, BAR_HEIGHT, title, parts, "bar")


def key(kind: str) -> Markup:
    """The mark of a series, for a legend."""
    line = Markup('<path class="line {}" d="M0 6H22"/>').format(kind)
    mark = Markup("") if kind.endswith(THIN) else draw_mark(11, 6, kind)
    return Markup('<svg class="key" viewBox="0 0 22 12" aria-hidden="true">{}{}</svg>').format(line, mark)


def draw_mark(x: float, y: float, kind: str) -> Markup:
    """A full circle for the first model, a hollow square for what it is compared with."""
    if kind == "baseline":
        return Markup('<rect class="mark {}" x="{:g}" y="{:g}" width="6" height="6"/>').format(kind, x - 3, y - 3)
    return Markup('<circle class="mark {}" cx="{:g}" cy="{:g}" r="3"/>').format(kind, x, y)


def draw_y_axis(axis: Axis, ticks: Sequence[float], form: Format) -> Markup:
    parts = []
    for tick in ticks:
        y = axis.place(tick)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
        parts.append(text(LEFT - 6, y + 4, form(tick), "tick end"))
    return Markup("").join(parts)


def draw_x_ticks(axis: Axis, ticks: Sequence[float]) -> Markup:
    return Markup("").join(text(axis.place(tick), HEIGHT - BOTTOM + 14, f"{tick:,.10g}", "tick") for tick in ticks)


def text(x: float, y: float, content: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:g}" y="{:g}">{}</text>').format(kind, x, y, content)


def svg(width: int, height: int, title: str, parts: Sequence[Markup], kind: str = "chart") -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, title, Markup("").join(map(escape, parts))
    )
