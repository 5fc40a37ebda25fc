"""A clip: one utterance with its transcript, as sources yield it and as the index keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_train.audio import Waveform, decode
from whisper_train.errors import UserError
from whisper_train.job_data import Source
from whisper_train.printable import printable

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
RECORDING_COLUMNS = ("recording", "recording_id", "session", "session_id", "meeting_id", "chapter_id")
SLICE_COLUMNS = ("accent", "accents", "dialect", "noise", "noise_type", "snr", "gender", "domain", "device")
NO_SUCH_FILE = "no such file"


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
    recording: str = ""  # the session it was cut from
    tags: Mapping[str, str] = field(default_factory=dict)  # by what results are told apart: accent, noise …
    source: int = 0  # position among the sources of its set


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what."""

    audio: str
    text: str
    speaker: str | None
    recording: str | None
    slices: tuple[str, ...]

    @property
    def described(self) -> list[str]:
        """All but the audio."""
        return [name for name in (self.text, self.speaker, self.recording, *self.slices) if name]

    def describe(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Speaker, recording and tags of one row, as a Clip takes them."""
        tags = {name.lower(): as_text(row.get(name)) for name in self.slices}
        return {
            "speaker": as_text(row.get(self.speaker)) if self.speaker else "",
            "recording": as_text(row.get(self.recording)) if self.recording else "",
            "tags": {name: value for name, value in tags.items() if value},
        }


def find_columns(names: Sequence[str], source: Source, where: str) -> Columns:
    """The columns of a table that `source` names, or of the usual names; raises UserError for one that is not there."""
    usual_slices = [name for name in names if name.lower() in SLICE_COLUMNS]
    wanted = usual_slices if source.slice_columns is None else source.slice_columns
    return Columns(
        audio=find_column(names, source.audio_column, AUDIO_COLUMNS, what="audio_column", where=where),
        text=find_column(names, source.text_column, TEXT_COLUMNS, what="text_column", where=where),
        speaker=find_optional_column(names, source.speaker_column, SPEAKER_COLUMNS, "speaker_column", where),
        recording=find_optional_column(names, source.recording_column, RECORDING_COLUMNS, "recording_column", where),
        slices=tuple(find_column(names, name, (), what="slice_columns", where=where) for name in wanted),
    )


def find_column(columns: Sequence[str], given: str | None, usual: Sequence[str], *, what: str, where: str) -> str:
    """The column `given`, or the first of the `usual` names that is there; raises UserError naming the columns."""
    if given is not None:
        if given in columns:
            return given
        raise UserError(f"{where}: {what}: {given}: no such column; it has {', '.join(columns)}")
    by_lower = {column.lower(): column for column in reversed(columns)}
    for name in usual:
        if name in by_lower:
            return by_lower[name]
    raise UserError(f"{where}: {what}: none of the usual names found; it has {', '.join(columns)}; name one")


def find_optional_column(
    columns: Sequence[str], given: str | None, usual: Sequence[str], what: str, where: str
) -> str | None:
    if given is not None:
        return find_column(columns, given, usual, what=what, where=where)
    return next((column for column in columns if column.lower() in usual), None)


def as_text(value: object) -> str:
    """What a column about the speaker or the recording holds, as text; a number may be 0."""
    return "" if value is None else printable(str(value)).strip()


def read_file(path: str, max_seconds: float | None) -> Waveform:
    """The waveform of an audio file; raises ValueError when there is none to be had."""
    try:
        there = Path(path).is_file()
    except OSError as error:  # a name that is too long: most often a text that stands in the audio column
        raise ValueError(f"no such file ({error.strerror})") from error
    if not there:
        raise ValueError(NO_SUCH_FILE)
    return decode(Path(path), max_seconds)
