"""The effects of a set of clips: which clip gets which, always the same for the same clip, epoch and seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whisper_train.audio import Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.effects import change_gain, change_pitch, change_speed, clip_peaks, drop_out
from whisper_train.augment.levels import within_full_scale
from whisper_train.augment.line import over_codec, over_telephone, telephone_band
from whisper_train.augment.noise import add_noise, babble, find_recordings, pink_noise, read_crop, white_noise
from whisper_train.augment.room import reverberate
from whisper_train.augment.settings import ORDER, has_effect
from whisper_train.augment.voices import Voices
from whisper_train.data.index import Index
from whisper_train.data.read import AudioReader
from whisper_train.job_augment import Augment, Noise

EFFECTS: Mapping[str, Callable[[Waveform, Any, Draws], Waveform]] = {
    "pitch": change_pitch,
    "room": reverberate,
    "gain": change_gain,
    "clipping": clip_peaks,
    "telephone": over_telephone,
    "codec": over_codec,
    "dropouts": drop_out,
}


@dataclass(frozen=True, slots=True)
class Applied:
    """One effect that a clip got, with the values drawn for it."""

    effect: str
    values: Mapping[str, float | str]


class Augmenter:
    """Applies each clip's effects. Holds what babble and noise folders need."""

    def __init__(self, settings: Sequence[Augment | None], index: Index, reader: AudioReader, seed: int) -> None:
        """`settings` are those of each source of the set; UserError for a noise folder that holds nothing."""
        noises = [one.noise for one in settings if one and one.noise]
        folders = sorted({noise.folder for noise in noises if noise.folder})
        self.settings = list(settings)
        self.seed = seed
        self.recordings = {folder: find_recordings(folder, "augment.noise.folder") for folder in folders}
        self.voices = Voices(index, reader) if any("babble" in noise.kinds for noise in noises) else None

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
        """The clip at `position` of the index as it sounds in `epoch`, the `repeat`-th time that it is shown there.

        Only `speed` changes its length, and makes none longer than `max_seconds`. Nothing is over full scale.
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
        """The same, with what was done to it."""
        settings = self.settings[source]
        if settings is None or not len(waveform):
            return waveform, []
        chance = np.random.default_rng([self.seed, epoch, repeat, position])
        chosen = [name for name in ORDER if (one := getattr(settings, name)) and chance.random() < one.probability]
        applied = []
        for name in chosen:
            draws = Draws(chance)
            one = getattr(settings, name)
            if name == "speed":
                waveform = change_speed(waveform, one, draws, max_seconds)
            elif name == "noise":
                noise = self.make_noise(one, len(waveform), draws, position)
                hear = telephone_band if "telephone" in chosen else unchanged
                waveform = add_noise(waveform, noise, one.snr_db, draws, hear)
            else:
                waveform = EFFECTS[name](waveform, one, draws)
            applied.append(Applied(name, draws.values))
        return (within_full_scale(waveform) if applied else waveform), applied

    def make_noise(self, settings: Noise, samples: int, draws: Draws, position: int) -> Waveform:
        """Noise (samples,) of one of the kinds asked for, at any level."""
        chance = draws.chance
        match draws.one_of("kind", [*settings.kinds, *(["recording"] if settings.folder else [])]):
            case "white":
                return white_noise(samples, chance)
            case "pink":
                return pink_noise(samples, chance)
            case "babble":
                assert self.voices
                low, high = settings.voices
                voices = self.voices.read(position, int(chance.integers(low, high + 1)), chance)
                draws.keep("voices", len(voices))
                return babble(voices, samples, chance)
            case _:
                assert settings.folder
                files = self.recordings[settings.folder]
                file = files[int(chance.integers(len(files)))]
                draws.values["file"] = file.name
                return read_crop(file, samples, chance)


def unchanged(waveform: Waveform) -> Waveform:
    return waveform


def augmenter_for(
    settings: Sequence[Augment | None], index: Index, columns: Sequence[str | None], seed: int
) -> Augmenter | None:
    """What changes the clips of `index`, whose sources have `settings` and audio `columns`; None: nothing does."""
    if not any(map(has_effect, settings)):
        return None
    return Augmenter(settings, index, AudioReader(columns), seed)
