"""What commands take from outside: options that several share, in one place, and the lines of standard input."""

from collections.abc import Callable, Iterator
from typing import Any

import click

from whisper_train.errors import UserError


def options(*wanted: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(wanted):
            command = option(command)
        return command

    return decorate


def lines_of_input(command: str) -> Iterator[str]:
    """The lines of standard input as they come, without their ends; raises UserError where one is no UTF-8."""
    for number, line in enumerate(click.get_binary_stream("stdin"), 1):
        try:
            yield line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{command}: standard input: line {number}: is not UTF-8; convert it first") from error


job_options = options(
    click.option("--machine", envvar="MACHINE", metavar="PROFILE", help="profile in jobs/machines/, or a path"),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="training.learning_rate=1e-5; repeatable"
    ),
)
