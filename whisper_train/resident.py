"""Resident memory: how much a process had at most, and how what is freed goes back to the system."""

import ctypes
import gc
import os
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
GIVEN_BACK_BYTES = 128 * 1024  # its own first value, which it raises to 32 MiB as a process frees larger pieces


def return_freed_memory() -> None:
    """Makes the C library give every freed tensor of 128 KiB or more back at once, for the rest of this process.

    It would otherwise keep pieces of up to 32 MiB and place others between them: training Whisper-tiny on a processor
    then takes a fifth more memory, in the same time. Where there is another C library nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, GIVEN_BACK_BYTES)
        mallopt(M_TRIM_THRESHOLD, GIVEN_BACK_BYTES)


def free_memory() -> None:
    """Gives back what nothing refers to any more but itself, and the pieces of a card that torch keeps for later."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()  # nothing where this process has not used CUDA


def resident_bytes() -> int:
    """Resident bytes of this process now (proc(5): statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes(process: int | str = "self") -> int:
    """The most resident bytes that a process has had (proc(5): VmHWM); 0 for one that has ended.

    One that nobody has waited for yet is still listed, without memory.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
