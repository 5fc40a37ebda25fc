"""Sessions of one run that are started, watched, harmed and ended: in forks of this process, or as programs."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 900.0  # seconds for anything to happen, on a crowded machine too; a run that takes longer hangs
RANK_MODULE = "whisper_train.training.rank"


@dataclass(kw_only=True)
class Session:
    """A started `whisper-train train`. A fork has imported everything already: it takes a second, not ten."""

    process: Any  # subprocess.Popen, or a multiprocessing process
    output: Path

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def status(self) -> int | None:
        """Its exit status, as subprocess counts; None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        status: int | None = self.process.exitcode
        return status

    def wait(self) -> int:
        wait_until(lambda: self.status() is not None, f"{self.pid} never ended:\n{self.told()}")
        status = self.status()
        assert status is not None
        return status

    def told(self) -> str:
        return self.output.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ranks(self) -> list[psutil.Process]:
        """Its rank processes; itself where there is one rank."""
        found = [process for process in self.descendants() if RANK_MODULE in " ".join(cmdline(process))]
        ranks = [process for process in found if "torch.distributed.run" not in " ".join(cmdline(process))]
        own = {process.pid for process in ranks}
        return [process for process in ranks if parent(process) not in own]

    def launcher(self) -> psutil.Process | None:
        """torchrun."""
        return next((one for one in self.descendants() if "torch.distributed.run" in " ".join(cmdline(one))), None)

    def workers(self) -> list[psutil.Process]:
        """The processes that read its data."""
        owners = self.ranks() or [psutil.Process(self.pid)]
        found = [child for owner in owners for child in children(owner)]
        return [child for child in found if "resource_tracker" not in " ".join(cmdline(child))]

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def start(job: Path, base: Path, models: Path, *, fork: bool) -> Session:
    """Trains `job` in a session of its own; what it prints is in a file of its own."""
    output = base / f"output-{time.monotonic_ns()}.txt"
    variables = {"BASE_DIR": str(base), "MODEL_DIR": str(models), "HF_HUB_OFFLINE": "1"}
    output.touch()
    words = ["train", str(job), "--machine", "cpu"]
    if fork:
        process: Any = multiprocessing.get_context("fork").Process(target=run_here, args=(words, variables, output))
        process.start()
        return Session(process=process, output=output)
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "whisper_train", *words],
            env={**os.environ, **variables},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Session(process=process, output=output)


def run_here(words: list[str], variables: dict[str, str], output: Path) -> None:
    """In a fork: the command line, with its output in a file."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    for name in ("MACHINE", "CACHE_DIR", "LOG_DIR"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    from whisper_train.cli import main

    main(words, prog_name="whisper-train")


def import_all() -> None:
    """What a session needs, once for all forks. Nothing is computed: threads would not survive a fork."""
    import whisper_train.evaluate_job
    import whisper_train.report.write
    import whisper_train.runner
    import whisper_train.training.build
    import whisper_train.training.run  # noqa: F401


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(complaint)
        time.sleep(0.01)


def left_running(session: Session, base: Path) -> list[str]:
    """What an ended session has left: of its process session, or with its folder in the command."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            ours = os.getsid(process.pid) == session.pid or any(f"{base}/" in word for word in cmdline(process))
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid}: {' '.join(cmdline(process))[:200]}")
    return left


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path | None]:
    """A file system of its own, mounted on `folder`; None where this user cannot mount one."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
