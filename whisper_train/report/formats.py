"""Figures as text. What is missing, null, or no finite number becomes a dash, so that no page fails over it."""

import math
import re
from datetime import datetime
from typing import Any

from whisper_train.run_log import duration as spoken

MISSING = "–"
SHORT_DIGEST = 12
NOT_IN_BCP47 = {"jw": "jv"}  # Whisper's token for Javanese is no language code of today
# What no HTML document may hold, and what cannot be written as UTF-8.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def number(value: Any) -> float | None:
    """`value` as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def limits(value: Any) -> tuple[float, float] | None:
    """The two ends of an interval, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def percent(value: Any, digits: int = 2) -> str:
    """A fraction in percent: 0.0137 -> 1.37 %."""
    known = number(value)
    return MISSING if known is None else f"{known:.{digits}%}".replace("%", "\u00a0%")


def interval(value: Any) -> str:
    """Two fractions in percent: [0.0071, 0.0214] -> 0.71–2.14 %."""
    ends = limits(value)
    return MISSING if ends is None else f"{100 * ends[0]:.2f}–{100 * ends[1]:.2f}\u00a0%"


def points(value: Any) -> str:
    """A difference of two fractions in percentage points: -0.7232 -> −72.32."""
    known = number(value)
    return MISSING if known is None else f"{100 * known:+.2f}".replace("-", "−")


def point_interval(value: Any) -> str:
    ends = limits(value)
    return MISSING if ends is None else f"{points(ends[0])} to {points(ends[1])}"


def probability(value: Any) -> str:
    known = number(value)
    return MISSING if known is None else "under 0.001" if known < 0.001 else f"{known:.3f}"


def measure(value: Any, unit: Any) -> str:
    """The limit or measured value of a gate in its own unit."""
    match unit:
        case "p":
            return f"p {decimal(value, 4)}"
        case "points":
            return f"{points(value)} points"
        case "change":
            known = number(value)
            return MISSING if known is None else f"{known:+.0%}".replace("%", "\u00a0%").replace("-", "−")
        case "words a minute":
            return f"{decimal(value, 1)} {unit}"
        case _:
            return percent(value)


def decimal(value: Any, digits: int = 2) -> str:
    known = number(value)
    return MISSING if known is None else f"{known:,.{digits}f}"


def count(value: Any) -> str:
    known = number(value)
    return MISSING if known is None else f"{known:,.0f}"


def hours(seconds: Any) -> str:
    known = number(seconds)
    return MISSING if known is None else f"{known / 3600:,.{2 if known < 36_000 else 1}f}\u00a0h"


def duration(seconds: Any) -> str:
    known = number(seconds)
    return MISSING if known is None else spoken(known)


def short(value: Any) -> str:
    """A digest or commit as people tell it from others."""
    return value[:SHORT_DIGEST] if isinstance(value, str) and value else MISSING


def moment(value: Any) -> str:
    """A time in ISO 8601 to the minute; any other text as it stands."""
    if not isinstance(value, str) or not value:
        return MISSING
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()


def language_tag(value: Any) -> str:
    """A language as HTML's lang takes it; empty, which means unknown, for what is no code."""
    if not isinstance(value, str) or not re.fullmatch("[a-z]{2,3}", value):
        return ""
    return NOT_IN_BCP47.get(value, value)


def cut(text: Any, characters: int) -> str:
    """At most `characters` of `text`, with an ellipsis where some are left out."""
    whole = "" if text is None else str(text)
    return whole if len(whole) <= characters else f"{whole[:characters].rstrip()}…"
