"""The voices of a babble: other clips of the same set."""

import numpy as np

from whisper_train.audio import Waveform
from whisper_train.data.index import Index
from whisper_train.data.read import AudioReader
from whisper_train.errors import UserError

VOICE_SECONDS = 30.0  # of a clip that is a voice in a babble
NEARBY = 50  # clips on both sides, where a row group of Parquet holds a single one
DRAWN_FOR_EACH = 2  # clips for each voice: of these, other speakers first


class Voices:
    """Reads other clips of an index. Holds where the row groups of Parquet begin, 8 bytes each."""

    def __init__(self, index: Index, reader: AudioReader) -> None:
        if len(index) < 2:
            raise UserError(
                f"augment.noise.kinds: babble is made of other clips, and {index.path.stem} holds {len(index)};"
                " take babble out"
            )
        self.index = index
        self.reader = reader
        self.starts = block_starts(index)

    def read(self, position: int, count: int, chance: np.random.Generator) -> list[Waveform]:
        """Waveforms (samples,) of `count` clips that are not the one at `position`, of other speakers if there are any.

        None is heard twice, so there are fewer where few others are drawn; and where a clip cannot be read any more,
        which its own turn names.
        """
        low, high = self.neighbours(position)
        drawn = chance.integers(low, high - 1, DRAWN_FOR_EACH * count)
        others = [
            self.index[other + int(other >= position)] for other in dict.fromkeys(drawn.tolist())
        ]  # all but `position` itself
        speaker = self.index[position]["speaker"]
        others.sort(key=lambda row: bool(speaker) and row["speaker"] == speaker)
        voices = []
        for row in others[:count]:
            try:
                place = (row["audio"], row["row_group"], row["row"], row["source"])
                voices.append(self.reader.read(*place, max_seconds=VOICE_SECONDS))
            except ValueError:
                continue
        return voices

    def neighbours(self, position: int) -> tuple[int, int]:
        """From which positions the voices come: all, or those of the same row group of Parquet.

        A voice from another group would cost reading that group, and so a thousand times as much.
        """
        if self.index[position]["row_group"] < 0:
            return 0, len(self.index)
        block = int(np.searchsorted(self.starts, position, "right"))
        low, high = int(self.starts[block - 1]), int(self.starts[block])
        if high - low > 1:
            return low, high
        return max(0, position - NEARBY), min(len(self.index), position + NEARBY + 1)


def block_starts(index: Index) -> np.ndarray:
    """Where each row group begins in the index, and, last, its length; files by themselves are of no interest."""
    groups, rows, sources = (index.column(name) for name in ("row_group", "row", "source"))
    begins = (np.diff(groups) != 0) | (np.diff(sources) != 0) | ((np.diff(rows) <= 0) & (groups[1:] >= 0))
    return np.concatenate([[0], np.flatnonzero(begins) + 1, [len(index)]])
