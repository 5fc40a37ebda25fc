"""Number words in digits, by the library text2num, and the ways in which digits are written."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from text_to_num import find_numbers  # type: ignore[import-untyped]

GROUPED_BY_SPACE = re.compile(r"(?<![\d,])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?! ?\d)")
GROUPED_BY_DOT = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3})+(?!\d)")
ALL = -1  # every number above it is found


def join_groups_by_space(text: str) -> str:
    """`10 000` as 10000."""
    return GROUPED_BY_SPACE.sub(lambda match: match[0].replace(" ", ""), text)


def join_groups_by_dot(text: str) -> str:
    """`1.000` as 1000."""
    return GROUPED_BY_DOT.sub(lambda match: match[0].replace(".", ""), text)


def write_time(hours: str, unit: str, minutes: str | None) -> str:
    """A time as one says it: `20 uhr 5`, and `20 uhr` for 20:00."""
    said = str(int(minutes or 0))
    return f"{hours} {unit}" if said == "0" else f"{hours} {unit} {said}"


def multiplier(values: dict[str, int]) -> Callable[[str], str]:
    """A function that writes `3,5 millionen` as 3500000; `values` has the words and what they stand for."""
    pattern = re.compile(rf"(?<![\d,])(\d{{1,9}}(?:,\d{{1,9}})?) ({'|'.join(values)})(?!\w)")

    def product(match: re.Match[str]) -> str:
        value = Decimal(match[1].replace(",", ".")) * values[match[2]]
        return format(value.quantize(1) if value == value.to_integral_value() else value, "f").replace(".", ",")

    return lambda text: pattern.sub(product, text)


def replace_numbers(
    text: str,
    language: str,
    write: Callable[[Any, list[str]], tuple[int, str] | None],
    spell: Callable[[str], str] = str,
) -> str:
    """`text` with its number words replaced.

    Args:
        text: words, without punctuation.
        language: of the words: de or fr.
        write: given a number that text2num found (start, end, text, value, is_ordinal) and all the words, says where
            the replaced words begin and what stands there instead; None leaves the words.
        spell: a word as text2num knows it.
    """
    words = text.split()
    for number in reversed(find_numbers([Word(spell(word)) for word in words], language, threshold=ALL)):
        if (found := write(number, words)) is not None:
            start, digits = found
            words[start : number.end] = [digits]
    return " ".join(words)


class Word:
    """A word as text2num wants it."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    def text(self) -> str:
        return self.word

    def nt_separated(self, previous: "Word") -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False
