"""What one run is going to do, decided once by the launching process and read by every rank."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.older_jobs import read_resolved
from whisper_train.paths import read_json, write_json
from whisper_train.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    job: Job
    folder: RunFolder
    cache: Path
    base: str  # hub id or folder
    layout: Layout
    deepspeed: dict[str, Any] | None
    checkpoint: Path | None


def write_plan(plan: RunPlan, path: Path) -> None:
    """Leaves the plan for the ranks that torchrun starts; the job itself is in the run folder."""
    facts = {
        "folder": str(plan.folder.path),
        "logs": str(plan.folder.logs),
        "cache": str(plan.cache),
        "base": plan.base,
        "layout": asdict(plan.layout),
        "deepspeed": plan.deepspeed,
        "checkpoint": str(plan.checkpoint) if plan.checkpoint else None,
    }
    write_json(path, facts)


def load_resolved(path: Path) -> Job:
    """The job that a run left in its folder."""
    return Job.model_validate(read_resolved(path))


def read_plan(path: Path) -> RunPlan:
    facts = read_json(path)
    folder = RunFolder(Path(facts["folder"]), Path(facts["logs"]))
    return RunPlan(
        job=load_resolved(folder.path / "job.yaml"),
        folder=folder,
        cache=Path(facts["cache"]),
        base=facts["base"],
        layout=Layout(**facts["layout"]),
        deepspeed=facts["deepspeed"],
        checkpoint=Path(facts["checkpoint"]) if facts["checkpoint"] else None,
    )
