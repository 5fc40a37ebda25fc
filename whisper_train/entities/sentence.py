"""A sentence with its entities: words, labels, spans, and what is wrong with them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from whisper_train.job_entities import ENTITIES, LABELS

# Letters with an apostrophe behind them (d', l'), digits, or one sign. A hyphen is a word of its own, so that the two
# cities of "un Paris-Lyon" can be told apart; the words of Aix-en-Provence are B I I I I.
WORD = re.compile(r"[^\W\d_]+['’]?|\d+|[^\w\s]|_")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """An entity in a text: characters `start` up to but without `end`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text, its words as (start, end) in characters, and a label for each; `kind` and `pattern` where known."""

    text: str
    words: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]
    kind: str = ""
    pattern: str = ""

    @property
    def tokens(self) -> list[str]:
        return [self.text[start:end] for start, end in self.words]

    @property
    def spans(self) -> list[Span]:
        return spans_of(self.words, self.labels)


def split_words(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(match.span() for match in WORD.finditer(text))


def sentence_of(text: str, spans: Sequence[Span], kind: str = "", pattern: str = "") -> Sentence:
    """The sentence of a text and its spans; raises ValueError saying what is wrong with them."""
    words = split_words(text)
    labels = ["O"] * len(words)
    starts = {start: number for number, (start, _) in enumerate(words)}
    ends = {end: number for number, (_, end) in enumerate(words)}
    before: Span | None = None
    for number, span in enumerate(sorted(spans)):
        check_span(span, text)
        if before and span.start < before.end:
            raise ValueError(
                f"entities: {text[before.start : before.end]!r} ({before.start} to {before.end}) and"
                f" {text[span.start : span.end]!r} ({span.start} to {span.end}) overlap; a word has one label"
            )
        if span.start not in starts or span.end not in ends:
            raise ValueError(
                f"entities: {text[span.start : span.end]!r} ({span.start} to {span.end}) does not begin and end with a"
                " word; move its ends"
            )
        first, last = starts[span.start], ends[span.end]
        labels[first : last + 1] = [f"B-{span.label}", *[f"I-{span.label}"] * (last - first)]
        before = span
        assert number < len(words)
    return Sentence(text, words, tuple(labels), kind, pattern)


def check_span(span: Span, text: str) -> None:
    """Raises ValueError for an unknown label, or a span that is not within the text."""
    if span.label not in ENTITIES:
        raise ValueError(f"entities: label: {span.label!r}: is not known{suggest(span.label, ENTITIES)}")
    if not 0 <= span.start < span.end <= len(text):
        raise ValueError(
            f"entities: {span.start} to {span.end}: lies outside the text, which has {len(text)} characters; count"
            " characters from 0, the end not among them"
        )


def check_labels(labels: Sequence[str]) -> None:
    """Raises ValueError for a label that is not known, or an I- that continues nothing."""
    before = "O"
    for position, label in enumerate(labels, 1):
        if label not in LABELS:
            raise ValueError(f"word {position}: label: {label!r}: is not known{suggest(label, LABELS)}")
        if label.startswith("I-") and before[1:] != label[1:]:
            raise ValueError(
                f"word {position}: label: {label}: comes after {before} and continues nothing; an entity begins with"
                f" B{label[1:]}"
            )
        before = label


def suggest(label: str, known: Iterable[str]) -> str:
    known = list(known)
    near = get_close_matches(label.upper(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def spans_of(words: Sequence[tuple[int, int]], labels: Sequence[str]) -> list[Span]:
    """The entities that labels mark, as a model may give them: an I- that continues nothing begins one."""
    spans: list[Span] = []
    before = "O"
    for (start, end), label in zip(words, labels, strict=True):
        if label.startswith("I-") and before[1:] == label[1:]:
            spans[-1] = Span(spans[-1].start, end, label[2:])
        elif label != "O":
            spans.append(Span(start, end, label[2:]))
        before = label
    return spans
