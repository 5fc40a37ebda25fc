"""Whether a step fits on the disk: said in one line before it starts, refused with the way out where it cannot."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_train.errors import UserError
from whisper_train.job_file import display
from whisper_train.paths import as_size

ROOM = 1.02  # of what is to be written: file systems need some for themselves


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """Bytes that a step will write below `place`, and what they are; `place` need not be there yet."""

    place: Path
    bytes: float
    what: str


def check_room(takes: Sequence[Take], say: Callable[[str], None], *, key: str, way_out: str) -> None:
    """Says in one line what a step will write and what is free; says nothing where nothing is to be written.

    Raises UserError, naming `key` and `way_out`, where it cannot fit. What lies on one disk is added up.
    """
    takes = [take for take in takes if take.bytes > 0]
    if not takes:
        return
    parts = [f"about {as_size(take.bytes)} in {display(take.place)} ({take.what})" for take in takes]
    disks: dict[int, list[Take]] = {}
    for take in takes:
        disks.setdefault(os.stat(existing(take.place)).st_dev, []).append(take)
    free = [shutil.disk_usage(existing(group[0].place)).free for group in disks.values()]
    say(f"disk: will take {' and '.join(parts)}; {' and '.join(map(as_size, free))} free")
    for there, group in zip(free, disks.values(), strict=True):
        wanted = ROOM * sum(take.bytes for take in group)
        if wanted > there:
            what = ", ".join(take.what for take in group)
            raise UserError(
                f"{key}: {display(group[0].place)}: needs about {as_size(wanted)} ({what}), and {as_size(there)} are"
                f" free; make clean-cache shows what can go, {way_out}"
            )


def existing(path: Path) -> Path:
    """The folder that is there on the way to `path`."""
    return next(place for place in (path, *path.parents) if place.exists())
