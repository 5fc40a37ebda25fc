"""A job and the jobs it starts from, in the order in which they are trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
    jobs = [load_job(path, machine_path=machine_path, overrides=overrides, environment=environment)]
    shared = [text for text in overrides if text.partition("=")[0].startswith("machine.")]
    while jobs[0].base.startswith("job:"):
        base = jobs[0].base.removeprefix("job:")
        if base in [known.name for known in jobs]:
            raise UserError(f"{name}: base: job:{base}: the bases go in a circle; change one of them")
        if is_done(base):
            break
        near = find_base_job(jobs[0], [path.parent, find_config_dir(environment)])
        jobs.insert(0, load_job(near, machine_path=machine_path, overrides=shared, environment=environment))
        if jobs[0].name != base:
            raise UserError(
                f"{jobs[1].name}: base: job:{base}: {display(near)} calls itself {jobs[0].name}; use one name"
            )
    return jobs


def find_base_job(job: Job, folders: Sequence[Path]) -> Path:
    """The file of the job that `job` starts from; raises UserError with the nearest name."""
    base = job.base.removeprefix("job:")
    path = find_file(base, folders, ".yaml")
    if path is None:
        near = suggest_file(base, folders[0])
        raise UserError(f"{job.name}: base: {job.base}: no such job in {display(folders[0])}{near}")
    return path
