"""What a job says is to be done to the audio of its sets: where it stands, and what two sets have in common."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from whisper_train.job_augment import Augment
from whisper_train.job_data import Data

AUDIO_SUFFIXES = (".flac", ".mp3", ".ogg", ".opus", ".wav")  # of noise
ORDER = tuple(Augment.model_fields)  # in which sound meets the effects


def has_effect(settings: Augment | None) -> bool:
    return settings is not None and any(getattr(settings, name) for name in ORDER)


def training_settings(data: Data) -> list[Augment | None]:
    """What is done to the clips of each training source: what it says itself, else what all get."""
    return [data.augment if source.augment is None else source.augment for source in data.training_sources]


def longest_stretch(data: Data) -> float:
    """By how much the effects may make a training clip longer."""
    speeds = [one.speed.factor[0] for one in training_settings(data) if one and one.speed]
    return 1 / min([1.0, *speeds])


def dump_settings(settings: Sequence[Augment | None]) -> list[dict[str, Any] | None] | None:
    """As JSON holds them, only what is done; None where nothing is done to any source."""
    if not any(map(has_effect, settings)):
        return None
    return [one.model_dump(mode="json", exclude_none=True) if has_effect(one) and one else None for one in settings]


def load_settings(dumped: Sequence[dict[str, Any] | None] | None) -> list[Augment | None]:
    """What dump_settings() made, as it was."""
    return [None if one is None else Augment.model_validate(one) for one in dumped or []]


def noise_folders(data: Data, sets: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Every folder of noise that a job names, after its key; with `sets` those of these eval sets alone."""
    named = {f"eval.{name}": data.eval[name] for name in (data.eval if sets is None else sets)}
    settings: dict[str, Augment | None] = {}
    if sets is None:
        settings["data.augment"] = data.augment
        named |= {"train": data.train, "replay.sources": data.replay.sources if data.replay else []}
    for name, sources in named.items():
        settings |= {f"data.{name}.{number}.augment": source.augment for number, source in enumerate(sources)}
    for key, one in settings.items():
        if one and one.noise and one.noise.folder:
            yield f"{key}.noise.folder", one.noise.folder


def check_noise(data: Data, sets: Sequence[str] | None = None) -> None:
    """Raises UserError, naming the key, for a folder of noise that is not there or holds what is no recording."""
    from whisper_train.augment.noise import check_recordings

    keys = {folder: key for key, folder in noise_folders(data, sets)}
    for folder, key in keys.items():
        check_recordings(folder, key)


def recordings_digest(settings: Sequence[Augment | None]) -> str | None:
    """What tells the recordings of noise from others, by names and sizes: in other noise, other things are heard.

    None where there are none to be used; that a folder is missing is told elsewhere.
    """
    folders = sorted({one.noise.folder for one in settings if one and one.noise and one.noise.folder})
    if not folders:
        return None
    listed = [
        f"{path.relative_to(folder)} {path.stat().st_size}"
        for folder in map(Path, folders)
        for path in list_recordings(folder)
    ]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def list_recordings(folder: Path) -> list[Path]:
    """The audio files below `folder`, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
