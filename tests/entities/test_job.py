"""Jobs of task: entities: what does not go with them is refused by name, and the real jobs hold the issue's figures."""

import importlib
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import load_job
from whisper_train.tasks import Task

TRAVEL = {"travel": {"sentences": 10}}
JOB: dict[str, Any] = {
    "language": "fr",
    "task": "entities",
    "base": "new",
    "entities": {"encoder": {}},
    "data": {"train": [TRAVEL], "eval": {"test": [TRAVEL]}},
}
SPEECH: dict[str, Any] = {
    "language": "fr",
    "base": "openai/whisper-tiny",
    "data": {"train": [{"manifest": "x.jsonl"}], "eval": {"test": [{"manifest": "y.jsonl"}]}},
}


def load(folder: Path, job: dict[str, Any]) -> Job:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return load_job(path, machine_path=None, environment=os.environ)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (JOB | {"entities": None}, "entities.encoder: goes with `base: new`"),
        (JOB | {"base": "camembert-base"}, "entities.encoder: goes with `base: new`"),
        (JOB | {"architecture": {}}, "architecture: is that of a Whisper"),
        (JOB | {"averaging": {}}, "averaging: is of speech models"),
        (JOB | {"gates": {"wer": 0.1}}, "gates.wer: judges speech"),
        (JOB | {"gates": {"macro_f1": 99}}, "99 % is 0.99"),
        (JOB | {"model": {"lora": {}}}, "model.lora: is of speech models"),
        (JOB | {"data": {**JOB["data"], "windows": {}}}, "data.windows: is of speech"),
        (JOB | {"data": {**JOB["data"], "train": [{"manifest": "x.jsonl"}]}}, "data.train: manifest: a job of task"),
        (JOB | {"training": {"metric_for_best_model": "wer"}}, "metric_for_best_model: wer: a job of task: entities"),
        (JOB | {"data": {"train": [{"travel": {"sentences": 10, "kinds": ["vai"]}}]}}, "data.train.0.travel.kinds.0"),
        (SPEECH | {"entities": {}}, "entities: goes with `task: entities` only"),
        (SPEECH | {"gates": {"macro_f1": 0.9}}, "gates.macro_f1: judges a job of task: entities"),
        (SPEECH | {"gates": {"travel_f1": 0.9}}, "gates.travel_f1: needs evaluation.travel"),
        (SPEECH | {"data": JOB["data"]}, "data.train: travel: a job of task: transcribe"),
        (SPEECH | {"evaluation": {"travel": {"entities": "job:x", "set": "no"}}}, "travel.set: no: no such set"),
        (SPEECH | {"training": {"metric_for_best_model": "macro_f1"}}, "metric_for_best_model: macro_f1: a job"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, job: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, {key: value for key, value in job.items() if value is not None})
    assert message in str(error.value)


def test_the_defaults_are_those_of_an_encoder(tmp_path: Path) -> None:
    training = load(tmp_path, JOB).training
    assert (training["global_batch_size"], training["learning_rate"], training["eval_steps"]) == (16, 5e-5, 100)
    assert (training["metric_for_best_model"], training["early_stopping_patience"]) == ("macro_f1", 3)
    assert load(tmp_path, SPEECH).training["metric_for_best_model"] == "wer"


def test_the_real_job_has_every_figure() -> None:
    job = load_job(REPOSITORY / "jobs/travel.yaml", machine_path=None, environment=os.environ)
    wanted: dict[str, Any] = {"global_batch_size": 16, "learning_rate": 5e-5, "warmup_steps": 0.1, "weight_decay": 0.01}
    wanted |= {"num_train_epochs": 10, "eval_steps": 100, "save_steps": 100, "early_stopping_patience": 3}
    wanted |= {"metric_for_best_model": "macro_f1", "load_best_model_at_end": True}
    assert {key: job.training[key] for key in wanted} == wanted
    assert job.base == "camembert-base"
    assert job.entities
    assert job.entities.max_tokens == 128
    recipes = [source.travel for sources in (job.data.train, *job.data.eval.values()) for source in sources]
    assert sum(recipe.sentences for recipe in recipes if recipe and recipe.part == "train") == 8_000
    assert sum(recipe.sentences for recipe in recipes if recipe and recipe.part == "test") == 2_000
    assert job.machine.precision == "auto"


@pytest.mark.parametrize("task", ["whisper_train.speech_task", "whisper_train.entities.task"])
def test_the_module_of_a_task_has_every_function(task: str) -> None:
    wanted = [name for name, value in vars(Task).items() if inspect.isfunction(value) and not name.startswith("_")]
    module = importlib.import_module(task)
    assert len(wanted) > 5
    for name in wanted:
        names = list(inspect.signature(getattr(module, name)).parameters)
        asked = list(inspect.signature(getattr(Task, name)).parameters)[1:]
        assert names[: len(asked)] == asked, name
