"""Options that several commands take, in one place: which job, on which machine."""

from collections.abc import Callable
from typing import Any

import click


def options(*wanted: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(wanted):
            command = option(command)
        return command

    return decorate


job_options = options(
    click.option("--machine", envvar="MACHINE", metavar="PROFILE", help="profile in jobs/machines/, or a path"),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="training.learning_rate=1e-5; repeatable"
    ),
)

stop_option = click.option(
    "--stop-after", metavar="TIME", help="save and leave with status 143 after so long: 5h, 90m; run again to go on"
)
