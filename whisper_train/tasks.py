"""What a job does by its task: one module for speech, one for entities, with the same functions.

Everything else, the run folder, ranks, checkpoints, gates, publishing, does not know which task it serves.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.machine import Layout
from whisper_train.paths import Directories
from whisper_train.plan import RunPlan
from whisper_train.run_folder import RunFolder

if TYPE_CHECKING:
    from whisper_train.evaluate import EvalModel, Request

Say = Callable[[str], None]


class Task(Protocol):
    """The functions of a task's module."""

    def prepare(
        self,
        job: Job,
        folder: RunFolder,
        layout: Layout,
        directories: Directories,
        environment: Mapping[str, str],
        say: Say,
    ) -> RunPlan:
        """Everything that is done once, before the ranks start."""

    def build_trainer(self, plan: RunPlan, request: Any, say: Say) -> tuple[Any, Any, Any]:
        """The trainer of this rank, and the callbacks that know whether it was asked to stop, and in a step."""

    def describe_training(self, trainer: Any, job: Job) -> list[str]:
        """What the log says of the data when training begins."""

    def save_best(self, job: Job, folder: RunFolder, base: str, say: Say) -> None:
        """Puts the best checkpoint's model into the run folder."""

    def check_models(self, models: "Sequence[EvalModel]") -> None:
        """Raises UserError for a model that cannot be loaded."""

    def evaluate(self, request: "Request", environment: Mapping[str, str], say: Say) -> dict[str, Any]:
        """The results, which are in results.json as well."""

    def make_table(self, results: Mapping[str, Any]) -> str:
        """The results as text."""

    def write_page(self, place: Path, results: Mapping[str, Any], cache: Path, say: Say) -> Path:
        """The report of an evaluation that is no run's own."""

    def write_run_reports(self, job: Job, folder: RunFolder, results: dict[str, Any], cache: Path, say: Say) -> Path:
        """Report, card and TensorBoard's scores of a run; returns the report."""

    def next_command(self, job: Job, folder: RunFolder, cache: Path, environment: Mapping[str, str]) -> str:
        """A line to paste that tries the new model."""


def check_of_speech(job: Job, verb: str) -> None:
    """Raises UserError for a command that is of speech, asked of another job."""
    if job.task == ENTITIES_TASK:
        raise UserError(
            f"{job.name}: {verb}: is of speech, and this job has task: {job.task}; train, eval, check, score, publish"
            " and order serve it"
        )


def parts_of(job: Job) -> Task:
    """The module of the job's task, imported when it is used."""
    if job.task == ENTITIES_TASK:
        from whisper_train.entities import task as entities_task

        return cast(Task, entities_task)
    from whisper_train import speech_task

    return cast(Task, speech_task)
