"""The audit: every clip is read once before training; what cannot be used is dropped, counted and named.

Memory holds a few chunks of clips and 16 bytes a clip (hash and a verdict), not the clips.
"""

import hashlib
import json
import math
import multiprocessing
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.audio import SAMPLE_RATE, SILENCE_PEAK
from whisper_train.data.bounds import is_within
from whisper_train.data.clip import Clip
from whisper_train.data.index import Index, shorten, write_index
from whisper_train.data.read import AudioReader
from whisper_train.paths import written_whole
from whisper_train.printable import UNPRINTABLE

CLIPS_PER_CHUNK = 64
TOO_LONG, UNREADABLE, SILENT = "too long", "unreadable", "silent"
OUTSIDE = "outside the data folder"
EMPTY_TEXT, TOO_MANY_TOKENS = "empty text", "too many tokens"
CONTROL_CHARACTERS, SPECIAL_TOKENS = "control characters", "special tokens in the text"
DUPLICATE, IN_TRAIN_AND_EVAL = "duplicate", "in both train and eval"
REASONS: tuple[str, ...] = (OUTSIDE, UNREADABLE, EMPTY_TEXT, CONTROL_CHARACTERS, SPECIAL_TOKENS, SILENT, TOO_LONG)
REASONS += (TOO_MANY_TOKENS, DUPLICATE, IN_TRAIN_AND_EVAL)
SPECIAL_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>")  # Whisper's tokenizer would read its own commands in the text


@dataclass(frozen=True, slots=True)
class Limits:
    """What a clip may have at most: seconds, and tokens of its transcript with prompt and end of text (None: any)."""

    max_seconds: float
    count_tokens: Callable[[str], int] | None = None
    max_tokens: int = 0


@dataclass(slots=True)
class Tally:
    """What the audit found in one set."""

    clips: int = 0
    kept: int = 0
    seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "kept": self.kept,
            "hours": round(self.seconds / 3600, 4),
            "dropped": {reason: self.dropped[reason] for reason in REASONS if self.dropped[reason]},
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """What reading one clip showed: its length, a hash of its samples, and why it cannot be used, if so."""

    seconds: float
    audio_hash: int
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readers:
    """The processes that read clips for an audit, and how many chunks may be under way in them."""

    pool: ProcessPoolExecutor
    most_chunks: int


@contextmanager
def started_readers(workers: int) -> Iterator[Readers]:
    """The same processes for all sets of an audit, since each imports for longer than it reads a small set."""
    # Spawned, not forked: the parent may hold threads (tokenizers, Arrow) that a fork would break.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield Readers(pool, 4 * workers)


def inspect_chunk(
    clips: Sequence[Clip], columns: Sequence[str | None], folders: Sequence[tuple[str, ...]], max_seconds: float
) -> list[Finding]:
    reader = AudioReader(columns)
    return [inspect(clip, reader, folders[clip.source], max_seconds) for clip in clips]


def inspect(clip: Clip, reader: AudioReader, folders: tuple[str, ...], max_seconds: float) -> Finding:
    """Reads the audio of one clip, which must lie in one of `folders`, no more than a second past `max_seconds`."""
    if UNPRINTABLE.search(clip.audio):
        return Finding(0.0, 0, UNREADABLE, "the name of its file is not UTF-8 or holds control characters")
    if not is_within(clip, folders):
        return Finding(0.0, 0, OUTSIDE, f"leads out of {folders[0]}")
    try:
        waveform = reader.read(clip.audio, clip.row_group, clip.row, clip.source, max_seconds + 1)
    except ValueError as error:
        return Finding(0.0, 0, UNREADABLE, str(error))
    seconds = len(waveform) / SAMPLE_RATE
    audio_hash = int.from_bytes(hashlib.blake2b(waveform.tobytes(), digest_size=8).digest(), "little")
    if seconds > max_seconds:
        return Finding(seconds, audio_hash, TOO_LONG, f"over {max_seconds:g} s")
    if float(np.abs(waveform).max()) < SILENCE_PEAK:
        return Finding(seconds, audio_hash, SILENT, "never louder than -60 dB")
    return Finding(seconds, audio_hash)


def text_problem(text: str) -> tuple[str, str] | None:
    if not text:
        return EMPTY_TEXT, ""
    if found := UNPRINTABLE.search(text):
        return CONTROL_CHARACTERS, repr(found[0])
    if found := SPECIAL_TOKEN.search(text):
        return SPECIAL_TOKENS, found[0]
    return None


