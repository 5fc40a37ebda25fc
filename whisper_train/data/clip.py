"""A clip: one utterance with its transcript, as sources yield it and as the index keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_train.audio import Waveform, decode
from whisper_train.errors import UserError

AUDIO_COLUMNS = ("audio", "audio_filepath", "audio_path", "audio_file", "file_name", "file", "path", "wav", "filename")
TEXT_COLUMNS: tuple[str, ...] = (
    "text",
    "sentence",
    "transcript",
    "transcription",
    "transkription",
    "normalized_text",
    "target_text",
)
TEXT_COLUMNS += ("raw_transcription", "raw_text", "original_text", "utterance", "label", "target")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "spk_id", "speaker_name")


@dataclass(frozen=True, slots=True)
class Clip:
    """Where the audio is (a file, or a row of a Parquet file) and what is said in it."""

    id: str  # how reports name it
    audio: str  # path of an audio file or of a Parquet file
    text: str
    language: str
    row_group: int = -1  # Parquet only; -1 says that `audio` is an audio file
    row: int = -1  # within the row group
    speaker: str = ""
    source: int = 0  # position among the sources of its set


def find_column(columns: Sequence[str], given: str | None, usual: Sequence[str], *, what: str, where: str) -> str:
    """The column `given`, or the first of the `usual` names that is there; raises UserError naming the columns."""
    if given is not None:
        if given in columns:
            return given
        raise UserError(f"{where}: {what}_column: {given}: no such column; it has {', '.join(columns)}")
    by_lower = {column.lower(): column for column in reversed(columns)}
    for name in usual:
        if name in by_lower:
            return by_lower[name]
    raise UserError(f"{where}: {what}_column: none of the usual names found; it has {', '.join(columns)}; name one")


def find_optional_column(columns: Sequence[str], given: str | None, usual: Sequence[str], *, where: str) -> str | None:
    if given is not None:
        return find_column(columns, given, usual, what="speaker", where=where)
    return next((column for column in columns if column.lower() in usual), None)


def speaker_name(value: object) -> str:
    """What a speaker column holds, as text; a number may be 0."""
    return "" if value is None else str(value)


def read_file(path: str, max_seconds: float | None) -> Waveform:
    """The waveform of an audio file; raises ValueError when there is none to be had."""
    try:
        there = Path(path).is_file()
    except OSError as error:  # a name that is too long: most often a text that stands in the audio column
        raise ValueError(f"no such file ({error.strerror})") from error
    if not there:
        raise ValueError("no such file")
    return decode(Path(path), max_seconds)
