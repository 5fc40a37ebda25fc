"""Out of memory: what it looks like, and what is said of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from whisper_train.errors import SuddenEnd

# What CUDA, a compiler around it, cuBLAS, NCCL and torch's allocator for RAM say where torch has no type for it.
WORDS: tuple[str, ...] = ("CUDA error: out of memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
WORDS += ("'out of memory'", "DefaultCPUAllocator: can't allocate memory")


class OutOfMemory(SuddenEnd):
    """Memory ran out: in the training step `step`, which a smaller device batch may fit, or elsewhere (None)."""


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
