"""Which share of the tuned weights is kept: the rule alone, on a table of what each share reached."""

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_train.evaluation.gates import TOLERANCE, percent
from whisper_train.job import Job


@dataclass(frozen=True, slots=True)
class Point:
    """What the model with this share of the tuned weights reached: an error rate per set, as a fraction."""

    weight: float
    rates: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The share that is kept, whether it loses no more than was allowed, and why it was taken."""

    weight: float
    within: bool
    sentence: str


def retention_sets(job: Job) -> list[str]:
    """The sets that must not get worse: those of the gate on retention, else all but the first."""
    retention = job.gates.retention
    return list(retention.sets) if retention and retention.sets else list(job.data.eval)[1:]


def choose(
    curve: Sequence[Point], tried: Sequence[float], first: str, others: Sequence[str], max_loss: float
) -> Choice:
    """The point of `curve` with the lowest rate on `first` of those whose weight was `tried` and that lose at most
    `max_loss` on each of the `others`, against the base (weight 0 of the curve); where all lose more, the one that
    loses least. The base itself is never chosen. Of equals the one that loses less, then the one nearer to the tuned
    model, is taken.
    """
    base = next(point for point in curve if point.weight == 0)
    candidates = [point for point in curve if point.weight > 0 and point.weight in tried]
    losses = {point.weight: worst_loss(point, base, others) for point in candidates}
    fitting = [point for point in candidates if losses[point.weight][0] <= max_loss + TOLERANCE]
    if fitting:
        best = min(fitting, key=lambda point: (point.rates[first], losses[point.weight][0], -point.weight))
    else:
        best = min(candidates, key=lambda point: (losses[point.weight][0], point.rates[first], -point.weight))
    loss, where = losses[best.weight]
    worst = f"{where} {points(loss)} points"
    limit = f"within {points(max_loss)} points on {', '.join(others)}"
    if not others:
        reason = "the lowest of the weights tried"
    elif fitting:
        reason = f"the lowest of the weights that stay {limit} (here at worst {worst})"
    else:
        reason = f"no weight stays {limit}, and this one loses least ({worst})"
    change = f"errors on {first} {percent(base.rates[first])} → {percent(best.rates[first])}"
    return Choice(weight=best.weight, within=bool(fitting), sentence=f"{describe(best.weight)}: {change}, {reason}")


def describe(weight: float) -> str:
    return "the tuned model as it is" if weight == 1 else f"{weight:g} of the tuned model, the rest of its base"


def worst_loss(point: Point, base: Point, others: Sequence[str]) -> tuple[float, str]:
    """By how much the rate rose most, and on which of the `others`; below 0 where each of them fell."""
    return max(((point.rates[name] - base.rates[name], name) for name in others), default=(0.0, ""))


def points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"
