"""Memory and open files of a long run stay as they are: an evaluation and a checkpoint every 100 of 2,000 steps."""

import os
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.tiny import command, environment, write_job

pytestmark = pytest.mark.slow
STEPS, EVERY = 2_000, 100
SETTLED = 500  # steps until everything has been used once, evaluations and checkpoints several times
GROWTH = 1.05  # of the resident memory between then and the end: 2,000 steps of a leak of 50 KiB each would be 1.25


def test_memory_and_open_files_stay_flat(tmp_path: Path) -> None:
    training = {"max_steps": STEPS, "eval_steps": EVERY, "save_steps": EVERY, "logging_steps": EVERY // 2}
    job = write_job(tmp_path, training={"generation_max_length": 8, **training})
    log = tmp_path / "logs" / "tiny" / "training.log"
    process = subprocess.Popen(command(job), env=environment(tmp_path), stdout=subprocess.DEVNULL)
    resident, files = {}, {}
    while process.poll() is None:
        told = re.findall(r"step ([\d,]+)/", log.read_text()) if log.is_file() else []
        if told and (step := int(told[-1].replace(",", ""))) not in resident:
            try:
                resident[step] = psutil.Process(process.pid).memory_info().rss
                files[step] = len(os.listdir(f"/proc/{process.pid}/fd"))
            except (psutil.Error, OSError):
                break
        time.sleep(0.05)
    assert process.wait() == 0
    settled = min(step for step in resident if step >= SETTLED)
    last = max(step for step in resident if step < STEPS)  # at the very end the model is evaluated beside
    assert resident[last] < GROWTH * resident[settled], resident
    assert files[last] <= files[settled] + 2, files
