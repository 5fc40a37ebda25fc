"""What a report says first, in plain words."""

from collections.abc import Mapping
from typing import Any

from whisper_train.report.figures import labels_of
from whisper_train.report.formats import MISSING, count, decimal, interval, number


def describe_first_set(results: Mapping[str, Any]) -> str:
    """How the first model does on the first set, and whether that is better than before, for people who know no WER."""
    name: str = next(iter(results["sets"]), "")
    result: Mapping[str, Any] = results["sets"].get(name, {})
    label = labels_of(results)[0]
    if (wer := number(result.get("wer"))) is None:
        return "Nothing was measured."
    opening = f"On {name}, {label} gets {per_hundred(wer)} wrong"
    compared = (result.get("comparison") or {}).get("wer") or {}
    before, after = number(compared.get("before")), number(compared.get("after"))
    if before is None or after is None:
        return (
            f"{opening} (95 % interval {interval(result.get('wer_interval'))}). There was no baseline to compare with."
        )
    change = describe_change(before, after)
    return f"{opening}; before it was {decimal(100 * before, 1)}. {change} {describe_certainty(compared)}"


def describe_change(before: float, after: float) -> str:
    if before == after:
        return "That is as many as before."
    if not before:
        return "Before there was none."
    share = f"{abs(after / before - 1):.0%}".replace("%", "\u00a0%")
    return f"That is {share} {'fewer' if after < before else 'more'} errors."


def describe_certainty(compared: Mapping[str, Any]) -> str:
    """Whether chance explains the difference; nothing where that was not worked out."""
    if compared.get("certain") is None:
        return ""
    units = f"{count(compared.get('units'))} {compared.get('unit', 'clip')}s"
    if compared["certain"]:
        return f"The difference is certain at 95\u00a0% ({units}, paired)."
    needed = count(compared.get("needed_units"))
    would_do = "" if needed == MISSING else f"; about {needed} would tell"
    return f"The difference may be chance: {units} do not tell{would_do}."


def per_hundred(wer: float) -> str:
    return f"{decimal(100 * wer, 1)} of 100 words"
