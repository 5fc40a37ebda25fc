"""The processes that read the data: started so that they begin, shielded from signals, ended when they hang."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.popen_fork
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from whisper_train.children import end_with_parent
from whisper_train.sudden_ends import LostWorker

BEGIN_SECONDS = 30.0  # within which a fork takes its first step; milliseconds are usual
MOST_FORKS = 10
ATTEMPTS = 100

Batch = TypeVar("Batch")


class Begun(multiprocessing.popen_fork.Popen):
    """A fork that has begun: one that hangs in its first moment is killed, and made again.

    In Python 3.11 a child hangs for ever when another thread, one of torch's, was just entering Python as it was
    forked: it waits for a lock that nobody holds any more (HEAD_LOCK; taken before a fork since 3.12). It was seen in
    a run on two ranks, and then in 10 of 2,380 forks beside threads that did nothing else.
    """

    def _launch(self, process_obj: Any) -> None:
        for _ in range(MOST_FORKS):
            heard, said = process_obj.begins = os.pipe()
            try:
                super()._launch(process_obj)  # type: ignore[misc]  # typeshed does not know it
            finally:
                os.close(said)
            began = bool(multiprocessing.connection.wait([heard], BEGIN_SECONDS))
            os.close(heard)
            if began:  # or has died: that is told where its first batch is asked for
                return
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            if self.finalizer:
                self.finalizer()
        raise LostWorker(
            f"no process that reads the data began within {BEGIN_SECONDS:g} s, {MOST_FORKS} times; the machine has no"
            " time or memory left: lower machine.dataloader_num_workers; the same command goes on"
        )

    def terminate(self) -> None:
        """Kills it: when Python ends after a crash it sends SIGTERM to its children, and waits for them for ever."""
        self.kill()


class ShieldedProcess(multiprocessing.context.ForkProcess):
    """A loading process that SIGTERM and SIGINT do not reach, from its first moment on.

    Ctrl-C and `timeout` signal the whole process group; only the rank may answer, and it needs its loaders to save.
    """

    begins: tuple[int, int]

    @staticmethod
    def _Popen(process: Any) -> Begun:  # noqa: N802
        return Begun(process)

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # what a child inherits
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        heard, said = self.begins
        os.close(heard)
        os.write(said, b"!")
        os.close(said)
        end_with_parent(signal.SIGKILL)  # torch's own look every five seconds misses one that hangs in a read
        super().run()


class ShieldedFork(multiprocessing.context.ForkContext):
    Process = ShieldedProcess


def shielded(workers: int) -> ShieldedFork | None:
    """The multiprocessing context of a DataLoader with so many workers."""
    return ShieldedFork() if workers else None


class Patience:
    """Within the block a batch is waited for; when it takes longer than `seconds`, all loading processes are killed.

    DataLoader's own timeout is not enough: a batch is handed over by its worker, which is asked without any limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self.timer: threading.Timer | None = None

    def __enter__(self) -> None:
        self.timer = threading.Timer(self.seconds, self.end)
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *error: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def end(self) -> None:
        self.is_over = True
        kill_workers()


def patiently(batches: Iterable[Batch], seconds: float | None) -> Iterator[Batch]:
    """The same batches; raises LostWorker when one takes longer than `seconds` (None: they are waited for)."""
    if seconds is None:
        yield from batches
        return
    patience, waiting = Patience(seconds), iter(batches)
    while True:
        try:
            with patience:
                batch = next(waiting)
        except StopIteration:
            return
        except Exception as error:
            if not patience.is_over:
                raise
            hush()
            raise LostWorker(f"{describe_hang(seconds)}; the same command goes on when it is back") from error
        yield batch


def describe_hang(seconds: float) -> str:
    return (
        f"no batch came from the processes that read the data within {seconds:g} s (faults.batch_timeout):"
        " their disk or network hangs"
    )


def hush() -> None:
    """From here on torch says nothing of dead workers: it raises for each, wherever Python happens to be then.

    Later workers of this process that die are noticed when a batch is asked for.
    """
    for _ in range(ATTEMPTS):
        with suppress(RuntimeError):  # of another worker, just now
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return


def kill_workers() -> None:
    """Ends all loading processes of this one, those too that a signal cannot reach: Python would wait for them."""
    for child in multiprocessing.active_children():
        child.kill()
