"""Where things are: the directories that .env names, run folders, and files written whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError

MIN_FREE_BYTES = 2**30  # less, and a run would end in the middle of its first files; docker/host.sh says the same


BLOCK = 512  # bytes of st_blocks; stat(2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directories:
    """The three places a run writes to. Each holds one folder per job (the cache: one per source)."""

    cache: Path
    models: Path
    logs: Path
    mirror: Path | None = None  # where checkpoints are copied to


def read_environment() -> dict[str, str]:
    """The process environment, after the `.env` file of the working directory has filled what the shell left unset.

    It fills the environment itself, since torch, datasets and the hub read theirs there.
    """
    path = Path.cwd() / ".env"
    if path.is_file():
        from dotenv.main import DotEnv

        try:
            values = DotEnv(path, encoding="utf-8", override=False).dict()  # in ${NAME}, too, the shell wins
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); save it as UTF-8 text") from error
        for key, value in values.items():
            if value and key not in os.environ:
                os.environ[key] = value
    if (cards := os.environ.get("GPUS")) and cards != "all":
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", cards)
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts them
    return dict(os.environ)


def find_directories(environment: Mapping[str, str]) -> Directories:
    """CACHE_DIR, MODEL_DIR and LOG_DIR, by default under BASE_DIR, by default the working directory."""
    base = Path(environment.get("BASE_DIR") or ".").expanduser()
    places = {
        field: Path(environment.get(variable) or base / name).expanduser().absolute()
        for field, variable, name in (
            ("cache", "CACHE_DIR", "cache"),
            ("models", "MODEL_DIR", "models"),
            ("logs", "LOG_DIR", "logs"),
        )
    }
    mirror = environment.get("MIRROR_DIR")
    return Directories(**places, mirror=Path(mirror).expanduser().absolute() if mirror else None)


def find_config_dir(environment: Mapping[str, str]) -> Path:
    """The folder of jobs, machine profiles and DeepSpeed files: CONFIG_DIR, else ./jobs, else the checkout's."""
    if environment.get("CONFIG_DIR"):
        given = Path(environment["CONFIG_DIR"]).expanduser().absolute()
        if not given.is_dir():
            raise UserError(f"CONFIG_DIR: {given}: no such folder; name the one that holds machines/ and the jobs")
        return given
    here = Path("jobs").absolute()
    return here if here.is_dir() else Path(__file__).parent.parent / "jobs"


def make_directory(path: Path, *, named_by: str) -> Path:
    """Creates `path`; raises UserError naming the setting `named_by` when it cannot be written to or is full."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{named_by}: {path}: cannot be created ({error.strerror}); name another folder") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{named_by}: {path}: cannot be written to; change its owner or name another folder")
    if (free := shutil.disk_usage(path).free) < MIN_FREE_BYTES:
        raise UserError(
            f"{named_by}: {path}: the disk is full ({free // 2**20} MiB free); make room or name another folder"
        )
    return path


def unseen_hint() -> str:
    """What to add in a container to a message about files that are not there; nothing outside of one."""
    if not os.environ.get("WHISPER_TRAIN_CONTAINER"):
        return ""
    seen = f"this checkout and DATA_DIR ({os.environ.get('DATA_DIR') or 'not set'})"
    return f"; this container sees {seen}: files elsewhere need DATA_DIR=<their folder> in .env"


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor to read the file `path` with, fit as an `opener`; OSError for a pipe or device, which may hang."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))
    return descriptor


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; what is written there is synced and renamed when the block ends well."""
    temporary = path.with_name(f".{path.name}.incomplete")
    yield temporary
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def as_size(count: float) -> str:
    """Bytes as people read them: 1536 -> 1.5 kB; in thousands, as disks and the hub are sold and counted."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def size_of(paths: Iterable[Path]) -> int:
    """Bytes that the files of `paths` take on the disk: links are not followed, and a file of two names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in paths:
        for file in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else [])]:
            try:
                status = file.lstat()
            except FileNotFoundError:  # it has gone meanwhile
                continue
            seen[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
    return sum(seen.values())


def sync(path: Path) -> None:
    """Asks the file system to put `path`, a file or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
