"""The run folder: $MODEL_DIR/<job>, with the model, its resolved job, run.json, checkpoints and evaluation."""

import fcntl
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from whisper_train import __version__
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import dump_job
from whisper_train.older_jobs import read_resolved
from whisper_train.paths import Directories, make_directory, read_json, write_json, write_text

RUNNING, TRAINED, DONE = "running", "trained", "done"
GATE_MISSED, STOPPED, FAILED = "gate missed", "stopped", "failed"
PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "deepspeed",
    "peft",
    "jiwer",
    "numpy",
    "soundfile",
    "soxr",
)

TRAINING_LOG, EVALUATION_LOG = "training.log", "evaluation.log"
LAUNCHER_LOCK = ".lock"
FOR_JOB = ", started for "  # stands in a lock between a container and its job
FLOCK = "hhqqi4x"  # struct flock of Linux on 64 bits: type, whence, start, length, process; fcntl(2)
RANKS_LOCK = ".ranks.lock"  # held by the ranks, which may outlive a killed launcher for as long as they save

# What may change between a run and its continuation without making it another run.
MAY_CHANGE: tuple[str, ...] = ("machine", "gates", "evaluation.clips_during_training", "data.max_dropped_fraction")
MAY_CHANGE += ("averaging", "card", "faults", "training.hub_", "evaluation.long_form", "evaluation.travel")
MAY_CHANGE += ("entities.beside",)
MAY_CHANGE += tuple(
    f"training.{key}"
    for key in ("num_train_epochs", "max_steps", "logging_steps", "save_steps", "eval_steps", "save_total_limit")
)
MAY_CHANGE += ("training.report_to", "training.early_stopping_patience", "training.push_to_hub")
MAY_CHANGE += ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path
    logs: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def new_base(self) -> Path:
        """The random weights that a job with `base: new` starts from."""
        return self.path / "base"

    def read(self) -> dict[str, Any]:
        """run.json, or nothing before the first run."""
        path = self.path / "run.json"
        return dict(read_json(path)) if path.is_file() else {}

    def add_time(self, phase: str, seconds: float) -> None:
        """Adds to what earlier sessions spent on `phase`."""
        timings = self.read().get("timings", {})
        self.update(timings={**timings, phase: round(timings.get(phase, 0.0) + seconds, 1)})

    def update(self, **facts: Any) -> None:
        write_json(self.path / "run.json", {**self.read(), **facts})


def run_folder(job: Job, directories: Directories) -> RunFolder:
    return RunFolder(directories.models / job.name, directories.logs / job.name)


@contextmanager
def opened(job: Job, folder: RunFolder, may_change: tuple[str, ...] = MAY_CHANGE) -> Iterator[None]:
    """Creates the run folder of `job` where needed and locks it against a second start of the same job.

    Raises UserError when it holds another job's run, or one that is going on.
    """
    make_directory(folder.path, named_by="MODEL_DIR")
    make_directory(folder.logs, named_by="LOG_DIR")
    with locked(folder.path / LAUNCHER_LOCK):
        with locked(folder.path / RANKS_LOCK):
            pass
        check_same_job(job, folder, may_change)
        yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds `path` as a lock, with who holds it written in it; raises UserError when another process has it.

    A POSIX lock: it ends with this process, whereas flock would live on in its data-loading workers.
    """
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            name = path.parent.name
            holder = read_holder(path)
            raise UserError(
                f"{name}: is running already as {holder}, in {path.parent}; stop it first"
                f" ({stop_command(name, holder)}), or use another name"
            ) from error
        file.truncate(0)
        file.write(this_process())
        file.flush()
        yield


def this_process() -> str:
    """This process as people find it: inside a container by the container's name, or its id, which is its host name."""
    if os.environ.get("WHISPER_TRAIN_IMAGE"):
        job = os.environ.get("WHISPER_TRAIN_JOB")  # that it was started for: this may be a base of it
        name = os.environ.get("WHISPER_TRAIN_CONTAINER") or platform.node()
        return f"container {name}{FOR_JOB}{job}" if job else f"container {name}"
    return f"process {os.getpid()} on {platform.node()}"


