"""Out of memory: what it looks like, and what is said of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whisper_train.errors import RunFailed
from whisper_train.paths import read_json, write_json

# What CUDA, a compiler around it, cuBLAS, NCCL and torch's allocator for RAM say where torch has no type for it.
WORDS: tuple[str, ...] = ("CUDA error: out of memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
WORDS += ("'out of memory'", "DefaultCPUAllocator: can't allocate memory")
LEFT_FILE = ".out-of-memory-"  # and its number: by which a rank tells its launcher


class OutOfMemory(RunFailed):
    """Memory ran out: in the training step `step`, which a smaller device batch may fit, or elsewhere (None)."""

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no room for what was asked of it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def describe(error: BaseException) -> str:
    """What was asked for and what the card had, without torch's advice on its allocator."""
    told = str(error).partition("\n")[0].partition(" Of the allocated memory")[0].strip()
    return told or type(error).__name__


@contextmanager
def evaluating(clips: int) -> Iterator[None]:
    """Within the block batches of so many `clips` are evaluated; raises OutOfMemory naming the key where they fail.

    The size is not lowered here: with other batches a resumed evaluation would not give the texts of an unbroken one.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        way_out = (
            f"halve per_device_eval_batch_size, {clips} now (--set machine.per_device_eval_batch_size={clips // 2}, or"
            " in training where the job has it there)"
            if clips > 1
            else "one clip is too much already: free the memory that others use, or take a larger card"
        )
        raise OutOfMemory(
            f"an evaluation ran out of memory: {describe(error)} Way out: {way_out}; the same command goes on"
        ) from None


def leave_word(folder: Path, rank: int, error: OutOfMemory) -> None:
    """Tells the launcher of this rank, which reads it in the run folder."""
    write_json(folder / f"{LEFT_FILE}{rank}", {"message": str(error), "step": error.step})


def read_word(folder: Path) -> OutOfMemory | None:
    """What the first rank says that ran out of memory; None where none did."""
    for path in sorted(folder.glob(f"{LEFT_FILE}*")):
        facts = read_json(path)
        return OutOfMemory(facts["message"], facts["step"])
    return None


def clear_words(folder: Path) -> None:
    for path in folder.glob(f"{LEFT_FILE}*"):
        path.unlink(missing_ok=True)
