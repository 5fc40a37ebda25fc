"""Transcription files: what one model heard in one set, as JSON lines; a kill costs no more than a batch.

The first line says what was transcribed by what and how; docs/evaluation.md tells every field. While it is written it
is made of parts, one a process, beside the whole file: <set>.jsonl.part-0 …
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job_file import display
from whisper_train.paths import written_whole

FORMAT = 1
# What was asked; another question makes another transcription. The last two: what was done to the audio.
QUESTION = ("set_digest", "task", "decoding", "chosen", "augment", "recordings")
IDENTITY = ("model_digest", *QUESTION)


@dataclass(frozen=True, slots=True)
class Transcription:
    """A whole file: its header (empty for one that is not ours) and its lines, one a clip."""

    header: dict[str, Any]
    lines: list[dict[str, Any]]


def identity(header: Mapping[str, Any]) -> str:
    """The same for two transcriptions whose texts must be the same."""
    known = json.dumps([header.get(key) for key in IDENTITY], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()


def heard_digest(header: Mapping[str, Any]) -> str | None:
    """The digest of the set, another one where its audio was changed: rates on the two are not comparable."""
    clips, changes = header.get("set_digest"), [header.get("augment"), header.get("recordings")]
    if not any(changes):
        return clips
    return hashlib.sha256(json.dumps([clips, changes], sort_keys=True).encode()).hexdigest()


def is_complete(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether the file is there and holds what `header` describes."""
    first = read_header(path) if path.is_file() else {}
    return bool(first) and identity(first) == identity(header)


def copy_transcription(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Writes what `source` holds to `target`, under the `names` (label, model) that it has there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(encoding="utf-8") as lines, written_whole(target) as temporary:
        header = json.loads(next(lines))
        header.pop("contamination", None)  # it says what the model of the other evaluation was trained on
        with temporary.open("w", encoding="utf-8") as file:
            file.write(as_line({**header, **names}))
            file.writelines(lines)


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a file of ours; nothing of another's."""
    with path.open(encoding="utf-8") as file:
        first = parse(file.readline()) or {}
    return first if "transcription" in first else {}


def find_parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.part-*"))


def gather_parts(path: Path, header: Mapping[str, Any]) -> set[int]:
    """Makes one part of all that earlier, interrupted processes left; returns the keys of the passages in it.

    Parts of another transcription, with another model or other settings, are replaced. A line that was cut off in the
    middle does not count.
    """
    lines: dict[int, str] = {}
    for part in find_parts(path):
        with part.open(encoding="utf-8", errors="replace") as file:  # its last line may end within a letter
            first = parse(file.readline())
            if first is None or identity(first) != identity(header):
                continue
            for text in file:
                if text.endswith("\n") and (line := parse(text)) is not None:
                    lines.setdefault(line["position"], text)
    parts = find_parts(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    gathered = path.with_name(f"{path.name}.part-done")
    with written_whole(gathered) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(as_line(header))
        file.writelines(lines.values())
    for part in parts:
        if part != gathered:
            part.unlink()
    return set(lines)


def read_keys(path: Path) -> set[int]:
    """The keys of the passages that gather_parts() found."""
    gathered = path.with_name(f"{path.name}.part-done")
    with gathered.open(encoding="utf-8") as file:
        next(file)
        return {json.loads(text)["position"] for text in file}


def write_part(path: Path, share: int, header: Mapping[str, Any], batches: Iterable[list[dict[str, Any]]]) -> None:
    """Adds each batch to this process's part as soon as it is there."""
    with path.with_name(f"{path.name}.part-{share}").open("w", encoding="utf-8") as file:
        file.write(as_line(header))
        for lines in batches:
            file.write("".join(as_line(line) for line in lines))  # at once: a kill leaves whole batches
            file.flush()
            os.fsync(file.fileno())


def join_parts(path: Path, header: Mapping[str, Any]) -> None:
    """Puts all parts together, in the order of the set, and removes them."""
    lines: dict[int, str] = {}
    parts = find_parts(path)
    for part in parts:
        with part.open(encoding="utf-8") as file:
            next(file)
            for text in file:
                lines.setdefault(json.loads(text)["position"], text)
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(as_line(header))
        file.writelines(lines[key] for key in sorted(lines))
    for part in parts:
        part.unlink()


def read_transcription(path: Path) -> Transcription:
    """A transcription file, ours or anybody's with `reference` and `hypothesis` in each line.

    Raises UserError naming file and line of what is no such thing.
    """
    header: dict[str, Any] = {}
    lines = []
    for number, line in read_lines(path):
        if "transcription" in line and number == 1:
            header = line
            continue
        for key in ("reference", "hypothesis"):
            if not isinstance(line.get(key), str):
                raise UserError(f"{display(path)}:{number}: {key}: is missing or no text; each line needs it")
        if not isinstance(line.get("seconds", 0.0), int | float):
            raise UserError(f"{display(path)}:{number}: seconds: {line['seconds']!r}: must be a number")
        lines.append(line)
    if header.get("transcription", FORMAT) != FORMAT:
        raise UserError(f"{display(path)}:1: transcription: {header['transcription']}: is a format of another version")
    return Transcription(header, lines)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, 1):
                if not text.strip():
                    continue
                line = parse(text)
                if line is None:
                    raise UserError(f"{display(path)}:{number}: is no JSON object; one clip a line")
                yield number, line
    except UnicodeDecodeError as error:
        raise UserError(f"{display(path)}: is not UTF-8 text; convert it") from error
    except OSError as error:
        raise UserError(f"{display(path)}: cannot be read: {error.strerror}; check the path") from error


def parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def as_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
