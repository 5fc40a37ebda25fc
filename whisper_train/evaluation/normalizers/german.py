"""The normalizer `german`: what is spelled differently but said alike compares as equal."""

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

SYMBOLS = {
    "%": " prozent ",
    "€": " euro ",
    "$": " dollar ",
    "£": " pfund ",
    "&": " und ",
    "°c": " grad celsius ",
    "°": " grad ",
}
CLOCK = re.compile(r"\b(\d{1,2})[:.](\d\d) ?uhr\b")
# "E-Mail" and "20-jährige" are one word; "Covid-19" is said as two.
HYPHEN = re.compile(r"(?<=[^\W_])[-‐](?=[^\W\d_])")
UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue"}
NUMBER_STEM = re.compile(
    r"null|ein|erst|zw[eoö]|dri|drei|vier|f(?:ue|ü)nf|sech|sieb|acht|neun|zehn|elf|hundert|tausend|milli|\d"
)
ARTICLES = {"ein", "eine", "einer"}
MULTIPLIERS = {
    "hundert": 10**2,
    "tausend": 10**3,
    "million": 10**6,
    "millionen": 10**6,
    "milliarde": 10**9,
    "milliarden": 10**9,
}
LARGE = {word for word, value in MULTIPLIERS.items() if value >= 10**6}
DECIMAL_COMMA = re.compile(r"(?<![\d,])(\d+) komma (\d+)(?![\d,])")
AFTER_ORDINALS = re.compile(
    r"januar|j(?:ä|ae)nner|februar|feber|m(?:ä|ae)rz|april|mai|juni|juli|august|september|oktober|november|dezember|"
    r"jahrhundert(?:s|e|en)?|weltkrieg(?:e?s)?"
)


def german_steps() -> tuple[Step, ...]:
    return (
        Step("one kind of apostrophe", unify_apostrophes),
        Step("lower case, one form of each character", unify_characters),
        Step("drops what stands in brackets", drop_brackets),
        Step("drops what stands in parentheses", drop_parentheses),
        Step("writes %, €, $, £, &, ° and minus as words", symbol_writer()),
        Step("writes 20:15 uhr as 20 uhr 15", write_clock),
        Step("writes 1.000 as 1000", join_groups_by_dot),
        Step("drops apostrophes", lambda text: text.replace("'", "")),
        Step("joins words at hyphens", lambda text: HYPHEN.sub("", text)),
        Step("makes spaces of punctuation and symbols", punctuation_remover()),
        Step("one space between words", normalize_spaces),
        Step("writes numbers in digits", number_writer()),
        Step("writes ß as ss", lambda text: text.replace("ß", "ss")),
        Step("writes ä, ö, ü as ae, oe, ue", replacer_of(UMLAUTS)),
    )


def symbol_writer() -> Callable[[str], str]:
    """A function that writes symbols as the words that are said for them."""
    replace = replacer_of(SYMBOLS)
    return lambda text: replace(MINUS.sub("minus ", text))


def write_clock(text: str) -> str:
    return CLOCK.sub(lambda match: write_time(match[1], "uhr", match[2]), text)


def number_writer() -> Callable[[str], str]:
    """A function that writes number words in digits; `ein`, `eine` alone are articles and stay."""
    multiply = multiplier(MULTIPLIERS)
    spell = replacer_of({"fuenf": "fünf", "zwoelf": "zwölf"})  # as text2num wants them

    def write(text: str) -> str:
        if NUMBER_STEM.search(text) is None:
            return text
        text = replace_numbers(multiply(text), "de", write_number, spell)
        return join_groups_by_space(multiply(DECIMAL_COMMA.sub(r"\1,\2", text)))

    return write


def write_number(number: Any, words: list[str]) -> tuple[int, str] | None:
    """See replace_numbers."""
    first, alone = words[number.start], number.end == number.start + 1
    before = words[number.start - 1] if number.start else ""
    after = words[number.end] if number.end < len(words) else ""
    if number.is_ordinal:
        return (number.start, number.text.rstrip(".")) if AFTER_ORDINALS.fullmatch(after) else None
    if alone and first in ARTICLES:
        return None
    if first in LARGE and before in ARTICLES:
        return number.start - 1, number.text
    if first in LARGE:  # "millionen fünfzig" after a figure: the figure is multiplied later
        rest = number.text.removeprefix("1").lstrip("0")
        return (number.start, f"{first} {rest}") if rest else None
    return number.start, number.text
