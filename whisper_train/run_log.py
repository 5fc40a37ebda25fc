"""What a run says: plain lines on the terminal, the same with times in training.log; libraries' warnings there only."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from whisper_train.errors import RunFailed, Stopped, UserError
from whisper_train.printable import printable
from whisper_train.secret_values import DiscreetFormatter, without_secrets

LIBRARIES = (
    "transformers",
    "accelerate",
    "datasets",
    "DeepSpeed",
    "deepspeed",
    "torch",
    "peft",
    "bitsandbytes",
    "py.warnings",
)

HEAR = "next, hear what it hears:"  # before a command to paste; docker/job.sh knows it too


def print_line(line: str) -> None:
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line)  # keeps a progress bar below in one piece
    else:
        print(line, flush=True)


def open_log(path: Path) -> Callable[[str], None]:
    """Returns `say`, which prints a line and adds it to the log; sends what libraries warn of to the log alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(DiscreetFormatter("%(asctime)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
    quiet_libraries(handler)
    logger = logging.getLogger("whisper_train")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    def say(line: str) -> None:
        line = printable(without_secrets(line))
        print_line(line)
        logger.info(line)

    return say


@contextmanager
def errors_logged() -> Iterator[None]:
    """Adds what goes wrong within the block to the open log as well: the terminal may be gone when somebody looks."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        told = str(error) if isinstance(error, UserError | RunFailed) else f"{type(error).__name__}: {error}"
        logging.getLogger("whisper_train").error("error: %s", printable(told))
        raise


def quiet_libraries(handler: logging.Handler | None) -> None:
    """Libraries write to `handler` alone, from warnings up; without one, nowhere."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "0" if sys.stderr.isatty() else "1")
    logging.captureWarnings(True)
    warnings.simplefilter("default" if handler else "ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.disable_default_handler()  # it would come back with the library's next logger
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers = [handler] if handler else [logging.NullHandler()]
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def duration(seconds: float) -> str:
    """3725 -> 1h02m, 125 -> 2m05s, 9 -> 9s."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
