"""Ends that one rank comes to while the others wait for it: it leaves a word, and its launcher reads it."""

from pathlib import Path

from whisper_train.errors import SuddenEnd
from whisper_train.out_of_memory import OutOfMemory
from whisper_train.paths import read_json, write_json

LEFT_FILE = ".last-word-"  # and the number of the rank


class BadLoss(SuddenEnd):
    """The loss or the gradients of a step are no numbers, or the loss has exploded."""


class LostWorker(SuddenEnd):
    """A process that reads the data has died, or has handed over nothing for too long."""


class FullDisk(SuddenEnd):
    """The disk filled up while a checkpoint was being written."""


KINDS: dict[str, type[SuddenEnd]] = {kind.__name__: kind for kind in (OutOfMemory, BadLoss, LostWorker, FullDisk)}


def leave_word(folder: Path, rank: int, error: SuddenEnd) -> None:
    """Tells the launcher of this rank, which reads it in the run folder."""
    facts = {"kind": type(error).__name__, "message": str(error), "step": error.step}
    write_json(folder / f"{LEFT_FILE}{rank}", facts)


def read_word(folder: Path) -> SuddenEnd | None:
    """What the first rank says that came to such an end; None where none did."""
    for path in sorted(folder.glob(f"{LEFT_FILE}*")):
        facts = read_json(path)
        return KINDS[facts["kind"]](facts["message"], facts["step"])
    return None


def clear_words(folder: Path) -> None:
    for path in folder.glob(f"{LEFT_FILE}*"):
        path.unlink(missing_ok=True)
