"""A job, the jobs it starts from, and what it takes over from them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from whisper_train.chains.replay import with_earlier
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import display, find_file, find_job, load_job, suggest_file
from whisper_train.paths import find_config_dir


def load_chain(
    name: str,
    *,
    machine_path: Path | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    is_done: Callable[[str], bool] = lambda base: False,
) -> list[Job]:
    """The job called `name` after the jobs it is based on, back to the first whose base is no job or is done.

    Of `overrides` the bases get those of the machine alone. Raises UserError for a mistake in any of the jobs.
    """
    path = find_job(name, environment)
    folders = [path.parent, find_config_dir(environment)]
    jobs = [load_job(path, machine_path=machine_path, overrides=overrides, environment=environment)]
    shared = [text for text in overrides if text.partition("=")[0].startswith("machine.")]
    while has_base_job(jobs) and not is_done(base_name(jobs[0])):
        jobs.insert(0, load_base(jobs[0], folders, machine_path, shared, environment))
    return [resolve_replay(job, folders, environment) for job in jobs]


def load_whole(
    name: str, *, machine_path: Path | None, overrides: Sequence[str], environment: Mapping[str, str]
) -> Job:
    """The job called `name` alone; of the jobs it builds on only what they trained on, if it replays that."""
    path = find_job(name, environment)
    job = load_job(path, machine_path=machine_path, overrides=overrides, environment=environment)
    return resolve_replay(job, [path.parent, find_config_dir(environment)], environment)


def resolve_replay(job: Job, folders: Sequence[Path], environment: Mapping[str, str]) -> Job:
    """`job` with all that it replays named in it; raises UserError for a mistake in a job it builds on."""
    if job.data.replay is None or not job.data.replay.earlier:
        return job
    jobs = [job]
    while has_base_job(jobs):
        jobs.insert(0, load_base(jobs[0], folders, None, (), environment))
    return with_earlier(job, jobs[:-1])


def has_base_job(jobs: Sequence[Job]) -> bool:
    """Whether the first of `jobs`, each the base of the next, has itself a job as base; UserError for a circle."""
    if not jobs[0].base.startswith("job:"):
        return False
    base = base_name(jobs[0])
    if base in [known.name for known in jobs]:
        raise UserError(f"{jobs[-1].name}: base: job:{base}: the bases go in a circle; change one of them")
    return True


def base_name(job: Job) -> str:
    return job.base.removeprefix("job:")


def load_base(
    job: Job,
    folders: Sequence[Path],
    machine_path: Path | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
) -> Job:
    """The job that `job` starts from; raises UserError when there is none of that name, or for a mistake in it."""
    path = find_base_job(job, folders)
    base = load_job(path, machine_path=machine_path, overrides=overrides, environment=environment)
    if base.name != base_name(job):
        raise UserError(f"{job.name}: base: {job.base}: {display(path)} calls itself {base.name}; use one name")
    return base


def find_base_job(job: Job, folders: Sequence[Path]) -> Path:
    """The file of the job that `job` starts from; raises UserError with the nearest name."""
    base = base_name(job)
    path = find_file(base, folders, ".yaml")
    if path is None:
        near = suggest_file(base, folders[0])
        raise UserError(f"{job.name}: base: {job.base}: no such job in {display(folders[0])}{near}")
    return path
