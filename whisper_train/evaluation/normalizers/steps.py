"""What normalizers are made of: named steps, and the steps that several of them share.

Every step takes any text. Its time grows in proportion to the text, whatever stands in it: a clip on which a model got
lost may hold thousands of brackets.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

IN_BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]")
IN_PARENTHESES = re.compile(r"\(([^)]+?)\)")
OTHER_APOSTROPHES = re.compile(r"[‘’‛`´ʹʼ′]")
COMMA_OUTSIDE_NUMBER = re.compile(r"(?<!\d),|,(?!\d)")
MINUS = re.compile(r"(?<!\S)[-−](?=\d)")
VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # they choose between two looks of an emoji


def normalize_spaces(text: str) -> str:
    return " ".join(text.split())


def drop_brackets(text: str) -> str:
    """Without `[laughs]` and `<noise>`, as openai/whisper does it; the kind of the two brackets may differ."""
    end = max(text.rfind(">"), text.rfind("]")) + 1  # behind it no bracket closes: nothing there is searched in vain
    return IN_BRACKETS.sub("", text[:end]) + text[end:]


def drop_parentheses(text: str) -> str:
    """Without `(softly)`, as openai/whisper does it."""
    end = text.rfind(")") + 1
    return IN_PARENTHESES.sub("", text[:end]) + text[end:]


def unify_apostrophes(text: str) -> str:
    return OTHER_APOSTROPHES.sub("'", text)


def unify_characters(text: str) -> str:
    """NFKC: composed accents, no ligatures (ﬁ), full-width letters or no-break spaces.

    Twice: lower case of NFKC (`İ`) is not always NFKC.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def spoken_character(character: str) -> str:
    """A character of a pack's text without punctuation: itself, a space, or nothing."""
    category = unicodedata.category(character)
    if category in ("Cf", "Cs", "Me") or ord(character) in VARIATION_SELECTORS:
        return ""
    return " " if category[0] in "PS" and character != "," else character


def replacer_of(replacements: dict[str, str]) -> Callable[[str], str]:
    """A function that writes the values for the keys, wherever they stand."""
    pattern = re.compile("|".join(re.escape(key) for key in replacements))

    def replace(text: str) -> str:
        if not any(key in text for key in replacements):  # far faster than to search for the pattern
            return text
        return pattern.sub(lambda match: replacements[match[0]], text)

    return replace


def punctuation_remover() -> Callable[[str], str]:
    """A function that makes spaces of punctuation and symbols; a decimal comma and combining marks stay."""
    table = CharacterTable(spoken_character)
    return lambda text: COMMA_OUTSIDE_NUMBER.sub(" ", text).translate(table)


def apply(steps: tuple["Step", ...], text: str) -> str:
    for step in steps:
        text = step.function(text)
    return text


class CharacterTable(dict[int, str]):
    """A table for str.translate, filled as characters are met: `function` is asked once for each."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, character: int) -> str:
        self[character] = self.function(chr(character))
        return self[character]


@dataclass(frozen=True, slots=True)
class Step:
    """One rule of a normalizer; `title` says what it does, for people."""

    title: str
    function: Callable[[str], str]
