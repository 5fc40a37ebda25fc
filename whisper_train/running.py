"""Jobs on this machine without containers: started in the background, listed, followed, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from whisper_train.errors import DONE, FAILED, UserError
from whisper_train.job import Job
from whisper_train.paths import find_directories, make_directory, read_json
from whisper_train.run_folder import LAUNCHER_LOCK, RANKS_LOCK, RUNNING, is_locked, read_holder, run_folder

STOP_SECONDS = 600.0  # for the last checkpoint; docker/job.sh says the same
CONSOLE = "console.log"  # what a job in the background prints, its errors too


def start_detached(job: Job, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Starts `whisper-train ARGUMENTS` in a session of its own, which a closed terminal does not end.

    Raises UserError when the job is running already.
    """
    folder = run_folder(job, find_directories(environment))
    if is_running(folder.path):
        raise UserError(f"{job.name}: is running already as {read_holder(folder.path / LAUNCHER_LOCK)}")
    make_directory(folder.logs, named_by="LOG_DIR")
    with (folder.logs / CONSOLE).open("w") as console:
        process = subprocess.Popen(
            [sys.executable, "-m", "whisper_train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    print(f"{job.name}: runs in the background as process {process.pid}")
    print(f"follow it: make logs EXP={job.name}; end it after a checkpoint: make stop EXP={job.name}")


def is_running(folder: Path) -> bool:
    return is_locked(folder / LAUNCHER_LOCK) or is_locked(folder / RANKS_LOCK)


def list_runs(environment: Mapping[str, str]) -> str:
    """A line for every run under MODEL_DIR: its status, who runs it, and the last line of its log."""
    directories = find_directories(environment)
    lines = [("JOB", "STATUS", "RUNS AS", "LAST LINE")]
    for file in sorted(directories.models.glob("*/run.json")):
        status, running = read_json(file).get("status", "new"), is_running(file.parent)
        if status == RUNNING and not running:
            status = "interrupted"
        holder = read_holder(file.parent / LAUNCHER_LOCK) if running else "-"
        lines.append((file.parent.name, status, holder, last_line(directories.logs / file.parent.name)))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    )


def newest_log(logs: Path) -> Path | None:
    """training.log or what a job in the background printed, whichever was written to last."""
    files = [path for path in (logs / "training.log", logs / CONSOLE) if path.is_file() and path.stat().st_size]
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def last_line(logs: Path) -> str:
    log = newest_log(logs)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    return lines[-1].strip() if lines else "-"


def find_run(name: str, environment: Mapping[str, str]) -> tuple[Path, Path]:
    """Model and log folder of the job called `name`, also when it is given as the path of its file."""
    directories = find_directories(environment)
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    folders = directories.models / name, directories.logs / name
    if not any(folder.is_dir() for folder in folders):
        raise UserError(f"{name}: has not run yet; there is no {folders[0]}; whisper-train ps lists the runs")
    return folders


def follow_log(name: str, environment: Mapping[str, str]) -> int:
    """Prints the log of a job from its beginning, and goes on until the job ends."""
    folder, logs = find_run(name, environment)
    log = newest_log(logs)
    if log is None:
        raise UserError(f"{name}: has no log in {logs} yet")
    with log.open(encoding="utf-8", errors="replace") as file:
        while True:
            running = is_running(folder)  # asked first: what is written after it is read in the next round
            print(file.read(), end="", flush=True)
            if not running:
                return DONE
            time.sleep(0.5)


def stop_run(name: str, environment: Mapping[str, str]) -> int:
    """Asks a job to save and leave, and waits until it has; raises UserError when it does not run here."""
    folder, _ = find_run(name, environment)
    if not is_running(folder):
        raise UserError(f"{folder.name}: is not running; whisper-train ps lists the runs")
    holder = read_holder(folder / LAUNCHER_LOCK)
    kind, _, rest = holder.partition(" ")
    if kind != "process" or not rest.endswith(f" on {os.uname().nodename}"):
        raise UserError(f"{folder.name}: runs as {holder}; stop it there (make stop EXP={folder.name} RUN=docker)")
    print(f"{folder.name}: saving, then stopping (up to {STOP_SECONDS:.0f} s)", flush=True)
    os.kill(int(rest.split()[0]), signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(folder):
        if time.monotonic() > deadline:
            print(f"{folder.name}: still saving as {holder}; its newest complete checkpoint stays in any case")
            return FAILED
        time.sleep(0.1)
    status = read_json(folder / "run.json").get("status", "new") if (folder / "run.json").is_file() else "new"
    print(f"{folder.name}: {status}; make train EXP={folder.name} goes on from there")
    return DONE
