"""What exit status an exception becomes, and SIGTERM as an exception where nothing else answers it."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import click

from whisper_train.errors import FAILED, STOPPED, WRONG_INPUT, RunFailed, Stopped, UserError
from whisper_train.printable import printable
from whisper_train.secret_values import without_secrets


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
