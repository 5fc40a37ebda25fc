"""The two forms of annotated sentences on the disk: CoNLL, and JSON lines with character spans."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from whisper_train.data.tables import Lines, without_doubles
from whisper_train.entities.sentence import Sentence, Span, check_labels, sentence_of
from whisper_train.errors import UserError
from whisper_train.job_file import display
from whisper_train.paths import open_regular, written_whole
from whisper_train.printable import UNPRINTABLE

FORMATS = {".conll": "conll", ".txt": "conll", ".jsonl": "spans"}
FACTS = ("kind", "pattern")  # of a sentence; in CoNLL as comments: # kind = via


def read_conll(path: Path) -> Iterator[Sentence]:
    """Yields the sentences of a CoNLL file: a word, white space and its label on each line, an empty line between.

    Columns between the first and the last are left out. Raises UserError naming the line of what is wrong.
    """
    tokens: list[str] = []
    labels: list[str] = []
    facts: dict[str, str] = {}
    first = 1
    for number, line in enumerate(chain(read_lines(path), [""]), 1):
        try:
            check_characters(line, "line")
        except ValueError as error:
            raise UserError(f"{display(path)}:{number}: {error}") from error
        key, equals, value = line.removeprefix("# ").partition(" = ")
        if line.startswith("# ") and equals and not tokens:
            facts |= {key: value.strip()} if key in FACTS else {}
        elif line.strip() and not line.startswith("-DOCSTART-"):
            columns = line.split()
            if len(columns) < 2:
                raise UserError(f"{display(path)}:{number}: {line.strip()!r}: needs a word and its label")
            first = first if tokens else number
            tokens.append(columns[0])
            labels.append(columns[-1])
        elif tokens:
            yield sentence_of_tokens(tokens, labels, facts, path, first)
            tokens, labels, facts = [], [], {}


def sentence_of_tokens(tokens: list[str], labels: list[str], facts: dict[str, str], path: Path, line: int) -> Sentence:
    """The sentence that begins in `line` of `path`, its text the tokens with a space between them."""
    try:
        check_labels(labels)
    except ValueError as error:
        raise UserError(f"{display(path)}: sentence from line {line}: {error}") from error
    words, place = [], 0
    for token in tokens:
        words.append((place, place + len(token)))
        place += len(token) + 1
    return Sentence(" ".join(tokens), tuple(words), tuple(labels), **facts)


def read_spans(path: Path) -> Iterator[Sentence]:
    """Yields the sentences of JSON lines: {"text": …, "entities": [{"start": 3, "end": 8, "label": "DEPART"}]}.

    Raises UserError naming the line of what is wrong.
    """
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield read_line(line)
        except ValueError as error:
            raise UserError(f"{display(path)}:{number}: {error}") from error


def read_line(line: str) -> Sentence:
    try:
        value = json.loads(line, object_pairs_hook=without_doubles)
    except KeyError as error:
        raise ValueError(f"key {error} is given twice; keep one") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("is no JSON object; one sentence a line") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object; one sentence a line")
    return read_object(value)


def read_object(value: Mapping[str, Any]) -> Sentence:
    """The sentence that a line's object holds; raises ValueError for what is wrong with it."""
    text = value.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("text: is missing or empty; each line needs it")
    facts = [str(value.get(fact) or "") for fact in FACTS]
    for key, said in zip(("text", *FACTS), (text, *facts), strict=True):
        check_characters(said, key)
    return sentence_of(text, spans_in(value.get("entities", [])), *facts)


def spans_in(given: Any) -> list[Span]:
    """The spans of a JSON value; raises ValueError for what is none."""
    if not isinstance(given, list):
        raise ValueError("entities: must be a list of {start, end, label}")
    spans = []
    for number, one in enumerate(given):
        if not isinstance(one, dict) or {"start", "end", "label"} - one.keys():
            raise ValueError(f"entities.{number}: needs start, end and label")
        if any(not isinstance(one[key], int) or isinstance(one[key], bool) for key in ("start", "end")):
            raise ValueError(f"entities.{number}: start and end must be whole numbers of characters")
        spans.append(Span(one["start"], one["end"], str(one["label"])))
    return spans


def check_characters(text: str, key: str) -> None:
    """Raises ValueError for a control character, or half a surrogate pair, which no file in UTF-8 can hold."""
    if found := UNPRINTABLE.search(text):
        raise ValueError(f"{key}: holds the control character {found[0]!r}; take it out")


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a file, without their ends; raises UserError for what is no text."""
    try:
        with open(path, encoding="utf-8-sig", opener=open_regular) as file:
            lines = Lines(file, display(path))
            for line in lines:
                lines.row_ends()
                yield line.removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{display(path)}: is not UTF-8 text (byte {error.start}); convert it") from error
    except OSError as error:
        raise UserError(f"{display(path)}: cannot be read: {error.strerror}; check the path") from error


def as_spans(sentence: Sentence) -> dict[str, Any]:
    """The sentence as a line of JSON has it."""
    entities = [{"start": span.start, "end": span.end, "label": span.label} for span in sentence.spans]
    facts = {fact: getattr(sentence, fact) for fact in FACTS if getattr(sentence, fact)}
    return {"text": sentence.text, "entities": entities, **facts}


def as_conll(sentence: Sentence) -> str:
    facts = [f"# {fact} = {getattr(sentence, fact)}" for fact in FACTS if getattr(sentence, fact)]
    lines = [f"{token}\t{label}" for token, label in zip(sentence.tokens, sentence.labels, strict=True)]
    return "\n".join([*facts, *lines]) + "\n"


def format_of(path: Path) -> str:
    """conll or spans, by the end of the name; raises UserError for another."""
    if path.suffix not in FORMATS:
        raise UserError(f"{display(path)}: end its name in .jsonl (character spans) or .conll")
    return FORMATS[path.suffix]


def write_sentences(path: Path, sentences: Iterable[Sentence]) -> None:
    """Writes `sentences` in the form that the end of the name says, whole or not at all."""
    form = format_of(path)
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sentence in sentences:
            if form == "spans":
                file.write(json.dumps(as_spans(sentence), ensure_ascii=False) + "\n")
            else:
                file.write(as_conll(sentence) + "\n")
