"""Memory does not grow with the number of clips, and next to nothing is written besides checkpoints and logs."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.scale import write_corpus
from tests.tiny import command, environment, write_job

pytestmark = pytest.mark.slow
CLIPS = 100_000


def peak_memory(job: Path, base: Path) -> int:
    """The largest resident size in KiB of a run (of the largest of its processes)."""
    process = subprocess.Popen(command(job), env=environment(base), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss


def bytes_written(run: Path) -> int:
    """What a run leaves besides its checkpoints and the model itself."""
    kept = [run / "data", run / "evaluation", run / "run.json", run / "job.yaml"]
    return sum(path.stat().st_size for place in kept for path in ([place] if place.is_file() else place.rglob("*")))


def test_a_hundred_times_the_clips_take_the_same_memory_and_little_disk(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", CLIPS)
    peaks = {}
    for name, clips in (("few", CLIPS // 100), ("all", CLIPS)):
        data = {
            "train": [{"manifest": str(tmp_path / "corpus" / f"{name}.jsonl")}],
            "eval": {"last": [{"manifest": str(tmp_path / "corpus" / "few.jsonl"), "split": "[-8:]"}]},
        }
        changes = {"data": data, "training": {"max_steps": 20, "eval_steps": 20, "save_steps": 20}}
        job = write_job(tmp_path, f"clips-{name}", machine={"audit_workers": 2, "threads": 1}, **changes)
        peaks[name] = peak_memory(job, tmp_path)
        assert bytes_written(tmp_path / "models" / job.stem) < 1e6 * max(clips / 1_000, 1)
    assert peaks["all"] < 1.1 * peaks["few"], peaks
