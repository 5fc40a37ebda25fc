"""Where the audio of a source may lie: a table by strangers must not name other files of this machine."""

import os
from pathlib import Path

from whisper_train.data.clip import Clip
from whisper_train.job_data import Source


def folders_of(source: Source) -> tuple[str, ...]:
    """The folders that the audio files of `source` must lie in, links followed: its own, and DATA_DIR.

    Empty where no table names files: a Parquet file holds the audio itself, synthetic speech is our own.
    """
    own = str(Path(source.manifest).parent) if source.manifest else source.folder or source.common_voice
    if not own:
        return ()
    return tuple(os.path.realpath(os.path.expanduser(place)) for place in (own, os.environ.get("DATA_DIR")) if place)


def is_within(clip: Clip, folders: tuple[str, ...]) -> bool:
    """Whether the file of `clip` lies in one of `folders`; of no folders nothing is asked."""
    if not folders or clip.row_group >= 0:
        return True
    try:
        place = os.path.realpath(clip.audio)
    except (OSError, ValueError):  # no path at all: reading it says why
        return True
    return any(place.startswith(os.path.join(folder, "")) for folder in folders)
