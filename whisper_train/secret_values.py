"""Secrets of the environment, and text without them: the last net, where a library repeats what it was given."""

import logging
import os
import re
import resource
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType

SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL|PRIVATE_?KEY|ACCESS_?KEY|_PASS$|_PWD$|_AUTH$", re.IGNORECASE
)
WHERE_IT_LIES = re.compile(r"_(FILE|PATH|DIR)$", re.IGNORECASE)  # as AWS_WEB_IDENTITY_TOKEN_FILE
SHORTEST_SECRET = 8  # characters; the values of shorter variables would be found by chance
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")  # user:password@ of a proxy or a mirror
BLOT = "***"


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Name by value of what an `environment` holds that nobody else is to see."""
    return {
        value: name
        for name, value in environment.items()
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET and not WHERE_IT_LIES.search(name)
    }


def without_secrets(text: str) -> str:
    """`text` with the secrets of this process's environment, and passwords in addresses, blotted out."""
    for value in secrets_of(os.environ):
        text = text.replace(value, BLOT)
    return IN_ADDRESS.sub(BLOT, text)


class DiscreetFormatter(logging.Formatter):
    """Formats what goes into a log, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def tell_discreetly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python prints of an error that nobody foresaw, without secrets."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


def keep_secrets() -> None:
    """From now on no crash of this process or its children leaves its memory on the disk, or a secret in a message."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    sys.excepthook = tell_discreetly
