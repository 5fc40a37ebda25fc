"""Sources that are a table of files: manifest (JSONL, CSV, TSV), audio folder, Common Voice download."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from whisper_train.data.clip import Clip, Columns, find_columns
from whisper_train.errors import UserError
from whisper_train.job_data import Source
from whisper_train.job_file import display
from whisper_train.paths import open_regular
from whisper_train.printable import printable

SHOWN_SPLITS = 10  # a column of that name may hold anything
MAX_CHARACTERS = 2**22  # of a line, or of a row over several: memory holds one, whatever a file is made of
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
            id=printable(f"{name}:{line}" if "#" in name else name),
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
        with open(path, encoding="utf-8-sig", newline="", opener=open_regular) as file:
            yield from readers[path.suffix.lower()](Lines(file, origin), origin)
    except FileNotFoundError as error:
        raise UserError(f"{origin}: no such file; check the source in the job") from error
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: is not UTF-8 text; convert it") from error


def read_jsonl(lines: "Lines", origin: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(lines, 1):
        lines.row_ends()
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=without_doubles)
        except KeyError as error:
            raise UserError(f"{origin}:{line}: key {error} is given twice; keep one") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{origin}:{line}: not JSON ({str(error).split(':')[0]}); one object a line") from error
        if not isinstance(row, dict):
            raise UserError(f"{origin}:{line}: holds {type(row).__name__}; one object a line")
        yield line, row


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON line; raises KeyError for a key that is given twice, of which json takes the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise KeyError(printable(next(name for name in names if names.count(name) > 1)))
    return row


def read_delimited(lines: "Lines", origin: str) -> Iterator[tuple[int, dict[str, Any]]]:
    tabs = origin.lower().endswith(".tsv")
    csv.field_size_limit(MAX_CHARACTERS)
    # Common Voice and most TSV writers do not quote: a lone quotation mark belongs to the sentence.
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.DictReader(lines)
    try:
        names = [name for name in reader.fieldnames or () if name]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{origin}:1: column {printable(double)} is given twice; rename one")
        for row in reader:
            lines.row_ends()
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
            text = read_sidecar(path.with_suffix(".txt"))
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise UserError(f"{display(path.with_suffix('.txt'))}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{display(path.with_suffix('.txt'))}: is not UTF-8 text; convert it") from error
        yield Clip(
            printable(str(path.relative_to(folder))), str(path), text, source.language or language, source=position
        )
    if not found:
        raise UserError(f"folder: {folder}: holds no {', '.join(AUDIO_SUFFIXES)} file; check the source in the job")


def read_sidecar(path: Path) -> str:
    """The text of a clip that stands in a file of its own; of one that is no transcript, the beginning."""
    with open(path, encoding="utf-8-sig", opener=open_regular) as file:
        return file.read(MAX_CHARACTERS).strip()


class Lines:
    """The lines of a file, read so that memory stays flat; `row_ends` is called where the reader has a whole row."""

    def __init__(self, file: TextIO, origin: str) -> None:
        self.file, self.origin = file, origin
        self.number = self.characters = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        text = self.file.readline(MAX_CHARACTERS + 1)
        self.number += 1
        self.characters += len(text)
        if self.characters > MAX_CHARACTERS:
            raise UserError(
                f"{self.origin}:{self.number}: a row has more than {MAX_CHARACTERS:,} characters; write one clip a"
                " line, and close every quotation mark"
            )
        if not text:
            raise StopIteration
        return text

    def row_ends(self) -> None:
        self.characters = 0
