"""Two tiny jobs, the second on the first one's result, and what their evaluations leave behind."""

import json
from pathlib import Path
from typing import Any

from tests.tiny import SPEECH, run_here, tiny_job, write_job

CLIPS = 30  # of the first set: enough that an evaluation of one at a time can be interrupted

TIMINGS = ("date", "real_time_factor", "compute_seconds")


def synthetic(clips: int, seed: int, **changes: Any) -> list[dict[str, Any]]:
    return [{"synthetic": {**SPEECH, "part": "held-out", "clips": clips, "seed": seed, **changes}}]


def train_jobs(base: Path) -> Path:
    """Trains the jobs `first` and `second` under `base`; their random weights write another text for each clip."""
    architecture = {**tiny_job()["architecture"], "init_std": 0.6}
    data = {"eval": {"held-out": synthetic(CLIPS, 2), "other": synthetic(8, 5, voices=["de+m3", "de+f4"])}}
    training = {"max_steps": 2, "generation_max_length": 12}
    write_job(base, "first", architecture=architecture, training=training)
    run_here(write_job(base, "second", base="job:first", architecture=None, data=data, training=training), base)
    return base


def eval_only(base: Path, sources: list[dict[str, Any]], name: str = "only", **data: Any) -> Path:
    """A job file that evaluates the result of `first` on `sources` and trains nothing."""
    sections = {key: value for key, value in tiny_job().items() if key == "machine"}
    path = base / f"{name}.yaml"
    sections["training"] = {"generation_max_length": 12}
    job = {"language": "de", "base": "job:first", "data": {"eval": {"held-out": sources}, **data}, **sections}
    path.write_text(json.dumps(job, sort_keys=True))  # as write_job() does: the order of words makes other clips
    return path


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of an evaluation folder without date and timings, and where the runs are."""
    results = dict(without_timings(json.loads((folder / "results.json").read_text(encoding="utf-8"))))
    for model in results["models"].values():
        model["model"] = Path(model["model"]).name
    return results


def without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_timings(item) for key, item in value.items() if key not in TIMINGS}
    return [without_timings(item) for item in value] if isinstance(value, list) else value


def read_lines(folder: Path, label: str, name: str) -> list[dict[str, Any]]:
    """The clips of a transcription, without its header."""
    path = folder / "transcriptions" / label / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def transcriptions(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each transcription of an evaluation folder was written, and its content."""
    found = sorted((folder / "transcriptions").rglob("*"))
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found if path.is_file()
    }
