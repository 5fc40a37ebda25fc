"""From the index to batches: decoded waveforms, labels, and an order that depends on seed and epoch alone."""

import math
import multiprocessing.context
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from whisper_train.audio import SAMPLE_RATE, SILENCE_PEAK
from whisper_train.augment.augmenter import Augmenter
from whisper_train.data.index import Index
from whisper_train.data.read import AudioReader
from whisper_train.errors import UserError

IGNORED = -100  # label of positions that the loss leaves out, as in torch's cross entropy
NO_CLIP = -1  # fills up the last global batch of an epoch
CLIPS_PER_WINDOW = 1_000  # Parquet: row groups are shuffled, then clips within windows of at least so many


class ClipDataset(Dataset[dict[str, Any]]):
    """The clips of an index. An unusable one comes with `dropped` instead of a waveform, never as another clip."""

    def __init__(
        self,
        index: Index,
        columns: Sequence[str | None],
        encode: Callable[[str, str], list[int]],
        max_seconds: float,
        augmenter: Augmenter | None = None,
    ):
        self.index = index
        self.reader = AudioReader(columns)
        self.encode = encode  # (text, language) -> start tokens, text, end of text
        self.max_seconds = max_seconds
        self.augmenter = augmenter

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if position == NO_CLIP:
            return {}
        row = self.index[position]
        try:
            waveform = self.reader.read(row["audio"], row["row_group"], row["row"], row["source"], self.max_seconds + 1)
            if len(waveform) > self.max_seconds * SAMPLE_RATE:
                raise ValueError(f"over {self.max_seconds:g} s")
            if math.isnan(row["seconds"]) and float(np.abs(waveform).max()) < SILENCE_PEAK:
                raise ValueError("silent")
        except ValueError as error:
            return {"dropped": (row["id"], str(error))}
        if self.augmenter:
            waveform = self.augmenter(waveform, row["source"], position, max_seconds=self.max_seconds)
        return {"waveform": waveform, "tokens": self.encode(row["text"], row["language"])}


class ShieldedProcess(multiprocessing.context.ForkProcess):
    """A loading process that SIGTERM and SIGINT do not reach, from its first moment on.

    Ctrl-C and `timeout` signal the whole process group; only the rank may answer, and it needs its loaders to save.
    """

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # what a child inherits
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ShieldedFork(multiprocessing.context.ForkContext):
    Process = ShieldedProcess


def shielded(workers: int) -> ShieldedFork | None:
    """The multiprocessing context of a DataLoader with so many workers."""
    return ShieldedFork() if workers else None


class Collator:
    """Joins clips into a batch of `waveforms` (clips, samples), `samples` (clips,), `decoder_input_ids` and `labels`.

    The decoder is fed start of transcript up to the last text token and must predict what follows, end of text
    included; positions beyond a clip's own length are masked by position, since Whisper pads with end of text.
    """

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        clips = [item for item in items if "waveform" in item]
        dropped = [item["dropped"] for item in items if "dropped" in item]
        if not clips:  # nothing to learn from, but every rank must take the step: silence without labels
            clips = [{"waveform": np.zeros(SAMPLE_RATE // 10, np.float32), "tokens": [self.pad_token] * 2}]
            lengths = [0]
        else:
            lengths = [len(clip["tokens"]) - 1 for clip in clips]
        samples = [len(clip["waveform"]) for clip in clips]
        width = max(len(clip["tokens"]) for clip in clips) - 1
        waveforms = torch.zeros(len(clips), max(samples))
        inputs = torch.full((len(clips), width), self.pad_token)
        labels = torch.full((len(clips), width), IGNORED)
        for position, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            waveforms[position, : samples[position]] = torch.from_numpy(clip["waveform"])
            inputs[position, : len(clip["tokens"]) - 1] = torch.tensor(clip["tokens"][:-1])
            labels[position, :length] = torch.tensor(clip["tokens"][1 : length + 1])
        batch = {
            "waveforms": waveforms,
            "samples": torch.tensor(samples),
            "decoder_input_ids": inputs,
            "labels": labels,
        }
        return {**batch, "dropped": dropped} if dropped else batch


class ClipOrder(Sampler[int]):
    """The order of one epoch: a function of seed and epoch, the same on any machine, so a resumed run goes on in it.

    A source's weight says how many times the epoch shows each of its clips; of a fraction, other clips each epoch.
    The last global batch is filled up with NO_CLIP, so that no clip is dropped or shown twice for the batch's sake.
    """

    def __init__(self, index: Index, weights: Sequence[float], global_batch: int, seed: int) -> None:
        self.sources = index.column("source")
        self.blocks = block_numbers(index)
        self.weights = weights
        self.global_batch = global_batch
        self.seed = seed
        self.epoch = 0
        counts = np.bincount(self.sources, minlength=len(weights))
        self.clips: int = sum(round(float(count) * weight) for count, weight in zip(counts, weights, strict=True))
        if self.clips == 0:
            raise UserError("data.train: the weights leave no clip to train on; raise them")

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-self.clips // self.global_batch)

    def __len__(self) -> int:
        return self.steps * self.global_batch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chance = np.random.default_rng([self.seed, self.epoch])
        order = self.shuffled(self.chosen(chance), chance)
        for position in order:
            yield int(position)
        yield from [NO_CLIP] * (len(self) - len(order))

    def chosen(self, chance: np.random.Generator) -> np.ndarray:
        """The clips of this epoch, in the order of the index, as often as their source's weight says."""
        parts = []
        for source, weight in enumerate(self.weights):
            members = np.flatnonzero(self.sources == source)
            whole = int(weight)
            extra = round(len(members) * weight) - whole * len(members)
            parts.append(np.tile(members, whole))
            parts.append(chance.choice(members, size=extra, replace=False))
        return np.concatenate(parts)

    def shuffled(self, chosen: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Single files in any order; Parquet rows near others of their row groups, a window of groups at a time."""
        if self.blocks is None:
            return chance.permutation(chosen)
        rank = chance.permutation(int(self.blocks.max()) + 1)[self.blocks[chosen]]
        order = chosen[np.argsort(rank, kind="stable")]
        rank = np.sort(rank)
        edges = [0]
        for boundary in np.flatnonzero(np.diff(rank)) + 1:
            if boundary - edges[-1] >= CLIPS_PER_WINDOW:
                edges.append(int(boundary))
        for start, stop in zip(edges, [*edges[1:], len(order)], strict=True):
            order[start:stop] = chance.permutation(order[start:stop])
        return order


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
