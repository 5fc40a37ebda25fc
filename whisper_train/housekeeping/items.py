"""What can go, as a list: what it is, how much disk it takes, and what its removal costs later."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from whisper_train.paths import size_of


class Group(StrEnum):
    LEFT_OVER = "left by what was interrupted"
    UNUSED = "no job and no run here uses it"
    OLD_CHECKPOINTS = "older checkpoints of finished runs"
    AGAIN = "downloaded or made again by the next job that asks for it"
    LAST_CHECKPOINTS = "last and best checkpoints of finished runs: more steps then begin at the first one"


ALWAYS = (Group.LEFT_OVER, Group.UNUSED, Group.OLD_CHECKPOINTS)
ON_REQUEST = (Group.AGAIN, Group.LAST_CHECKPOINTS)  # with --all


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something on the disk; `run` is the run folder whose lock guards it, None where the lock of the cache does."""

    group: Group
    path: Path
    what: str
    bytes: int
    run: Path | None = None
    remove: Callable[[], None] = field(repr=False, compare=False)


def item(group: Group, path: Path, what: str, run: Path | None = None) -> Item:
    """`path`, a file or a folder, as it is."""
    return Item(group=group, path=path, what=what, bytes=size_of([path]), run=run, remove=lambda: remove(path))


def remove(path: Path) -> None:
    """Removes a file or a folder; of a link the link alone. A folder loses its name first: it is whole or absent."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path if is_left_over(path) else path.with_name(f".{path.name}.incomplete")
    if aside != path:
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
    shutil.rmtree(aside)


def is_left_over(path: Path) -> bool:
    """Whether `path` is what this program names a file or folder that it has not finished."""
    return path.name.startswith(".") and path.name.endswith(".incomplete")
