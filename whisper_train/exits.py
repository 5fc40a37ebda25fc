"""What exit status an exception becomes."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from whisper_train.errors import FAILED, STOPPED, WRONG_INPUT, RunFailed, Stopped, UserError


def exits(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turns what a command returns or raises into an exit status and, for wrong input, one message."""

    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            sys.exit(command(*args, **options) or 0)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(WRONG_INPUT)
        except (Stopped, KeyboardInterrupt):
            sys.exit(STOPPED)
        except RunFailed as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(FAILED)

    return wrapped
