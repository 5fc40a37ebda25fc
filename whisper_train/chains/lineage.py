"""Where a model comes from: its job's bases back to the first, each with its data and what it reached."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from whisper_train.chains.inputs import model_digest
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.paths import Directories, read_json
from whisper_train.plan import load_resolved
from whisper_train.report.formats import short
from whisper_train.report.words import with_interval


def find_ancestors(job: Job, directories: Directories) -> list[dict[str, Any]]:
    """What run.json keeps as `lineage`: the runs that `job` builds on as they are now, the first one first."""
    if not job.base.startswith("job:"):
        return []
    folder = directories.models / job.base.removeprefix("job:")
    run = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    return [*run.get("lineage", []), describe_run(folder)] if run else []


def describe_run(folder: Path) -> dict[str, Any]:
    """The facts of one run that a later one needs: base, data, versions, results; what is not known is missing."""
    run = read_json(folder / "run.json")
    job = load_resolved(folder / "job.yaml")
    audit = read_json(path) if (path := folder / "data" / "audit.json").is_file() else {}
    results = read_json(path) if (path := folder / "evaluation" / "results.json").is_file() else {}
    train = audit.get("sets", {}).get("train", {})
    return {
        "job": job.name,
        "language": job.language,
        "base": job.base,
        "base_revision": job.base_revision,
        "base_digest": run.get("inputs", {}).get("base"),
        "model_digest": model_digest(folder),
        "started": next((session["started"] for session in run.get("sessions", [])), None),
        **{key: run.get(key) for key in ("version", "commit", "seed", "steps", "status")},
        "sources": audit.get("sources", {}).get("train", []),
        "revisions": audit.get("revisions", {}).get("train", []),
        "data_digest": train.get("digest"),
        "clips": train.get("kept"),
        "hours": train.get("hours"),
        "results": {
            name: {key: result.get(key) for key in ("clips", "normalizer", "wer", "wer_interval")}
            for name, result in results.get("sets", {}).items()
        },
    }


def show_lineage(job: Job, directories: Directories) -> str:
    """The lineage of the job's run for a terminal; raises UserError when it has none."""
    folder = directories.models / job.name
    if not (folder / "run.json").is_file():
        raise UserError(f"{job.name}: has no run in {display(folder)}; train it first (make train EXP={job.name})")
    entries = [*read_json(folder / "run.json").get("lineage", []), describe_run(folder)]
    lines = [describe_first_base(entries[0])]
    for depth, entry in enumerate(entries):
        lines += [f"{'  ' * depth}└ {describe_entry(entry)}"]
        lines += [f"{'  ' * depth}    {line}" for line in details(entry)]
    return "\n".join([*lines, *notes(entries, directories)])


def describe_first_base(entry: dict[str, Any]) -> str:
    revision = f" (revision {entry['base_revision']})" if entry["base_revision"] else ""
    return "random weights" if entry["base"] == "new" else f"{entry['base']}{revision}"


def describe_entry(entry: dict[str, Any]) -> str:
    commit = f", commit {short(entry['commit'])}" if entry["commit"] else ""
    steps = f"{entry['steps']:,} steps" if entry["steps"] else entry["status"]
    return (
        f"{entry['job']}: {steps}, seed {entry['seed']}, {entry['started']}, whisper-train {entry['version']}{commit}"
    )


def details(entry: dict[str, Any]) -> list[str]:
    """The lines below an entry: its weights, its data, its results."""
    hours = f", {entry['hours']:.2f} h" if entry["hours"] else ""
    clips = f"{entry['clips']:,} clips{hours}, digest {short(entry['data_digest'])}" if entry["clips"] else "not known"
    lines = [f"weights {short(entry['model_digest'])}; data: {clips}"]
    for source, revision in zip(entry["sources"], entry["revisions"], strict=False):
        lines.append(f"  {source}" + (f" (revision {revision})" if revision else ""))
    for name, result in entry["results"].items():
        lines.append(
            f"WER on {name}: {with_interval(result, 'wer')}, {result['clips']:,} clips, {result['normalizer']}"
        )
    return lines


def notes(entries: list[dict[str, Any]], directories: Directories) -> list[str]:
    """What is not any more as it was: a base that was trained again since, or is gone."""
    found = []
    for entry, built in pairwise(entries):
        folder = directories.models / entry["job"]
        if not (folder / "run.json").is_file():
            found.append(f"note: {display(folder)} is not there any more")
        elif model_digest(folder) != built["base_digest"]:
            found.append(
                f"note: {entry['job']} was made again since; {built['job']} comes from the weights named above"
            )
    return found
