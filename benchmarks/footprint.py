"""Measures whether memory or disk of a run grow with the clips there are: all of a corpus, and 1 % of it.

    python -m benchmarks.footprint [CLIPS]      100,000 clips by default; some minutes

Each run is a process of its own: it audits its clips anew and trains 20 steps of the tiny job of the tests. Its peak is
that of the largest of its processes. Everything lies in a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import write_corpus
from tests.tiny import command, environment, write_job


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a run over `clips` clips took: at most resident in one process, and on the disk beside its models."""

    clips: int
    peak_bytes: int
    written_bytes: int


def measure(base: Path, clips: int) -> tuple[Footprint, Footprint]:
    """The footprints of 1 % of `clips` clips and of all, in the folder `base`."""
    write_corpus(base / "corpus", clips)
    few, every = (measure_run(base, name, count) for name, count in (("few", clips // 100), ("all", clips)))
    return few, every


def measure_run(base: Path, name: str, clips: int) -> Footprint:
    """Trains over the manifest `name` of the corpus, which holds `clips` clips."""
    data = {
        "train": [{"manifest": str(base / "corpus" / f"{name}.jsonl")}],
        "eval": {"last": [{"manifest": str(base / "corpus" / "few.jsonl"), "split": "[-8:]"}]},
    }
    changes = {"data": data, "training": {"max_steps": 20, "eval_steps": 20, "save_steps": 20}}
    job = write_job(base, f"clips-{name}", machine={"audit_workers": 2, "threads": 1}, **changes)
    process = subprocess.Popen(command(job), env=environment(base), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{job}: its run failed"
    written = bytes_written(base / "models" / job.stem)
    return Footprint(clips=clips, peak_bytes=usage.ru_maxrss * 1024, written_bytes=written)


def bytes_written(run: Path) -> int:
    """What a run leaves besides its checkpoints and the model itself."""
    kept = [run / "data", run / "evaluation", run / "run.json", run / "job.yaml"]
    return sum(path.stat().st_size for place in kept for path in ([place] if place.is_file() else place.rglob("*")))


def main(clips: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        few, every = measure(Path(folder), clips)
    for found in (few, every):
        print(
            f"{found.clips:,} clips: {found.peak_bytes / 1e6:.1f} MB at most resident,"
            f" {found.written_bytes / 1e6:.2f} MB written beside checkpoints and model"
        )
    growth = (every.peak_bytes - few.peak_bytes) / (every.clips - few.clips)
    print(f"ratio of the peaks {every.peak_bytes / few.peak_bytes:.3f}; {growth:.0f} bytes more for each more clip")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
