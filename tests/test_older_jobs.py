"""A run of an earlier version is still known as what it is."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import tiny_job
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import dump_job
from whisper_train.older_jobs import in_todays_keys
from whisper_train.plan import load_resolved
from whisper_train.run_folder import RunFolder, check_same_job

LONG = {"max_worse": 0.2, "minutes": 3.0, "seconds": 90.0}
GATES = {"long_form": {"max_worse": 0.2}}


def make_job(**changes: Any) -> Job:
    changes = {"base": "owner/model", "architecture": None, **changes}
    return Job.model_validate({"name": "tiny", **tiny_job(**changes)})


def leave(folder: Path, job: Job, **older: dict[str, Any]) -> Path:
    """The resolved job as the first version wrote it: `older` stands in its sections instead of today's keys."""
    values = yaml.safe_load(dump_job(job))
    for key in ("freeze", "layer_decay"):
        del values["model"][key]
    for key in ("augment", "windows", "replay"):
        del values["data"][key]
    del values["averaging"], values["evaluation"]["long_form"]
    for section, changes in older.items():
        values[section] |= changes
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(("before", "now"), [(True, ["encoder"]), (False, [])])
def test_a_frozen_encoder_is_a_frozen_part(tmp_path: Path, before: bool, now: list[str]) -> None:
    job = make_job(model={"freeze": now})
    path = leave(tmp_path, job, model={"freeze_encoder": before})
    assert load_resolved(path) == job
    check_same_job(job, RunFolder(tmp_path, tmp_path))
    with pytest.raises(UserError, match=r"holds a run with model\.freeze"):
        check_same_job(make_job(model={"freeze": ["decoder.norm"]}), RunFolder(tmp_path, tmp_path))


def test_the_length_of_long_recordings_has_moved(tmp_path: Path) -> None:
    job = make_job(evaluation={"long_form": {"minutes": 3.0, "seconds": 90.0}}, gates=GATES)
    path = leave(tmp_path, job, model={"freeze_encoder": False}, gates={"long_form": LONG})
    assert load_resolved(path) == job
    check_same_job(make_job(gates=GATES), RunFolder(tmp_path, tmp_path))


def test_a_source_without_effects_is_not_one_that_leaves_them_open(tmp_path: Path) -> None:
    room: dict[str, Any] = {"room": {}}
    train, evaluated = [{"manifest": "train.csv"}], {"dev": [{"manifest": "dev.csv"}]}
    before = make_job(data={"train": [{**train[0], "augment": {}}], "eval": evaluated, "augment": room})
    (tmp_path / "job.yaml").write_text(dump_job(before), encoding="utf-8")
    check_same_job(before, RunFolder(tmp_path, tmp_path))
    now = make_job(data={"train": train, "eval": evaluated, "augment": room})
    with pytest.raises(UserError, match=r"data\.train\.0\.augment: \{\}, this job has None"):
        check_same_job(now, RunFolder(tmp_path, tmp_path))


def test_todays_keys_stay(tmp_path: Path) -> None:
    values = yaml.safe_load(dump_job(make_job(model={"freeze": ["encoder.conv"]}, gates=GATES)))
    assert in_todays_keys(values) == values
