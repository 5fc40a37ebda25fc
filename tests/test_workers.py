"""Processes that read the data: one that hangs as it is forked is made again, one that hangs later is told."""

import multiprocessing
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from tests.conftest import REPOSITORY
from whisper_train.data.workers import patiently, shielded
from whisper_train.sudden_ends import LostWorker

# The child hangs where Python 3.11's does: after the fork, before anything of ours. So many times as FORKS says.
HANGING = """
    import os, sys, time
    from pathlib import Path
    from whisper_train.data import workers

    left, workers.BEGIN_SECONDS, workers.MOST_FORKS = Path(sys.argv[1]), 0.3, 3

    def hang():
        if number := int(left.read_text()):
            left.write_text(str(number - 1))
            time.sleep(1_000)

    os.register_at_fork(after_in_child=hang)
    child = workers.shielded(1).Process(target=print, args=("read",), kwargs={"flush": True})
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_hangs_as_it_is_forked_is_made_again(tmp_path: Path, times: int) -> None:
    done = fork_hanging(tmp_path, times)
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def test_a_worker_that_never_begins_ends_the_run(tmp_path: Path) -> None:
    done = fork_hanging(tmp_path, 3)
    assert done.returncode == 1
    assert "LostWorker: no process that reads the data began within 0.3 s, 3 times" in done.stderr


def fork_hanging(folder: Path, times: int) -> "subprocess.CompletedProcess[str]":
    (folder / "left").write_text(str(times))
    command = [sys.executable, "-c", textwrap.dedent(HANGING), str(folder / "left")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY)


class Slow(Dataset[int]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> int:
        if number == 2:
            time.sleep(1_000)
        return number


def test_a_worker_that_hangs_is_not_waited_for() -> None:
    loader: Any = DataLoader(Slow(), None, num_workers=1, prefetch_factor=1, multiprocessing_context=shielded(1))
    batches = patiently(loader, 1.0)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(LostWorker, match=r"no batch came .* within 1 s \(faults.batch_timeout\)"):
        next(batches)
    assert multiprocessing.active_children() == []


def test_what_goes_wrong_otherwise_is_told_as_it_is() -> None:
    def broken() -> Any:
        yield 1
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        list(patiently(broken(), 60.0))
    assert list(patiently([1, 2], None)) == [1, 2]
