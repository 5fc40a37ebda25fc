"""The index: the clips a run uses, as an Arrow file that is mapped into memory, never loaded.

About 150 bytes a clip on the disk, and nothing in memory whatever their number.
"""

import json
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
        ("recording", pa.string()),
        ("tags", pa.string()),  # a JSON object, or nothing
        ("row_group", pa.int32()),
        ("row", pa.int32()),
        ("source", pa.int32()),
        ("seconds", pa.float32()),  # NaN where the audio was not read beforehand
        ("audio_hash", pa.uint64()),
        ("tokens", pa.int32()),  # of the text as a label by itself; 0 where nobody asked
    ]
)
VERSION = 3  # of the schema: an index of another one is made again
ROWS_PER_BATCH = 1_000
IN_CACHE = "cache:"  # begins a path under CACHE_DIR, which lies elsewhere in a container than outside


def write_index(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes `rows` to `path` batch by batch; returns their number."""
    count = 0
    batch: list[dict[str, Any]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for row in rows:
            batch.append({**row, "tags": json.dumps(row["tags"], ensure_ascii=False) if row.get("tags") else ""})
            if len(batch) == ROWS_PER_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                count += len(batch)
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return count + len(batch)


def shorten(audio: str, cache: Path) -> str:
    """The path `audio` as an index holds it: one under the folder `cache` does not name it."""
    folder = f"{cache}/"
    return f"{IN_CACHE}{audio.removeprefix(folder)}" if audio.startswith(folder) else audio


def lengthen(audio: str, cache: Path) -> str:
    """The path that an index holds as `audio`, with CACHE_DIR as it is now."""
    return f"{cache}/{audio.removeprefix(IN_CACHE)}" if audio.startswith(IN_CACHE) else audio


def cached_audio(path: Path) -> set[str]:
    """The different files under CACHE_DIR that the index at `path` names, relative to it.

    None for an index that an interrupted audit has not finished: the next one makes it anew.
    """
    import pyarrow.compute as pc

    try:
        with pa.memory_map(str(path)) as source:
            audio = pa.ipc.open_file(source).read_all().column("audio")
    except pa.ArrowInvalid:
        return set()
    named = pc.unique(pc.filter(audio, pc.starts_with(audio, IN_CACHE)))
    return {one.removeprefix(IN_CACHE) for one in named.to_pylist()}


def is_cached(path: Path, cache: Path) -> bool:
    """Whether the index at `path` is there with every file of CACHE_DIR that it names: a cache may be cleaned."""
    return path.is_file() and all((cache / name).exists() for name in cached_audio(path))


class Index:
    """Random access to the rows of an index file; `cache` is CACHE_DIR now, None leaves paths as they stand."""

    def __init__(self, path: Path, cache: Path | None) -> None:
        self.path = path
        self.cache = cache
        self.table = self.map_file()

    def map_file(self) -> pa.Table:
        with pa.memory_map(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.expand(self.table.slice(position, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=ROWS_PER_BATCH):
            yield from map(self.expand, batch.to_pylist())

    def expand(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.cache is not None:
            row["audio"] = lengthen(row["audio"], self.cache)
        row["tags"] = json.loads(row["tags"]) if row["tags"] else {}
        return row

    def texts(self) -> Iterator[str]:
        """The transcripts, without loading them all."""
        for batch in self.table.select(["text"]).to_batches(max_chunksize=ROWS_PER_BATCH):
            yield from batch.column(0).to_pylist()

    def column(self, name: str) -> np.ndarray:
        """One numeric column as an array of shape (clips,)."""
        return np.asarray(self.table.column(name).to_numpy())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.cache = state["path"], state["cache"]
        self.table = self.map_file()
