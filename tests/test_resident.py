"""Freed memory goes back to the system, and what a process had at most is known."""

import subprocess
import sys
import time

from whisper_train.resident import peak_resident_bytes

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


def test_a_process_that_has_ended_had_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert peak_resident_bytes(child.pid) > 0
    assert child.stdin is not None
    child.stdin.close()
    while peak_resident_bytes(child.pid):  # it ends, and nobody has waited for it yet
        time.sleep(0.01)
    child.wait()
    assert peak_resident_bytes(child.pid) == 0