def read_holder(path: Path) -> str:
    """Who wrote the lock file `path` last."""
    return path.read_text(encoding="utf-8") or "another process"


def stop_command(name: str, holder: str) -> str:
    """What stops the job `name`, which `holder` runs."""
    return make_command("stop", name, holder)


def make_command(verb: str, name: str, holder: str) -> str:
    """What stops the job `name`, or shows its logs: by where `holder` runs it, and by the name it was started by."""
    started_for = holder.partition(FOR_JOB)[2] or name
    return f"make {verb} EXP={started_for} RUN={'docker' if holder.startswith('container') else 'local'}"


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock file `path`."""
    if not path.is_file():
        return False
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with path.open() as file:  # asked for, never taken: a job that starts at this moment must not find it held
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    return bool(struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK)


def check_same_job(job: Job, folder: RunFolder, may_change: tuple[str, ...] = MAY_CHANGE) -> None:
    """Raises UserError when the folder's run learned something else: a result must never pass for another's."""
    resolved = folder.path / "job.yaml"
    if not resolved.is_file():
        if (folder.path / "config.json").is_file() or folder.checkpoints.is_dir():
            raise UserError(f"{folder.path}: holds a model that no job of ours made; choose another name")
        return
    for key, before, now in differences(job, folder, may_change):
        raise UserError(
            f"{folder.path}: holds a run with {key}: {before}, this job has {now};"
            f" give this one another name (--set name={job.name}-2), or remove the folder to start afresh"
        )


def differences(job: Job, folder: RunFolder, may_change: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Yields (key, value in the folder's run, value in `job`) where they differ and may not."""
    before = flatten(read_resolved(folder.path / "job.yaml"))
    now = flatten(yaml.safe_load(dump_job(job)))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not key.startswith(may_change):
            yield key, before.get(key), now.get(key)


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists by position. Within a section a mapping without any value is one: {}."""
    if isinstance(value, dict):
        items = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list):
        items = [(str(position), item) for position, item in enumerate(value)]
    else:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat |= flatten(item, f"{key}.{name}" if key else name)
    if "." in key and isinstance(value, dict) and all(item is None for item in flat.values()):
        return {key: {}}  # a source with `augment: {}` is not one that leaves it out
    return flat


def start(job: Job, folder: RunFolder, facts: dict[str, Any]) -> None:
    """Writes the resolved job and the facts of this session into the folder."""
    before = folder.read()
    session = {"started": now(), "command": sys.argv[1:], "machine": job.machine.model_dump(mode="json")}
    write_text(folder.path / "job.yaml", dump_job(job))
    folder.update(
        job=job.name,
        status=RUNNING,
        seed=job.training.get("seed", 42),
        version=__version__,
        commit=git_commit(),
        versions=installed_versions(),
        image=image(),
        sessions=[*before.get("sessions", []), session],
        **facts,
    )


def rate_factor(folder: RunFolder) -> float:
    """What is left of the job's learning rate after the rollbacks of this run."""
    done = folder.read().get("rollbacks")
    return float(done[-1]["learning_rate_factor"]) if done else 1.0


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_commit() -> str | None:
    """The commit of the checkout this package runs from, with + when files differ, or that its image was built from.

    None where neither is known.
    """
    if built_from := os.environ.get("WHISPER_TRAIN_COMMIT"):
        return built_from
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty=+",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def image() -> dict[str, str | None] | None:
    """Name and digest of the image this process runs in, as its starter told; None outside one."""
    name = os.environ.get("WHISPER_TRAIN_IMAGE")
    return {"name": name, "digest": os.environ.get("WHISPER_TRAIN_DIGEST") or None} if name else None


def installed_versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
