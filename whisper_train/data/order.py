"""What an epoch shows, and in which order: a function of seed and epoch, the same on any machine."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from whisper_train.data.index import Index
from whisper_train.data.windows import NO_CLIP, group_clips, single_clips
from whisper_train.errors import UserError
from whisper_train.job_data import Windows

BATCHES_PER_STRETCH = 50  # of files with fitted windows: clips of about one length are found among so many batches
UNLIKE = 0.1  # by how much of its length a clip may be sorted wrongly, so that no epoch has the batches of another
CLIPS_PER_STRETCH = 1_000  # Parquet: row groups are shuffled, then windows within stretches of at least so many clips
TAIL_SHARE = 0.8  # of the windows that begin after a pause: those that begin in the end of the clip before it
CUT_SHARE = 0.8  # of the windows with time stamps: those that end within the clip that follows, where one does
UNSURE_SECONDS = 0.01  # of an index, which rounds them
DRAWS = 1  # sets what is drawn for a window apart from the order


class Draw(NamedTuple):
    """What is shown at one place of an epoch: a clip, or a window of several."""

    positions: tuple[int, ...]  # of its clips in the index; none: it fills up the last global batch
    epoch: int = 0
    repeat: int = 0  # how many times this epoch has shown it before
    timestamps: bool = False
    prompt: int = NO_CLIP  # the clip before, whose text is given as a prompt
    cut: int = NO_CLIP  # the clip behind, heard up to the window's end
    tail: int = NO_CLIP  # the clip before, whose end is heard where the window begins after a pause
    window_seconds: float = 0.0  # that the longest clip of its global batch needs; 0: not fitted to it


FILLER = Draw(())


class ClipOrder(Sampler[Draw]):
    """The order of one epoch: a function of seed and epoch, the same on any machine, so a resumed run goes on in it.

    A source's weight says how many times the epoch shows each of its clips; of a fraction, others each epoch. With
    `windows` clips are joined, and windows are what weights and `global_batch` count. The last global batch is filled
    up with FILLER, so that no clip is dropped or shown twice for the batch's sake. With `stretch`, by how much a clip
    may become longer, a global batch has clips of about one length, and its draws say how long the longest may be.
    """

    def __init__(
        self,
        index: Index,
        weights: Sequence[float],
        global_batch: int,
        seed: int,
        *,
        windows: Windows | None = None,
        window_seconds: float = 30.0,
        max_tokens: int = 448,
        stretch: float | None = None,
    ) -> None:
        blocks = block_numbers(index)
        assert stretch is None or windows is None, "joined clips fill their window"
        self.settings = windows
        self.grouping = (
            group_clips(index, blocks, windows, window_seconds, max_tokens, seed)
            if windows
            else single_clips(len(index))
        )
        self.sources = index.column("source")[self.grouping.first]
        self.blocks = None if blocks is None else blocks[self.grouping.first]
        self.needed = None if stretch is None else seconds_needed(index, stretch, window_seconds)
        self.weights = weights
        self.global_batch = global_batch
        self.seed = seed
        self.epoch = 0
        self.shown = 0  # draws of this epoch that were trained on before
        counts = np.bincount(self.sources, minlength=len(weights))
        self.windows: int = sum(round(float(count) * weight) for count, weight in zip(counts, weights, strict=True))
        if self.windows == 0:
            raise UserError("data.train: the weights leave no clip to train on; raise them")

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-self.windows // self.global_batch)

    def __len__(self) -> int:
        return self.steps * self.global_batch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def go_on(self, step: int) -> None:
        """Makes the next epoch that is iterated the one of training step `step`.

        What it has shown before that step comes as FILLER: whoever skips it need not wait until it is drawn.
        """
        self.set_epoch(step // self.steps)
        self.shown = step % self.steps * self.global_batch

    def __iter__(self) -> Iterator[Draw]:
        chance = np.random.default_rng([self.seed, self.epoch])
        windows, repeats = self.chosen(chance)
        order, edges = self.shuffled(windows, chance)
        longest = np.zeros(len(order))
        if self.needed is not None:
            needed = self.needed[windows]
            order = order[alike(needed[order], edges, self.global_batch, chance)]
            longest = longest_of_batches(needed[order], self.global_batch)
        chances = np.random.default_rng([self.seed, self.epoch, DRAWS]).random((len(order), 4))
        yield from itertools.repeat(FILLER, self.shown)
        rest = slice(self.shown, None)
        shown = zip(windows[order[rest]], repeats[order[rest]], chances[rest], longest[rest], strict=True)
        for window, repeat, drawn, seconds in shown:
            yield self.draw(int(window), int(repeat), drawn)._replace(window_seconds=float(seconds))
        yield from itertools.repeat(FILLER, len(self) - max(len(order), self.shown))

    def draw(self, window: int, repeat: int, drawn: np.ndarray) -> Draw:
        """The window as this epoch shows it; `drawn` are four numbers between 0 and 1."""
        grouping, settings = self.grouping, self.settings
        start, stop = grouping.starts[window : window + 2]
        positions = tuple(grouping.clips[start:stop].tolist())
        if settings is None or not grouping.in_recording[window]:
            return Draw(positions, self.epoch, repeat)
        timestamps = bool(drawn[0] < settings.timestamps)
        prompt = int(grouping.before[window]) if drawn[1] < settings.prompts else NO_CLIP
        cut = int(grouping.behind[window]) if timestamps and drawn[2] < CUT_SHARE else NO_CLIP
        tail = int(grouping.before[window]) if timestamps and drawn[3] < TAIL_SHARE else NO_CLIP
        return Draw(positions, self.epoch, repeat, timestamps, prompt, cut, tail)

    def chosen(self, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The windows of this epoch, in the order of the index, as often as their source's weight says.

        And for each how many times it stands there before.
        """
        parts, repeats = [], []
        for source, weight in enumerate(self.weights):
            members = np.flatnonzero(self.sources == source)
            whole = int(weight)
            extra = round(len(members) * weight) - whole * len(members)
            parts += [np.tile(members, whole), chance.choice(members, size=extra, replace=False)]
            repeats += [np.repeat(np.arange(whole), len(members)), np.full(extra, whole)]
        return np.concatenate(parts), np.concatenate(repeats)

    def shuffled(self, chosen: np.ndarray, chance: np.random.Generator) -> tuple[np.ndarray, list[int]]:
        """An order of `chosen`: single files any, Parquet rows near others of their row groups, a stretch at a time.

        And where the stretches begin and the last one ends, within which places may be changed.
        """
        if self.blocks is None:
            edges = [*range(0, len(chosen), BATCHES_PER_STRETCH * self.global_batch), len(chosen)]
            return chance.permutation(len(chosen)), edges
        rank = chance.permutation(int(self.blocks.max()) + 1)[self.blocks[chosen]]
        order = np.argsort(rank, kind="stable")
        clips = np.append(0, np.cumsum(np.diff(self.grouping.starts)[chosen[order]]))
        edges = [0]
        for boundary in np.flatnonzero(np.diff(rank[order])) + 1:
            if clips[boundary] - clips[edges[-1]] >= CLIPS_PER_STRETCH:
                edges.append(int(boundary))
        edges.append(len(order))
        for start, stop in itertools.pairwise(edges):
            order[start:stop] = chance.permutation(order[start:stop])
        return order, edges


