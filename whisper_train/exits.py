"""What exit status an exception becomes, and SIGTERM as an exception where nothing else answers it."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import click

from whisper_train.errors import FAILED, STOPPED, WRONG_INPUT, RunFailed, Stopped, UserError
from whisper_train.printable import printable
from whisper_train.secret_values import without_secrets

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
GOES_ON = "the same command goes on from where it was"


def exits(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turns what a command returns or raises into an exit status and, for wrong input, one message."""

    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            sys.exit(command(*args, **options) or 0)
        except UserError as error:
            click.echo(f"error: {printable(without_secrets(str(error)))}", err=True)
            sys.exit(WRONG_INPUT)
        except (Stopped, KeyboardInterrupt):
            sys.exit(STOPPED)
        except RunFailed as error:
            click.echo(f"error: {printable(without_secrets(str(error)))}", err=True)
            sys.exit(FAILED)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            click.echo(f"error: {error.filename or 'disk'}: {error.strerror}; make room: {GOES_ON}", err=True)
            sys.exit(FAILED)

    return wrapped


@contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises Stopped: what is open is closed, and the processes that read data end too."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stopping_after(duration: str | None) -> Iterator[None]:
    """Within the block this process gets SIGTERM once `duration` (5h, 90m, 1h30m) is over; None: never.

    A run then saves and leaves with status 143, as when somebody had stopped it. Raises UserError for another form.
    """
    if duration is None:
        yield
        return
    timer = threading.Timer(parse_duration(duration), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    with unwinding_on_sigterm():  # while the job is read; it answers itself later
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def parse_duration(text: str) -> float:
    """Seconds: 5h, 90m, 1h30m, 45s. Raises UserError for anything else."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < threading.TIMEOUT_MAX:
        raise UserError(f"--stop-after: {text}: give a time, as 5h, 90m or 1h30m")
    return float(total)
