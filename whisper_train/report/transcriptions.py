"""Transcription files: a header, and a clip a line with what was said and what was heard."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError


@dataclass(frozen=True, slots=True)
class Transcription:
    """One file; `header` is empty where somebody else's program made it."""

    path: Path
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return str(self.header.get("label") or self.path.parent.name)

    @property
    def set(self) -> str:
        return str(self.header.get("set") or self.path.stem)

    def clips(self) -> Iterator[dict[str, Any]]:
        """Yields every clip with its `position`, by default its number in the file; UserError for a broken line."""
        number = 0
        for line in read_lines(self.path):
            if "transcription" in line:
                continue
            if not isinstance(line.get("reference"), str) or not isinstance(line.get("hypothesis"), str):
                raise UserError(f"{self.path}: clip {number}: needs `reference` and `hypothesis`, both texts")
            yield {"position": number, **line}
            number += 1

    def at(self, positions: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The clips at `positions`, as far as there are any."""
        wanted = set(positions)
        return {clip["position"]: clip for clip in self.clips() if clip["position"] in wanted}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a file; raises UserError naming the line that is none."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: is no JSON ({error}); transcribe again") from error
            if not isinstance(value, dict):
                raise UserError(f"{path}:{number}: is no JSON object; transcribe again")
            yield value


def open_transcription(path: Path) -> Transcription:
    first = next(read_lines(path), {})
    return Transcription(path, first if "transcription" in first else {})
