"""What several commands take, in one place: which job, on which machine, and whether in the background."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from whisper_train.errors import DONE

if TYPE_CHECKING:
    from whisper_train.job import Job


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


def language_option(of_what: str) -> Callable[..., Any]:
    """--language, as a code or by name; what Whisper has no token of is refused."""
    return click.option("--language", metavar="CODE", callback=read_language, help=of_what)


def read_language(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    from whisper_train.languages import check_language

    try:
        return None if value is None else check_language(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def leave_to_itself(job: "Job", environment: Mapping[str, str]) -> int:
    """Starts this command line again in the background, without its --detach."""
    from whisper_train.running import start_detached

    start_detached(job, [word for word in sys.argv[1:] if word != "--detach"], environment)
    return DONE
