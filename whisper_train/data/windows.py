"""Which clips make a window: consecutive ones of one speaker, as many as fit. Arrays, whatever the number of clips."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from whisper_train.data.index import Index
from whisper_train.job_data import Windows

NO_CLIP = -1
TOKENS_AROUND = 6  # of a window beside those of its clips: start, language, task, a clip that is cut, end; one spare
GROUPING = 1  # sets this use of the seed apart from the orders of the epochs


@dataclass(frozen=True, slots=True)
class Grouping:
    """The windows of an index. Window w holds the clips `clips[starts[w]:starts[w + 1]]`.

    `before` and `behind` (windows,) are the positions of the clips around a window in its speaker's speech, or NO_CLIP.
    `in_recording` (windows,) says which are learned as parts of a recording, and not as clips by themselves: a lone
    clip whose text leaves no room for time stamps is not.
    """

    clips: np.ndarray
    starts: np.ndarray
    before: np.ndarray
    behind: np.ndarray
    in_recording: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def first(self) -> np.ndarray:
        """The first clip of each window."""
        return np.asarray(self.clips[self.starts[:-1]])


def single_clips(count: int) -> Grouping:
    nothing = np.full(count, NO_CLIP)
    return Grouping(np.arange(count), np.arange(count + 1), nothing, nothing, np.zeros(count, bool))


def group_clips(
    index: Index, blocks: np.ndarray | None, settings: Windows, window_seconds: float, max_tokens: int, seed: int
) -> Grouping:
    """Packs the clips of each run (see find_runs) into windows of at most `window_seconds` and `max_tokens`.

    Greedily, at pauses of their mean length; then of the windows so many are taken apart again that the share
    `settings.joined` of the clips is left, in expectation. The same for a seed in every epoch, so that epochs have the
    same number of steps.
    """
    order, run_ends = find_runs(index, blocks)
    seconds = np.nan_to_num(index.column("seconds").astype(np.float64))[order]
    pause = sum(settings.pause_seconds) / 2
    tokens, most = index.column("tokens")[order], max_tokens - TOKENS_AROUND
    last = np.minimum(reach(seconds + pause, window_seconds + pause), reach(tokens, most))
    following = np.maximum(np.minimum(last, run_ends), np.arange(len(order)) + 1)
    starts = follow(following)
    sizes = np.diff(starts)
    apart = np.random.default_rng([seed, GROUPING]).random(len(sizes)) >= settings.joined
    singles = np.repeat(apart, sizes)
    heads = singles.copy()
    heads[starts[:-1]] = True
    starts = np.append(np.flatnonzero(heads), len(order))
    fits = np.diff(np.append(0, np.cumsum(tokens))[starts]) <= most  # not so a clip by itself that is nearly too long
    run_starts = np.append(0, run_ends[:-1] == np.arange(1, len(order)))  # 1 where another run begins
    return Grouping(
        clips=order,
        starts=starts,
        before=np.where(run_starts[starts[:-1]] | (starts[:-1] == 0), NO_CLIP, order[starts[:-1] - 1]),
        behind=np.where(run_ends[starts[1:] - 1] == starts[1:], NO_CLIP, order[starts[1:] % len(order)]),
        in_recording=~singles[starts[:-1]] & fits,
    )


def find_runs(index: Index, blocks: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The clips (clips,) run by run, and for each place in that order where its run ends (clips,).

    A run is what one speaker says in one language within a source, in the order of the index; where the speaker is
    not known, what is said in one recording. A clip of which neither is known, or whose length is not known
    beforehand, is a run by itself. Rows of different Parquet row groups are never in one run: a window of theirs
    would cost the reading of both.
    """
    speakers, recordings, languages = (codes(index, name) for name in ("speaker", "recording", "language"))
    alone = ((speakers < 0) & (recordings < 0)) | np.isnan(index.column("seconds"))
    voice = np.where(speakers >= 0, speakers, speakers.max(initial=0) + 1 + recordings)
    voice = np.where(alone, NO_CLIP - 1 - np.arange(len(index)), voice)
    keys = [voice, languages, index.column("source")]
    if blocks is not None:  # files have a block each, and must not be parted by it
        keys.append(np.where(index.column("row_group") < 0, NO_CLIP, blocks))
    order = np.lexsort(keys)
    changes = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    ends = np.append(np.flatnonzero(changes) + 1, len(order))
    return order, np.repeat(ends, np.diff(ends, prepend=0))


def codes(index: Index, name: str) -> np.ndarray:
    """A text column as numbers (clips,), equal where the texts are; -1 where there is none."""
    encoded = pc.dictionary_encode(index.table.column(name)).unify_dictionaries()
    numbers = np.concatenate([np.asarray(chunk.indices.fill_null(-1)) for chunk in encoded.chunks] or [np.empty(0)])
    values = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    return np.where(numbers == values.index(""), NO_CLIP, numbers) if "" in values else numbers


def reach(sizes: np.ndarray, room: float) -> np.ndarray:
    """For each place the first one behind it that no longer fits: sizes[place:result].sum() <= room."""
    total = np.append(0, np.cumsum(sizes))
    return np.searchsorted(total, total[:-1] + room, side="right") - 1


def follow(following: np.ndarray) -> np.ndarray:
    """0, following[0], following[following[0]] … up to the number of places."""
    visited = np.zeros(len(following) + 1, bool)
    place = 0
    while place < len(following):
        visited[place] = True
        place = int(following[place])
    visited[-1] = True
    return np.flatnonzero(visited)
