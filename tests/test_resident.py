"""Freed memory goes back to the system."""

import subprocess
import sys

PROGRAM = """
import torch
from whisper_train.resident import peak_resident_bytes, resident_bytes, return_freed_memory
return_freed_memory()
before = resident_bytes()
for megabytes in (1, 3, 9, 27):
    kept = [torch.ones(megabytes * 250_000) for _ in range(108 // megabytes)]
    freed = kept[::2]
    del kept
    del freed
assert peak_resident_bytes() - before > 100e6
print(resident_bytes() - before)
"""


def test_tensors_of_any_size_that_are_freed_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20e6
