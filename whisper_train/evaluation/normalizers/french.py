"""The normalizer `french`: what is spelled differently but said alike compares as equal; accents are kept."""

import re
from collections.abc import Callable
from typing import Any

from whisper_train.evaluation.normalizers.numbers import (
    join_groups_by_dot,
    join_groups_by_space,
    multiplier,
    replace_numbers,
    write_time,
)
from whisper_train.evaluation.normalizers.steps import (
    MINUS,
    Step,
    drop_brackets,
    drop_parentheses,
    normalize_spaces,
    punctuation_remover,
    replacer_of,
    unify_apostrophes,
    unify_characters,
)

LIGATURES = {"œ": "oe", "æ": "ae"}
SYMBOLS = {
    "%": " pourcent ",
    "€": " euro ",
    "$": " dollar ",
    "£": " livre ",
    "&": " et ",
    "°c": " degrés celsius ",
    "°": " degrés ",
}
PERCENT = re.compile(r"\bpour ?cents?\b")
CURRENCY = re.compile(r"\b(euro|dollar)s\b")
CLOCK = re.compile(r"\b(\d{1,2}) ?h(?: ?(\d\d)\b(?! ?h\b))?(?!\w)")
# Words whose apostrophe parts nothing: two alternatives because the first half decides what may follow.
ONE_WORD = re.compile(
    r"\b(aujourd(?= ?'? ?hui\b)|quelqu(?= ?'? ?une?\b)|prud(?= ?'? ?hom)|presqu(?= ?'? ?îles?\b)) ?'? ?"
)
NUMBER_STEM = re.compile(
    r"zéro|un|deux|trois|quat|cinq|six|sept|huit|hui|neu|dix|onz|douz|treiz|quinz|seiz|vingt|trent|"
    r"quarant|soixant|nonant|octant|cent|mill|premi|\d"
)
ARTICLES = {"un", "une", "uns", "unes"}
MULTIPLIERS = {
    "cent": 10**2,
    "cents": 10**2,
    "mille": 10**3,
    "million": 10**6,
    "millions": 10**6,
    "milliard": 10**9,
    "milliards": 10**9,
}
LARGE = {word for word, value in MULTIPLIERS.items() if value >= 10**6}
DECIMAL_COMMA = re.compile(r"(?<![\d,])(\d+) virgule (\d+)(?![\d,])")
ORDINAL = re.compile(r"\b(\d+)(?:i?[èe]mes?|es?|è)\b")
FIRST = re.compile(r"\b1(?:[èe]re|re)(s?)\b")


def french_steps() -> tuple[Step, ...]:
    return (
        Step("one kind of apostrophe", unify_apostrophes),
        Step("lower case, one form of each character", unify_characters),
        Step("drops what stands in brackets", drop_brackets),
        Step("drops what stands in parentheses", drop_parentheses),
        Step("writes œ, æ as oe, ae", replacer_of(LIGATURES)),
        Step("writes %, €, $, £, &, ° and minus as words", symbol_writer()),
        Step("writes 1.000 as 1000", join_groups_by_dot),
        Step("joins aujourd'hui, quelqu'un, prud'homme, presqu'île", lambda text: ONE_WORD.sub(r"\1", text)),
        Step("parts words at other apostrophes", lambda text: text.replace("'", " ")),
        Step("makes spaces of hyphens, punctuation and symbols", punctuation_remover()),
        Step("one space between words", normalize_spaces),
        Step("writes numbers in digits", number_writer()),
        Step("writes 20h30 as 20 heures 30", write_clock),
    )


def symbol_writer() -> Callable[[str], str]:
    """A function that writes symbols as the words that are said for them; `euros` sounds like `euro`."""
    replace = replacer_of(SYMBOLS)
    return lambda text: CURRENCY.sub(r"\1", PERCENT.sub("pourcent", replace(MINUS.sub("moins ", text))))


def write_clock(text: str) -> str:
    return CLOCK.sub(lambda match: write_time(match[1], "heure" if match[1] == "1" else "heures", match[2]), text)


def number_writer() -> Callable[[str], str]:
    """A function that writes number words in digits; `un`, `une` alone are articles and stay."""
    multiply = multiplier(MULTIPLIERS)

    def write(text: str) -> str:
        if NUMBER_STEM.search(text) is None:
            return text
        text = replace_numbers(multiply(text), "fr", write_number)
        text = ORDINAL.sub(r"\1e", FIRST.sub(r"1re\1", text))
        return join_groups_by_space(multiply(DECIMAL_COMMA.sub(r"\1,\2", text)))

    return write


def write_number(number: Any, words: list[str]) -> tuple[int, str] | None:
    """See replace_numbers."""
    first, alone = words[number.start], number.end == number.start + 1
    if alone and (first in ARTICLES or first in LARGE):
        return None
    return number.start, part_multiplier(number.text, words[number.end - 1])


def part_multiplier(digits: str, last_word: str) -> str:
    """text2num reads `trois virgule cinq millions` as 3,5000000; it is `3,5 millions`."""
    whole, comma, fraction = digits.partition(",")
    if not comma or last_word not in MULTIPLIERS:
        return digits
    zeros = len(str(MULTIPLIERS[last_word])) - 1
    return f"{whole},{fraction[:-zeros]} {last_word}"
