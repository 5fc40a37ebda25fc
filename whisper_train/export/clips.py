"""The clips that every candidate hears: the job's eval sets, the same for all and in the same order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.errors import RunFailed
from whisper_train.job import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSet:
    """Clips of one eval set, at `positions` of its index; `left_out` are longer than the model's window."""

    name: str
    index: str
    digest: str
    columns: list[str | None]
    augment: list[dict[str, Any] | None] | None
    positions: list[int]
    left_out: int = 0


def choose_sets(
    job: Job,
    names: Sequence[str],
    at_most: int,
    *,
    trained: Path,
    own: Path,
    cache: Path,
    window_seconds: float,
    say: Callable[[str], None],
) -> list[ClipSet]:
    """Up to `at_most` clips of each set in `names`, spread evenly over it; audited as an evaluation does it."""
    from whisper_train.augment.settings import dump_settings
    from whisper_train.data.index import Index
    from whisper_train.data.prepare import prepare_eval_data
    from whisper_train.evaluation.passages import choose_clips

    chosen = []
    for name, audited in prepare_eval_data(job, names, trained, own, cache=cache, say=say).items():
        index, sources = Index(audited.index, cache), job.data.eval[name]
        seconds = np.nan_to_num(index.column("seconds"))
        short = [position for position in choose_clips(index, at_most) if seconds[position] <= window_seconds]
        chosen.append(
            ClipSet(
                name=name,
                index=str(audited.index),
                digest=audited.digest,
                columns=[source.audio_column for source in sources],
                augment=dump_settings([source.augment for source in sources]),
                positions=short,
                left_out=len(choose_clips(index, at_most)) - len(short),
            )
        )
    return chosen


def of_round(sets: Sequence[ClipSet], number: int, rounds: int) -> list[tuple[str, int]]:
    """(set, position) of the clips that round `number` of `rounds` hears: every clip in one round."""
    everything = [(one.name, position) for one in sets for position in one.positions]
    return everything[number::rounds]


def for_batches(clips: Sequence[Any], count: int) -> list[Any]:
    """`count` of `clips`, spread over them; again from the first where there are fewer."""
    if len(clips) >= count:
        return [clips[int(place)] for place in np.linspace(0, len(clips) - 1, count).round()]
    return list(islice(cycle(clips), count))


class Opened:
    """The clips of some sets, read when they are asked for."""

    def __init__(self, sets: Sequence[ClipSet], cache: Path, window_seconds: float) -> None:
        from whisper_train.augment.augmenter import augmenter_for
        from whisper_train.augment.settings import load_settings
        from whisper_train.data.index import Index
        from whisper_train.evaluation.passages import AUGMENT_SEED, Clips

        self.passages = {}
        for one in sets:
            index = Index(Path(one.index), cache)
            augmenter = augmenter_for(load_settings(one.augment), index, one.columns, AUGMENT_SEED)
            self.passages[one.name] = Clips(index, one.columns, one.positions, augmenter, window_seconds)
        self.places = {
            (one.name, position): place for one in sets for place, position in enumerate(one.positions)
        }  # of a clip among those of its set

    def read(self, name: str, position: int) -> dict[str, Any]:
        """`waveform`, `language` and `line` of a clip; RunFailed for one that cannot be read any more."""
        item = self.passages[name][self.places[name, position]]
        if item["waveform"] is None:
            raise RunFailed(f"{name}: {item['line']['clip']}: cannot be read any more; audit the set again (make eval)")
        return item

    def window(self, samples: int) -> Waveform:
        """Speech that fills a whole window of so many samples: clips one after the other, from the first."""
        parts: list[Waveform] = []
        for name, position in cycle(self.places):
            parts.append(self.read(name, position)["waveform"])
            if sum(map(len, parts)) >= samples:
                return np.concatenate(parts)[:samples]
        return babbled(samples)


def babbled(samples: int) -> Waveform:
    """Something like speech where there is no clip; as long as it may be, it is cut or filled with silence."""
    from whisper_train.export.sounds import babble

    sound = np.zeros(samples, np.float32)
    made = babble(0, samples / SAMPLE_RATE / 0.3)[:samples]
    sound[: len(made)] = made
    return sound
