"""How many times an epoch shows each clip of a training source: its weight, and for what is replayed its share."""

import numpy as np

from whisper_train.data.index import Index
from whisper_train.errors import UserError
from whisper_train.job_data import Data


def epoch_weights(data: Data, index: Index) -> list[float]:
    """A weight for each of `data.training_sources`, from the clips that the audit left in `index`.

    Those of what is replayed make it data.replay.share of all clips that an epoch shows: exactly, but where windows are
    shown, about. Among them the sources are shown as their own weights and their numbers of clips say. Raises UserError
    when nothing is left to replay.
    """
    weights = [source.weight for source in data.training_sources]
    if data.replay is None:
        return weights
    counts = count_clips(data, index)
    learned = len(data.train)
    shown = sum(round(float(count) * weight) for count, weight in zip(counts, weights[:learned], strict=False))
    replayed = round(shown * data.replay.share / (1 - data.replay.share))
    wanted = counts[learned:] * np.array(weights[learned:])
    if not wanted.sum():
        raise UserError(
            "data.replay: the audit left no clip of its sources; data/dropped.jsonl in the run folder says why"
        )
    parts = apportion(replayed, wanted)
    return [*weights[:learned], *(parts / np.maximum(counts[learned:], 1)).tolist()]


def count_clips(data: Data, index: Index) -> np.ndarray:
    """The clips of each training source in `index`, of shape (sources,)."""
    return np.bincount(index.column("source"), minlength=len(data.training_sources))


def apportion(total: int, wanted: np.ndarray) -> np.ndarray:
    """Whole numbers that sum up to `total` and are to each other as `wanted`, by largest remainders."""
    exact = total * wanted / wanted.sum()
    parts: np.ndarray = np.floor(exact).astype(np.int64)
    largest = np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]
    parts[largest] += 1
    return parts


def count_replayed(data: Data, index: Index) -> dict[str, int]:
    """What an epoch replays, `clips` of `shown`; `known` are those that it takes them from."""
    counts, weights = count_clips(data, index), np.array(epoch_weights(data, index))
    shown = np.rint(counts * weights).astype(int)
    learned = len(data.train)
    return {
        "clips": int(shown[learned:].sum()),
        "shown": int(shown.sum()),
        "known": int(counts[learned:].sum()),
    }


def describe_replayed(data: Data, replayed: dict[str, int]) -> str:
    """count_replayed's figures as a line of text."""
    clips, shown, known = replayed["clips"], replayed["shown"], replayed["known"]
    about = "about " if data.windows else ""
    how = "others each time" if clips < known else f"each {clips / known:.1f} times on average"
    return f"an epoch shows {about}{shown:,} clips; {about}{clips:,} of them are replayed, from {known:,} ({how})"