def audit_set(
    clips: Iterable[Clip],
    path: Path,
    *,
    columns: Sequence[str | None],
    streamed: Sequence[bool],
    folders: Sequence[tuple[str, ...]],
    limits: Limits,
    readers: Readers,
    cache: Path,
    drop: Callable[[Clip | dict[str, Any], str, str], None],
) -> Tally:
    """Writes the usable clips to the index `path` and calls `drop(clip, reason, detail)` for the others.

    `columns`, `streamed` and `folders` are per source: its audio column, whether its audio is only read during
    training, and where its audio must lie.
    """
    tally = Tally()

    def rows() -> Iterator[dict[str, Any]]:
        for clip, finding in inspect_all(clips, columns, streamed, folders, limits.max_seconds, readers):
            tally.clips += 1
            problem = (finding.reason, finding.detail) if finding.reason else text_problem(clip.text)
            tokens = limits.count_tokens(clip.text) if limits.count_tokens and not problem else 0
            if tokens > limits.max_tokens:
                problem = TOO_MANY_TOKENS, f"{tokens} tokens, over {limits.max_tokens}"
            if problem:
                tally.dropped[problem[0]] += 1
                drop(clip, *problem)
                continue
            found = {"seconds": finding.seconds, "audio_hash": finding.audio_hash, "tokens": tokens}
            yield {**asdict(clip), "audio": shorten(clip.audio, cache), **found}

    with written_whole(path) as temporary:
        write_index(temporary, rows())
    return tally


def inspect_all(
    clips: Iterable[Clip],
    columns: Sequence[str | None],
    streamed: Sequence[bool],
    folders: Sequence[tuple[str, ...]],
    max_seconds: float,
    readers: Readers,
) -> Iterator[tuple[Clip, Finding]]:
    """Yields every clip in order with what reading it showed; a bounded number is under way at once."""
    if all(streamed):
        yield from ((clip, Finding(math.nan, 0)) for clip in clips)
        return
    remaining = iter(clips)
    under_way: deque[tuple[list[Clip], Future[list[Finding]]]] = deque()
    while True:
        while len(under_way) < readers.most_chunks and (chunk := list(islice(remaining, CLIPS_PER_CHUNK))):
            local = [clip for clip in chunk if not streamed[clip.source]]
            under_way.append((chunk, readers.pool.submit(inspect_chunk, local, columns, folders, max_seconds)))
        if not under_way:
            return
        chunk, future = under_way.popleft()
        findings = iter(future.result())
        for clip in chunk:
            yield clip, Finding(math.nan, 0) if streamed[clip.source] else next(findings)


def drop_repeats(
    path: Path,
    tally: Tally,
    others: np.ndarray,
    learned: int,
    drop: Callable[[Clip | dict[str, Any], str, str], None],
) -> None:
    """Rewrites the index `path` without clips whose audio comes twice or is among the hashes `others` (of eval).

    The first `learned` sources are taken together. A later one, which is replayed, is looked at by itself: to show a
    clip again, and perhaps in another room, is what it is there for.
    """
    index = Index(path, cache=None)
    hashes = index.column("audio_hash")
    together = np.maximum(index.column("source"), learned - 1)
    known = hashes != 0
    first = np.zeros(len(hashes), dtype=bool)
    for number in np.unique(together):
        members = np.flatnonzero(together == number)
        first[members[np.unique(hashes[members], return_index=True)[1]]] = True
    shared = known & np.isin(hashes, others)
    repeated = known & ~first & ~shared

    def rows() -> Iterator[dict[str, Any]]:
        for position, row in enumerate(index):
            if shared[position] or repeated[position]:
                reason = IN_TRAIN_AND_EVAL if shared[position] else DUPLICATE
                tally.dropped[reason] += 1
                drop(row, reason, "")
                continue
            tally.kept += 1
            tally.seconds += 0.0 if math.isnan(row["seconds"]) else row["seconds"]
            yield row

    with written_whole(path) as temporary:
        write_index(temporary, rows())


class DropLog:
    """Names every dropped clip, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8")

    def in_set(self, name: str) -> Callable[[Clip | dict[str, Any], str, str], None]:
        def drop(clip: Clip | dict[str, Any], reason: str, detail: str) -> None:
            row = clip if isinstance(clip, dict) else asdict(clip)
            line = {"set": name, "clip": row["id"], "reason": reason, "detail": detail}
            self.file.write(json.dumps({key: value for key, value in line.items() if value}, ensure_ascii=False) + "\n")

        return drop

    def close(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
