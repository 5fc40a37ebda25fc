"""Who uses the cache: commands that read or fill it share a lock, which `clean-cache` takes for itself alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from whisper_train.errors import UserError
from whisper_train.run_log import print_line

IN_USE = ".in-use"  # the lock file in CACHE_DIR; every command of this process holds it through one open file
held: dict[Path, int] = {}  # how many blocks of this process are within cache_in_use(), by lock file


@contextmanager
def cache_in_use(cache: Path) -> Iterator[None]:
    """Within the block nothing is removed from `cache`; waits where that is being done, which takes seconds.

    A POSIX lock as in run_folder.locked: it ends with this process, and closing any file of it would end it too, so
    that a block within a block opens none. A cache that nobody here can write to needs no lock.
    """
    path = cache / IN_USE
    file = None if path in held else open_lock(path)
    if file is None and path not in held:
        yield
        return
    if file is not None:
        share(file, cache)
    held[path] = held.get(path, 0) + 1
    try:
        yield
    finally:
        held[path] -= 1
        if not held[path]:
            del held[path]
        if file is not None:
            file.close()


def open_lock(path: Path) -> IO[str] | None:
    """The lock file, made where it is not there; None where this user can neither make nor read it."""
    for mode in ("a+", "r"):  # another user's can be shared as well
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open(mode)
        except OSError:
            continue
    return None


def share(file: IO[str], cache: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        print_line(f"{cache}: is being cleaned; waiting for the end of that")
        fcntl.lockf(file, fcntl.LOCK_SH)


@contextmanager
def cache_to_oneself(cache: Path) -> Iterator[bool]:
    """Yields whether no command uses `cache`; then none can begin to within the block.

    Raises UserError where this user cannot lock it.
    """
    try:
        file = (cache / IN_USE).open("a+")
    except OSError as error:
        raise UserError(
            f"CACHE_DIR: {cache}: cannot be locked ({error.strerror}); ask its owner to clean it"
        ) from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        yield alone
