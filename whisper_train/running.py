"""Jobs on this machine without containers: started in the background, listed, followed, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from whisper_train.errors import DONE as EXIT_DONE
from whisper_train.errors import FAILED as EXIT_FAILED
from whisper_train.errors import UserError
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.job import Job
from whisper_train.paths import find_directories, make_directory, read_json
from whisper_train.run_folder import (
    DONE,
    EVALUATION_LOG,
    FAILED,
    GATE_MISSED,
    LAUNCHER_LOCK,
    RANKS_LOCK,
    RUNNING,
    TRAINED,
    TRAINING_LOG,
    is_locked,
    locked,
    make_command,
    read_holder,
    run_folder,
    stop_command,
    this_process,
)
from whisper_train.run_log import HEAR

STOP_SECONDS = 600.0  # for the last checkpoint; docker/job.sh says the same
MEASURED = "evaluated"  # a job that trains nothing
EVALUATED = (DONE, GATE_MISSED, MEASURED)
CONSOLE = "console.log"  # what a job in the background prints, its errors too
BACKGROUND_LOCK = ".background.lock"  # beside it; held from the first moment on, and while bases of the job are trained


def start_detached(job: Job, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Starts `whisper-train ARGUMENTS` in a session of its own, which a closed terminal does not end.

    Raises UserError when the job is running already.
    """
    folder = run_folder(job, find_directories(environment))
    if holder := find_holder(folder.path, folder.logs):
        raise UserError(f"{job.name}: is running already as {holder}; end it first: {stop_command(job.name, holder)}")
    make_directory(folder.logs, named_by="LOG_DIR")
    lock, console_log = folder.logs / BACKGROUND_LOCK, folder.logs / CONSOLE
    ready, started = os.pipe()
    with console_log.open("a") as console, os.fdopen(ready) as until:
        process = subprocess.Popen(
            [sys.executable, "-m", "whisper_train.running", str(lock), str(started), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[started],
        )
        os.close(started)
        if not until.read():  # a word when the process holds the lock, from when on ps, logs and stop find it
            raise UserError(f"{job.name}: did not start; {console_log} says why")
    print(f"{job.name}: runs in the background as process {process.pid}")
    follow, stop = (make_command(verb, job.name, this_process()) for verb in ("logs", "stop"))
    print(f"follow it: {follow}; end it after a checkpoint: {stop}")


def run_in_background(lock: Path, started: int, arguments: Sequence[str]) -> None:
    """What start_detached starts: the command line again, under the lock of jobs in the background."""
    from whisper_train.cli import main

    try:
        with locked(lock), unwinding_on_sigterm():  # while its base is looked for; the job itself answers later
            os.ftruncate(sys.stdout.fileno(), 0)  # what an earlier start had printed
            os.write(started, b"started")
            os.close(started)
            sys.argv[1:] = arguments
            main(prog_name="whisper-train")
    except UserError as error:  # started twice at the same moment
        sys.exit(f"error: {error}")


def find_holder(folder: Path, logs: Path) -> str | None:
    """Who runs the job now: its launcher, what started that in the background, or ranks that outlived both."""
    for lock in (folder / LAUNCHER_LOCK, logs / BACKGROUND_LOCK, folder / RANKS_LOCK):
        if is_locked(lock):
            return read_holder(lock)
    return None


def list_runs(environment: Mapping[str, str]) -> str:
    """A line for every run under MODEL_DIR: its status, who runs it, and the last line of its log."""
    directories = find_directories(environment)
    lines = [("JOB", "STATUS", "RUNS AS", "LAST LINE")]
    names = {file.parent.name for file in directories.models.glob("*/run.json")}
    names |= {file.parent.parent.name for file in directories.models.glob("*/evaluation/results.json")}
    names |= {file.parent.name for file in directories.logs.glob(f"*/{BACKGROUND_LOCK}") if is_locked(file)}
    for name in sorted(names):
        folder, logs = directories.models / name, directories.logs / name
        status, holder = read_status(folder), find_holder(folder, logs)
        if status == RUNNING and not holder:
            status = "interrupted"
        elif holder and status in EVALUATED:
            status = "evaluating"
        elif holder and status not in (RUNNING, TRAINED):
            status = "starting"  # or its base is trained first
        lines.append((name, status, holder or "-", last_line(logs)))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]) for line in lines
    )


def read_status(folder: Path) -> str:
    path = folder / "run.json"
    if path.is_file():
        return str(read_json(path).get("status", "new"))
    return MEASURED if (folder / "evaluation" / "results.json").is_file() else "new"


def newest_log(logs: Path) -> Path | None:
    """What a job in the background prints while it runs, else the log that was written to last."""
    if is_locked(logs / BACKGROUND_LOCK):
        return logs / CONSOLE
    files = [
        path
        for path in (logs / TRAINING_LOG, logs / EVALUATION_LOG, logs / CONSOLE)
        if path.is_file() and path.stat().st_size
    ]
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def last_line(logs: Path) -> str:
    log = newest_log(logs)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    ours = [line for line in lines if " whisper_train: " in line] or lines  # beside them, what libraries warn of
    ours = [line for line in ours if line.strip() and not line.startswith((" ", HEAR))]
    return ours[-1].strip() if ours else "-"


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
            running = find_holder(folder, logs)  # asked first: what is written after it is read in the next round
            print(file.read(), end="", flush=True)
            if not running:
                return EXIT_DONE
            time.sleep(0.5)


def stop_run(name: str, environment: Mapping[str, str]) -> int:
    """Asks a job to save and leave, and waits until it has; raises UserError when it does not run here."""
    folder, logs = find_run(name, environment)
    holder = find_holder(folder, logs)
    if holder is None:
        raise UserError(f"{folder.name}: is not running; whisper-train ps lists the runs")
    kind, _, rest = holder.partition(" ")
    if kind != "process" or not rest.endswith(f" on {os.uname().nodename}"):
        raise UserError(f"{folder.name}: runs as {holder}; stop it there ({stop_command(folder.name, holder)})")
    before = read_status(folder)
    print(f"{folder.name}: saving, then stopping (up to {STOP_SECONDS:.0f} s)", flush=True)
    try:
        os.kill(int(rest.split()[0]), signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise UserError(f"{folder.name}: runs as {holder}, of another user, who can stop it") from error
    deadline = time.monotonic() + STOP_SECONDS
    while find_holder(folder, logs):
        if time.monotonic() > deadline:
            print(f"{folder.name}: still saving as {holder}; its newest complete checkpoint stays in any case")
            return EXIT_FAILED
        time.sleep(0.1)
    status = read_status(folder)
    if before in EVALUATED:
        print(f"{folder.name}: the evaluation has ended; the same command goes on where it was")
    elif status in (DONE, GATE_MISSED, FAILED):
        print(f"{folder.name}: {status}")
    else:
        ended = "interrupted before there was anything to save" if status == RUNNING else "stopped"
        print(f"{folder.name}: {ended}; make train EXP={folder.name} goes on from there")
    return EXIT_DONE


if __name__ == "__main__":
    run_in_background(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
