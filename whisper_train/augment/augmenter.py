"""The effects of a set of clips: which clip gets which, always the same for the same clip, epoch and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from whisper_train.audio import Waveform
from whisper_train.augment import effects
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import within_full_scale
from whisper_train.augment.line import over_codec, over_telephone, telephone_band
from whisper_train.augment.noise import add_noise, babble, find_recordings, pink_noise, read_crop, white_noise
from whisper_train.augment.room import reverberate
from whisper_train.data.index import Index
from whisper_train.data.read import AudioReader
from whisper_train.job_augment import Augment, Noise
from whisper_train.job_data import Data

ORDER = tuple(Augment.model_fields)  # as sound meets them
BABBLE_SECONDS = 30.0  # of a clip that is one voice in it
NEARBY = 50  # clips on both sides, where a row group of Parquet holds no other


@dataclass(frozen=True, slots=True)
class Applied:
    """One effect that a clip got, with the values drawn for it."""

    effect: str
    values: dict[str, float | str] = field(default_factory=dict)


class Augmenter:
    """Applies each clip's effects. Holds what babble and noise folders need."""

    def __init__(self, settings: Sequence[Augment | None], index: Index, reader: AudioReader, seed: int) -> None:
        self.settings = list(settings)  # per source of the set
        self.index = index
        self.reader = reader
        self.seed = seed
        self.recordings = {
            folder: find_recordings(folder, "augment.noise.folder") for folder in noise_folders(self.settings)
        }
        self.blocks = block_starts(index) if any(makes_babble(one) for one in self.settings) else np.empty(0, np.int64)

    def __call__(
        self,
        waveform: Waveform,
        source: int,
        position: int,
        *,
        epoch: int = 0,
        repeat: int = 0,
        max_seconds: float | None = None,
    ) -> Waveform:
        """The clip at `position` of the index as it is heard in `epoch`, the `repeat`-th time there (from 0).

        Only `speed` changes its length, never beyond `max_seconds`. Within full scale unless it was over it before.
        """
        return self.apply(waveform, source, position, epoch=epoch, repeat=repeat, max_seconds=max_seconds)[0]

    def apply(
        self,
        waveform: Waveform,
        source: int,
        position: int,
        *,
        epoch: int = 0,
        repeat: int = 0,
        max_seconds: float | None = None,
    ) -> tuple[Waveform, list[Applied]]:
        """The same, with what was done."""
        settings = self.settings[source]
        if settings is None or not len(waveform):
            return waveform, []
        chance = np.random.default_rng([self.seed, epoch, repeat, position])
        chosen = [name for name in ORDER if (one := getattr(settings, name)) and chance.random() < one.probability]
        applied = []
        for name in chosen:
            draws = Draws(chance)
            waveform = self.apply_one(name, waveform, settings, draws, position, "telephone" in chosen, max_seconds)
            applied.append(Applied(name, draws.values))
        return (within_full_scale(waveform) if applied else waveform), applied

    def apply_one(
        self,
        name: str,
        waveform: Waveform,
        settings: Augment,
        draws: Draws,
        position: int,
        by_telephone: bool,
        max_seconds: float | None,
    ) -> Waveform:
        one = getattr(settings, name)
        match name:
            case "speed":
                return effects.change_speed(waveform, one, draws, max_seconds)
            case "pitch":
                return effects.change_pitch(waveform, one, draws)
            case "room":
                return reverberate(waveform, one, draws)
            case "noise":
                noise = self.make_noise(one, len(waveform), draws, position)
                return add_noise(
                    waveform, noise, one.snr_db, draws, telephone_band if by_telephone else lambda wave: wave
                )
            case "gain":
                return effects.change_gain(waveform, one, draws)
            case "clipping":
                return effects.clip_peaks(waveform, one, draws)
            case "telephone":
                return over_telephone(waveform, one, draws)
            case "codec":
                return over_codec(waveform, one, draws)
            case _:
                return effects.drop_out(waveform, one, draws)

    def make_noise(self, settings: Noise, samples: int, draws: Draws, position: int) -> Waveform:
        kind = draws.one_of("kind", [*settings.kinds, *(["recording"] if settings.folder else [])])
        match kind:
            case "white":
                return white_noise(samples, draws.chance)
            case "pink":
                return pink_noise(samples, draws.chance)
            case "babble":
                low, high = settings.voices
                count = int(draws.keep("voices", int(draws.chance.integers(low, high + 1))))
                return babble(self.read_voices(position, count, draws.chance), samples, draws.chance)
            case _:
                assert settings.folder
                files = self.recordings[settings.folder]
                path = files[int(draws.chance.integers(len(files)))]
                draws.values["kind"] = path.name
                return read_crop(path, samples, draws.chance)

    def read_voices(self, position: int, count: int, chance: np.random.Generator) -> list[Waveform]:
        """The waveforms of `count` other clips, of other speakers where there are some; one that cannot be read is
        left out. From the same row group of Parquet, since any other would have to be read for it."""
        low, high = self.neighbours(position)
        others = np.setdiff1d(np.arange(low, high), [position]) if high - low < 10_000 else None
        drawn = chance.integers(low, high, 3 * count) if others is None else chance.permutation(others)[: 3 * count]
        rows = [self.index[int(one)] for one in drawn if one != position]
        speaker = self.index[position]["speaker"]
        rows.sort(key=lambda row: bool(speaker) and row["speaker"] == speaker)
        voices = []
        for row in rows:
            if len(voices) == count:
                break
            try:
                place = (row["audio"], row["row_group"], row["row"], row["source"])
                voices.append(self.reader.read(*place, max_seconds=BABBLE_SECONDS))
            except ValueError:  # the audit names it, or its own turn does
                continue
        return voices

    def neighbours(self, position: int) -> tuple[int, int]:
        """Bounds of the positions from which a babble takes its voices."""
        if self.index[position]["row_group"] < 0:
            return 0, len(self.index)
        block = int(np.searchsorted(self.blocks, position, "right")) - 1
        low, high = int(self.blocks[block]), int(self.blocks[block + 1])
        if high - low > 1:
            return low, high
        return max(0, position - NEARBY), min(len(self.index), position + NEARBY + 1)


def block_starts(index: Index) -> np.ndarray:
    """Where each row group of Parquet begins in the index, and its length at the end."""
    groups, rows, sources = (index.column(name) for name in ("row_group", "row", "source"))
    new = (np.diff(groups) != 0) | (np.diff(sources) != 0) | (np.diff(rows) <= 0)
    return np.concatenate([[0], np.flatnonzero(new) + 1, [len(index)]])


def makes_babble(settings: Augment | None) -> bool:
    return bool(settings and settings.noise and "babble" in settings.noise.kinds)


def noise_folders(settings: Sequence[Augment | None]) -> list[str]:
    """The folders of recordings that any of `settings` names."""
    return sorted({one.noise.folder for one in settings if one and one.noise and one.noise.folder})


def augmenter_for(
    settings: Sequence[Augment | None], index: Index, columns: Sequence[str | None], seed: int
) -> Augmenter | None:
    """What changes the clips of `index`, whose sources have `settings` and audio `columns`; None: nothing does."""
    if not any(one and has_effect(one) for one in settings):
        return None
    return Augmenter(settings, index, AudioReader(columns), seed)


def has_effect(settings: Augment) -> bool:
    return any(getattr(settings, name) is not None for name in ORDER)


def training_settings(data: Data) -> list[Augment | None]:
    """What is done to the clips of each training source: what it says itself, else what all get."""
    return [source.augment if source.augment is not None else data.augment for source in data.training_sources]
