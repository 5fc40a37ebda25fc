"""What `whisper-train normalize` prints."""

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from whisper_train.errors import UserError
from whisper_train.evaluation.normalize import VERSIONS, explain, make_normalizer


def show_normalized(texts: Iterable[str], names: Sequence[str], with_steps: bool) -> Iterator[str]:
    """Lines for people: each text after each of the normalizers `names`.

    Args:
        texts: one line each.
        names: none: all there are. Raises UserError for an unknown one, before it takes a text.
        with_steps: every step that changes a text has a line.
    """
    shown = {name: make_normalizer(name) for name in names or VERSIONS}
    width = max(map(len, shown)) + 1
    for text in texts:
        for name, normalizer in shown.items():
            if with_steps:
                yield from show_steps(name, text)
            else:
                result = normalizer(text)
                yield result if len(shown) == 1 else f"{name + ':':{width}} {result}"


def show_steps(name: str, text: str) -> Iterator[str]:
    """A table of what the normalizer `name` does to `text`."""
    rows = [("", text), *explain(name, text)]
    width = max(len(title) for title, _ in rows)
    yield f"{name}, version {VERSIONS[name]}"
    yield from (f"  {title:{width}}  {after}" for title, after in rows)


def read_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of `stream` as they come, without their ends; raises UserError where one is not UTF-8."""
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"normalize: standard input: line {number}: is not UTF-8; convert it first") from error
