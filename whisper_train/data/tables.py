"""Sources that are a table of files: manifest (JSONL, CSV, TSV), audio folder, Common Voice download."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whisper_train.data.clip import Clip, Columns, find_columns
from whisper_train.errors import UserError
from whisper_train.job_data import Source
from whisper_train.job_file import display

SHOWN_SPLITS = 10  # a column of that name may hold anything
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def read_table(path: Path, source: Source, position: int, language: str, split: str | None) -> Iterator[Clip]:
    """Yields the clips of a JSONL, CSV or TSV file; audio paths are relative to it (Common Voice: to its clips/).

    `split` keeps the rows whose `split` column says so. Raises UserError naming file, line and column.
    """
    origin = display(path)
    audio_folder = path.parent / "clips" if source.common_voice else path.parent
    columns: Columns | None = None
    found, others = False, set[str]()
    for line, row in read_rows(path):
        if columns is None:
            columns = find_columns(list(row), source, origin)
            if split is not None and "split" not in row:
                raise UserError(f"{origin}: split: {split}: the table has no `split` column; leave split out")
        if split is not None and (named := str(row.get("split"))) != split:
            if len(others) < SHOWN_SPLITS:
                others.add(named)
            continue
        found = True
        name = row.get(columns.audio)
        if isinstance(name, dict):
            name = name.get("path")
        if not isinstance(name, str) or not name:
            raise UserError(f"{origin}:{line}: {columns.audio}: {name!r}: must be the path of an audio file")
        value = row.get(columns.text)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{origin}:{line}: {columns.text}: {value!r}: must be text")
        yield Clip(
            id=f"{name}:{line}" if "#" in name else name,
            audio=str(audio_folder / name),
            text=(value or "").strip(),
            language=source.language or language,  # a table's own column may not use Whisper's codes
            source=position,
            **columns.describe(row),
        )
    if not found:
        wanted = f" whose split is {split}" if split else ""
        known = f"it has {', '.join(sorted(others))}" if others else "check the file"
        raise UserError(f"{origin}: holds no clip{wanted}; {known}")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, row) of a JSONL, CSV or TSV file."""
    origin = display(path)
    readers = {".jsonl": read_jsonl, ".json": read_jsonl, ".csv": read_delimited, ".tsv": read_delimited}
    if path.suffix.lower() not in readers:
        raise UserError(f"{origin}: manifest: must end in .jsonl, .csv or .tsv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from readers[path.suffix.lower()](file, origin)
    except FileNotFoundError as error:
        raise UserError(f"{origin}: no such file; check the source in the job") from error
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: is not UTF-8 text; convert it") from error


def read_jsonl(file: Any, origin: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{origin}:{line}: not JSON ({str(error).split(':')[0]}); one object a line") from error
        if not isinstance(row, dict):
            raise UserError(f"{origin}:{line}: holds {type(row).__name__}; one object a line")
        yield line, row


def read_delimited(file: Any, origin: str) -> Iterator[tuple[int, dict[str, Any]]]:
    tabs = origin.lower().endswith(".tsv")
    csv.field_size_limit(sys.maxsize)
    # Common Voice and most TSV writers do not quote: a lone quotation mark belongs to the sentence.
    reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.DictReader(file)
    try:
        for row in reader:
            if None in row:
                raise UserError(f"{origin}:{reader.line_num}: has more fields than the header; quote the text")
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{origin}:{reader.line_num}: {error}; save it as plain CSV or TSV") from error


def find_common_voice(source: Source, split: str | None) -> Path:
    """The TSV of one split of a Common Voice download, where clips/ and validated.tsv are."""
    folder = Path(str(source.common_voice))
    if not folder.is_dir():
        raise UserError(
            f"common_voice: {folder}: no such folder; download Common Voice for your language from"
            " https://commonvoice.mozilla.org/datasets, unpack it, and name the folder that holds clips/"
        )
    tables = {path.stem: path for path in sorted(folder.glob("*.tsv"))}
    if not tables or not (folder / "clips").is_dir():
        raise UserError(
            f"common_voice: {folder}: holds no clips/ with .tsv files beside it; name the language's folder"
        )
    name = split or "validated"
    if name not in tables:
        raise UserError(f"{source.label}: split: {name}: no such .tsv; there are {', '.join(tables)}")
    return tables[name]


def find_folder_table(source: Source, split: str | None) -> Path | None:
    """metadata.csv, .tsv or .jsonl of an audio folder; None when it has none. Raises UserError without a folder."""
    folder = Path(str(source.folder))
    if not folder.is_dir():
        raise UserError(f"folder: {folder}: no such folder; check the source in the job")
    for name in ("metadata.jsonl", "metadata.csv", "metadata.tsv"):
        if (folder / name).is_file():
            return folder / name
    if split:
        raise UserError(f"{source.label}: split: {split}: only a folder with metadata.csv or .jsonl can have splits")
    return None


def read_sidecars(source: Source, position: int, language: str) -> Iterator[Clip]:
    """Yields the audio files of a folder, each with the text in the .txt of the same name."""
    folder = Path(str(source.folder))
    found = False
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
        found = True
        try:
            text = path.with_suffix(".txt").read_text(encoding="utf-8-sig").strip()
        except FileNotFoundError:
            text = ""
        except UnicodeDecodeError as error:
            raise UserError(f"{display(path.with_suffix('.txt'))}: is not UTF-8 text; convert it") from error
        yield Clip(str(path.relative_to(folder)), str(path), text, source.language or language, source=position)
    if not found:
        raise UserError(f"folder: {folder}: holds no {', '.join(AUDIO_SUFFIXES)} file; check the source in the job")
