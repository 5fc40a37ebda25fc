"""What there is of a chain, and what is to be done: each stage compared with what its result depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from whisper_train.averaging.state import is_settled
from whisper_train.chains.inputs import evaluation_inputs, learning_inputs
from whisper_train.evaluate_job import EVALUATION_KEYS, LENGTH_KEYS
from whisper_train.job import Job
from whisper_train.paths import Directories
from whisper_train.plan import load_resolved
from whisper_train.run_folder import DONE, GATE_MISSED, MAY_CHANGE, TRAINED, RunFolder, differences, run_folder
from whisper_train.run_log import duration
from whisper_train.running import BACKGROUND_LOCK, CONSOLE

LONGEST_VALUE = 40  # characters of a value in a reason


class State(StrEnum):
    DONE = "done"
    GATE_MISSED = "gate missed"
    EVALUATE = "to evaluate"
    AVERAGE = "to average"
    UNFINISHED = "unfinished"
    STALE = "stale"
    NEW = "to train"


TO_TRAIN = (State.UNFINISHED, State.STALE, State.NEW)
MODEL_STAYS = (State.DONE, State.GATE_MISSED, State.EVALUATE)  # what builds on this model need not be made anew


@dataclass(frozen=True, slots=True)
class Stage:
    """One job of a chain; `seconds` is how long it took, None where it has not ended yet."""

    job: Job
    state: State
    reason: str
    seconds: float | None


def look_at_chain(jobs: Sequence[Job], directories: Directories) -> list[Stage]:
    """The stages in their order, each with its state; what builds on a model that is to be made anew is stale too."""
    stages: list[Stage] = []
    for job in jobs:
        before = stages[-1] if stages else None
        stages.append(look_at_stage(job, directories, before))
    return stages


def look_at_stage(job: Job, directories: Directories, before: Stage | None = None) -> Stage:
    folder = run_folder(job, directories)
    state, reason = compare(job, folder, directories, before)
    timings = folder.read().get("timings")
    return Stage(job, state, reason, sum(timings.values()) if timings else None)


def compare(job: Job, folder: RunFolder, directories: Directories, before: Stage | None) -> tuple[State, str]:
    """The state of the run in `folder`, and why it is not done."""
    run = folder.read()
    if not run.get("inputs") or not (folder.path / "job.yaml").is_file():
        return (State.STALE, "was made by an older version of this program") if run else (State.NEW, "")
    for key, was, now in differences(job, folder, MAY_CHANGE + EVALUATION_KEYS):
        return State.STALE, f"{key}: {short(now)}, was {short(was)}"
    if before and before.state not in MODEL_STAYS:
        return State.STALE, f"its base {before.job.name} is made anew"
    finished = run.get("status") in (DONE, GATE_MISSED, TRAINED)
    if reason := changed_input(run["inputs"], learning_inputs(job, directories), finished):
        return State.STALE, reason
    if run.get("status") == TRAINED and run.get("kept") and is_settled(job, run) and not asks_for_more(job, folder):
        return State.EVALUATE, "is to be evaluated"
    if run.get("status") not in (DONE, GATE_MISSED) or asks_for_more(job, folder):
        return State.UNFINISHED, more_to_do(job, folder, run)
    if not is_settled(job, run):
        return State.AVERAGE, "averaging has changed"
    if run.get("evaluated") != evaluation_inputs(job, folder.path):
        return State.EVALUATE, "what it is measured on or by has changed"
    return (State.DONE, "") if run["status"] == DONE else (State.GATE_MISSED, "")


def changed_input(before: dict[str, str], now: dict[str, str], finished: bool) -> str:
    """Which input of a run is another than it was; an unfinished run goes on with newer code."""
    if before["base"] != now["base"]:
        return "its base is another model now"
    if before["data"] != now["data"]:
        return "its training data have changed"
    if before["code"] != now["code"] and finished:
        return "the part of this program that trains has changed"
    return ""


def asks_for_more(job: Job, folder: RunFolder) -> bool:
    """Whether a finished run is now asked for more steps or epochs than before."""
    asked = load_resolved(folder.path / "job.yaml").training
    return any(job.training.get(key, -1) > asked.get(key, -1) for key in LENGTH_KEYS)


def more_to_do(job: Job, folder: RunFolder, run: dict[str, Any]) -> str:
    if run.get("status") in (DONE, GATE_MISSED):
        return "more steps are asked for"
    return f"goes on where it was ({run.get('status')})"


def short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def draw_plan(stages: Sequence[Stage]) -> str:
    """The chain as a tree for a terminal: each stage below the one it starts from."""
    names = [f"{'  ' * (depth - 1) + '└ ' if depth else ''}{stage.job.name}" for depth, stage in enumerate(stages)]
    width = max(map(len, names))
    states = max(len(stage.state) for stage in stages)
    lines = []
    for name, stage in zip(names, stages, strict=True):
        never = "never ran" if stage.state == State.NEW else "not ended"
        took = f"took {duration(stage.seconds)}" if stage.seconds else never
        lines.append(f"{name:<{width}}  {stage.state:<{states}}  {took:<12}  {stage.reason}".rstrip())
    return "\n".join(lines)


def set_aside(job: Job, directories: Directories) -> Path:
    """Gives the folders of a stale run other names, so that its job can be run anew; nothing is deleted."""
    number = 1
    places = [place for place in (directories.models, directories.logs, directories.mirror) if place]
    while any((place / f"{job.name}.old-{number}").exists() for place in places):
        number += 1
    move(directories.logs / job.name, directories.logs / f"{job.name}.old-{number}", but=(CONSOLE, BACKGROUND_LOCK))
    if directories.mirror and (directories.mirror / job.name).exists():  # else it would be fetched back
        (directories.mirror / job.name).rename(directories.mirror / f"{job.name}.old-{number}")
    if (directories.models / job.name).exists():  # last: what was interrupted before is stale still
        (directories.models / job.name).rename(directories.models / f"{job.name}.old-{number}")
    return directories.models / f"{job.name}.old-{number}"


def move(source: Path, target: Path, *, but: Sequence[str]) -> None:
    """Moves what lies in the folder `source`, but for what belongs to the process that moves it."""
    if source.is_dir():
        target.mkdir()
        for path in source.iterdir():
            if path.name not in but:
                path.rename(target / path.name)
