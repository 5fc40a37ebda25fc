"""OpenAI's normalizers (openai/whisper, whisper/normalizers), in steps, so that each can be shown.

What they know comes from the package whisper-normalizer: their tables of contractions and spellings, their reader of
numbers. A text comes out as from openai/whisper, but for spaces around it, which are dropped; tests compare.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from whisper_normalizer.basic import remove_symbols, remove_symbols_and_diacritics  # type: ignore[import-untyped]
from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]

from whisper_train.evaluation.normalizers.steps import (
    CharacterTable,
    Step,
    drop_brackets,
    drop_parentheses,
    normalize_spaces,
)

NOT_OF_OPENAI = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")  # the package's own additions
NUMERIC_SYMBOLS = ".%$¢€£"
SPACE_BEFORE_APOSTROPHE = re.compile(r"(?<!\s)\s+'")
COMMA_IN_NUMBER = re.compile(r"(\d),(\d)")
DOT_OUTSIDE_NUMBER = re.compile(r"\.([^0-9]|$)")
SYMBOL_BEFORE_NO_NUMBER = re.compile(r"[.$¢€£]([^0-9])")
PERCENT_AFTER_NO_NUMBER = re.compile(r"([^0-9])%")
DIGIT = re.compile(r"\d")
WORD = re.compile(r"\w+")


def basic_steps() -> tuple[Step, ...]:
    """`BasicTextNormalizer()` of openai/whisper, for any language."""
    symbols = CharacterTable(remove_symbols)
    return (
        Step("lower case", str.lower),
        Step("drops what stands in brackets", drop_brackets),
        Step("drops what stands in parentheses", drop_parentheses),
        Step(
            "makes spaces of punctuation, symbols and combining marks",
            lambda text: unicodedata.normalize("NFKC", text).translate(symbols).lower(),
        ),
        Step("one space between words", normalize_spaces),
    )


def english_steps() -> tuple[Step, ...]:
    """`EnglishTextNormalizer()` of openai/whisper."""
    library = EnglishTextNormalizer()
    for pattern in NOT_OF_OPENAI:
        del library.replacers[pattern]
    fillers = re.compile(library.ignore_patterns)
    symbols = CharacterTable(lambda character: str(remove_symbols_and_diacritics(character, keep=NUMERIC_SYMBOLS)))
    return (
        Step("lower case", str.lower),
        Step("drops what stands in brackets", drop_brackets),
        Step("drops what stands in parentheses", drop_parentheses),
        Step("drops hmm, mm, mhm, mmm, uh, um", lambda text: fillers.sub("", text)),
        Step("joins apostrophes with the word before", lambda text: SPACE_BEFORE_APOSTROPHE.sub("'", text)),
        Step("writes contractions and titles in full", contraction_writer(library.replacers)),
        Step("drops commas in numbers", lambda text: COMMA_IN_NUMBER.sub(r"\1\2", text)),
        Step("drops dots outside numbers", lambda text: DOT_OUTSIDE_NUMBER.sub(r" \1", text)),
        Step(
            f"makes spaces of punctuation and symbols but {NUMERIC_SYMBOLS}, and drops accents",
            lambda text: unicodedata.normalize("NFKD", text).translate(symbols),
        ),
        Step("writes numbers in digits", number_writer(library.standardize_numbers)),
        Step("American spellings", library.standardize_spellings),
        Step(
            f"drops {NUMERIC_SYMBOLS} that belong to no number",
            lambda text: PERCENT_AFTER_NO_NUMBER.sub(r"\1 ", SYMBOL_BEFORE_NO_NUMBER.sub(r" \1", text)),
        ),
        Step("one space between words", normalize_spaces),
    )


def contraction_writer(replacements: dict[str, str]) -> Callable[[str], str]:
    """A function that applies every pattern in turn, but only to a text in which one of them may be found."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in replacements.items()]
    # A pattern is one whole word, or it has an apostrophe.
    whole_words = {match[1] for pattern in replacements if (match := re.fullmatch(r"\\b(\w+)\\b", pattern))}

    def write(text: str) -> str:
        if "'" not in text and whole_words.isdisjoint(WORD.findall(text)):
            return text
        for pattern, replacement in patterns:
            text = pattern.sub(replacement, text)
        return text

    return write


def number_writer(numbers: Any) -> Callable[[str], str]:
    """A function that calls `numbers`, an EnglishNumberNormalizer, on texts in which it may change more than spaces."""
    # "and" without a number stays as it is, unless it is "and a half".
    number_words = numbers.words - {"and"}

    def write(text: str) -> str:
        words = text.split()
        if DIGIT.search(text) is None and "half" not in text and number_words.isdisjoint(words):
            return " ".join(words)
        try:
            return str(numbers(text))
        except (AssertionError, ValueError):  # Python refuses to read or write numbers of more than 4,300 digits
            return text

    return write
