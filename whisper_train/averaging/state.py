"""Whether a run's model is what its job asks for: the tuned one, or an average of it and its base."""

from collections.abc import Mapping
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job

ASIDE = ".averaging"  # in the run folder: one averaged model at a time, as long as it transcribes


def asked_of(job: Job) -> dict[str, Any] | None:
    """What `job` asks for, as run.json keeps it."""
    return job.averaging.model_dump(mode="json") if job.averaging else None


def is_settled(job: Job, facts: Mapping[str, Any]) -> bool:
    """Whether the model of a run with these `facts` (run.json) was chosen as `job` asks.

    The choice stands when eval sets or gates change later: then the model is measured and judged again as it is.
    """
    made = facts.get("averaging")
    return (made["asked"] if made else None) == asked_of(job)


def check_settled(job: Job, facts: Mapping[str, Any]) -> None:
    """Raises UserError where a run's model was not made as `job` asks."""
    if not is_settled(job, facts):
        raise UserError(
            f"{job.name}: averaging: has changed since its model was made; make train EXP={job.name} averages anew and"
            " evaluates, without training"
        )
