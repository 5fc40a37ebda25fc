"""A job as it goes to a rented machine: with the jobs it is based on, whole, and without anything that lies here."""

from collections.abc import Iterator, Mapping, Sequence

from whisper_train.augment.settings import noise_folders
from whisper_train.chains.load import load_chain
from whisper_train.cloud.parcel import pack
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source
from whisper_train.job_file import SOURCE_PATHS, dump_job
from whisper_train.machine import choose_profile
from whisper_train.paths import find_config_dir

THERE = "/data/"  # what lies below it is taken to be on the instance


def read_chain(
    name: str, machine: str | None, overrides: Sequence[str], environment: Mapping[str, str]
) -> tuple[Job, ...]:
    """The job called `name` after every job it is based on: the instance has no results yet, and trains them all.

    On the profile `machine` or on none. Raises UserError for a mistake in any of them.
    """
    profile = choose_profile(machine, find_config_dir(environment), [])[0] if machine else None
    return tuple(load_chain(name, machine_path=profile, overrides=overrides, environment=environment))


def pack_jobs(jobs: Sequence[Job]) -> dict[str, str]:
    """The variables that carry `jobs` to the instance; raises UserError for what cannot travel."""
    for job in jobs:
        for key, place in local_places(job):
            raise UserError(
                f"{job.name}: {key}: {place}: lies on this computer, where a rented machine cannot read it; push it to"
                f" the hub and name it there, or copy it to {THERE} on the instance and write that path"
            )
    packed = pack({job.name: dump_job(job) for job in jobs})
    if packed is None:
        raise UserError(
            f"{jobs[-1].name}: is too long to be sent with the request; put it into jobs/, build and push the image"
            " again (make push), and train it from there: make vast-template EXP=… and the console of Vast.ai"
        )
    return packed


def local_places(job: Job) -> Iterator[tuple[str, str]]:
    """Every path in `job` that only this computer has, with its key."""
    places = [("base", job.base), ("machine.deepspeed", job.machine.deepspeed)]
    if job.architecture:
        places.append(("architecture.processor", job.architecture.processor))
    for position, source in enumerate(job.data.train):
        places += source_places(f"data.train.{position}", source)
    for position, source in enumerate(job.data.replay.sources if job.data.replay else []):
        places += source_places(f"data.replay.sources.{position}", source)
    for name, sources in job.data.eval.items():
        for position, source in enumerate(sources):
            places += source_places(f"data.eval.{name}.{position}", source)
    places += noise_folders(job.data)
    for key, place in places:
        if place and place.startswith(("/", ".", "~")) and not place.startswith(THERE):
            yield key, place


def source_places(key: str, source: Source) -> list[tuple[str, str | None]]:
    return [(f"{key}.{name}", getattr(source, name)) for name in ("hub", *SOURCE_PATHS)]