def seconds_needed(index: Index, stretch: float, most: float) -> np.ndarray:
    """Of a window for each clip (clips,), when it may become `stretch` times as long; `most` where it is not known."""
    seconds = index.column("seconds").astype(np.float64) * stretch + UNSURE_SECONDS
    return np.minimum(np.nan_to_num(seconds, nan=most), most)


def alike(lengths: np.ndarray, edges: Sequence[int], batch: int, chance: np.random.Generator) -> np.ndarray:
    """An order of `lengths` (windows,) in which those of a batch are much alike, and batches come in any order.

    Sorted are the stretches between `edges`. What fills no batch of its stretch begins the next one's first, with those
    like it; at last it comes to the end. The batch of the longest comes first: whether it fits is known at once.
    """
    seemingly = lengths * chance.uniform(1 - UNLIKE, 1 + UNLIKE, len(lengths))
    batches, left = [np.empty((0, batch), np.int64)], np.empty(0, np.int64)
    for start, stop in itertools.pairwise(edges):
        here = start + np.argsort(seemingly[start:stop], kind="stable")
        if missing := min(batch - len(left), len(here)) if len(left) else 0:
            place = int(np.searchsorted(seemingly[here], np.median(seemingly[left]))) - missing // 2
            taken = np.arange(missing) + min(max(place, 0), len(here) - missing)
            left, here = np.append(left, here[taken]), np.delete(here, taken)
        if len(left) == batch:
            batches.append(left[None])
            left = here[:0]
        if not len(left):
            over = np.arange(len(here) % batch)
            over += int(chance.integers(len(here) - len(over) + 1))
            left, here = here[over], np.delete(here, over)
        batches.append(chance.permutation(here.reshape(-1, batch)))
    rows = np.concatenate(batches)
    longest = int(lengths[rows].max(axis=1).argmax()) if len(rows) else 0
    return np.append(np.concatenate([rows[longest : longest + 1], rows[:longest], rows[longest + 1 :]]).ravel(), left)


def longest_of_batches(lengths: np.ndarray, batch: int) -> np.ndarray:
    """For each of `lengths` (windows,) the longest one in its batch of so many."""
    starts = np.arange(0, len(lengths), batch)
    return np.repeat(np.maximum.reduceat(lengths, starts), batch)[: len(lengths)]


def block_numbers(index: Index) -> np.ndarray | None:
    """For each clip the number of its row group, or one of its own for a file; None when all are files."""
    groups = index.column("row_group")
    if (groups < 0).all():
        return None
    numbers = np.empty(len(groups), np.int64)
    last: tuple[str, int] | None = None
    number = -1
    for position, row in enumerate(index):
        key = (row["audio"], row["row_group"])
        if key != last or row["row_group"] < 0:
            number, last = number + 1, key
        numbers[position] = number
    return numbers
