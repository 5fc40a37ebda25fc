"""Exit statuses, and the two exceptions that carry one."""

DONE = 0
FAILED = 1
WRONG_INPUT = 2
GATE_MISSED = 3
STOPPED = 143  # 128 + SIGTERM: left on a signal, after saving


class UserError(Exception):
    """What the user gave is wrong. The message names the file, the key, the value and the way out; exit status 2."""


class RunFailed(Exception):
    """The run cannot go on, for no fault of its input, and the message says all there is to say; exit status 1."""


class SuddenEnd(RunFailed):
    """An end that one rank comes to while the others wait for it, in or after the training step `step` (None: none)."""

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class Stopped(BaseException):
    """A signal asked the program to leave and everything worth keeping is saved; exit status 143.

    No Exception: it is raised wherever a signal comes, and libraries swallow those while they are imported.
    """
