"""The index: the clips a run uses, as an Arrow file that is mapped into memory, never loaded.

About 150 bytes a clip on the disk, and nothing in memory whatever their number.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("audio", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("speaker", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int32()),
        ("source", pa.int32()),
        ("seconds", pa.float32()),  # NaN where the audio was not read beforehand
        ("audio_hash", pa.uint64()),
    ]
)
ROWS_PER_BATCH = 1_000


def write_index(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes `rows` to `path` batch by batch; returns their number."""
    count = 0
    batch: list[dict[str, Any]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for row in rows:
            batch.append(row)
            if len(batch) == ROWS_PER_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                count += len(batch)
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return count + len(batch)


class Index:
    """Random access to the rows of an index file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = self.map_file()

    def map_file(self) -> pa.Table:
        with pa.memory_map(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.table.slice(position, 1).to_pylist()
        return rows[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield from batch.to_pylist()

    def column(self, name: str) -> np.ndarray:
        """One numeric column as an array of shape (clips,)."""
        return np.asarray(self.table.column(name).to_numpy())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.table = self.map_file()
