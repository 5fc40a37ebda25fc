"""The audio of a clip, whichever kind of source it came from."""

import os
from collections.abc import Sequence

from whisper_train.audio import Waveform
from whisper_train.data.clip import read_file
from whisper_train.data.parquet import ParquetReader


class AudioReader:
    """Reads waveforms; a process forked with one of these opens its own Parquet files."""

    def __init__(self, audio_columns: Sequence[str | None]) -> None:
        self.audio_columns = list(audio_columns)  # per source of the set
        self.parquet: ParquetReader | None = None
        self.process = 0

    def read(self, audio: str, row_group: int, row: int, source: int, max_seconds: float | None = None) -> Waveform:
        """The waveform of shape (samples,) at 16 kHz; raises ValueError when the audio is unusable."""
        if row_group < 0:
            return read_file(audio, max_seconds)
        if self.parquet is None or self.process != os.getpid():
            self.parquet, self.process = ParquetReader(self.audio_columns), os.getpid()
        return self.parquet.read(audio, row_group, row, source, max_seconds)

    def __getstate__(self) -> dict[str, object]:
        return {"audio_columns": self.audio_columns, "parquet": None, "process": 0}
