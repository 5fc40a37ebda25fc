"""The `augment:` section of a job file: what is refused, and where its paths lead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeJob, RunCli
from whisper_train.job import Job
from whisper_train.job_file import load_job

SOURCE = {"manifest": "clips.jsonl"}


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        ("{nois: {}}", "augment.nois: unknown key; did you mean noise?"),
        ("{noise: {snr: [0, 5]}}", "augment.noise.snr: unknown key; did you mean snr_db?"),
        ("{noise: {snr_db: [5, 0]}}", "snr_db: [5, 0]: give [low, high] within -20 to 60"),
        ("{noise: {snr_db: 5}}", "augment.noise.snr_db"),
        ("{noise: {voices: [0, 3]}}", "voices: [0, 3]: give [low, high] within 1 to 20"),
        ("{noise: {kinds: [wite]}}", "augment.noise.kinds.0: 'wite'"),
        ("{noise: {kinds: []}}", "kinds: is empty and no folder is given"),
        ("{speed: {factor: [0.1, 1]}}", "factor: [0.1, 1]: give [low, high] within 0.5 to 2"),
        ("{clipping: {decibels: [-3, 3]}}", "decibels: [-3, 3]: give [low, high] within 0 to 40"),
        ("{telephone: {codecs: []}}", "augment.telephone.codecs"),
        ("{codec: {kilobits: [8, 320]}}", "kilobits: [8, 320]: give [low, high] within 6 to 64"),
        ("{room: {probability: 1.5}}", "augment.room.probability"),
        ("{room: 0.5}", "augment.room"),
        ("noise", "augment"),
    ],
)
@pytest.mark.parametrize("where", ["data", "source"])
def test_a_mistake_is_named_by_its_key(where: str, augment: str, says: str, make_job: MakeJob, run_cli: RunCli) -> None:
    asked = {"augment": yaml.safe_load(augment)}
    data = (
        {"train": [SOURCE], "eval": [SOURCE], **asked} if where == "data" else {"train": [SOURCE | asked], "eval": []}
    )
    result = run_cli("check", make_job({**data, "eval": [SOURCE]}))
    assert result.exit_code == 2
    assert says in result.output
    assert ("tiny.yaml: data.augment" if where == "data" else "tiny.yaml: data.train.0.augment") in result.output


def test_a_folder_of_noise_is_relative_to_its_job_file_wherever_it_stands(place: Path) -> None:
    noise = {"augment": {"noise": {"folder": "noise", "snr_db": [0, 5]}, "gain": {}}}
    data = {"train": [SOURCE | noise], "eval": {"hard": [SOURCE | noise]}, **noise}
    (place / "jobs").mkdir()
    path = place / "jobs" / "a.yaml"
    path.write_text(yaml.safe_dump({"language": "de", "base": "./base", "data": data}))
    job: Job = load_job(path, machine_path=None)
    for augment in (job.data.augment, job.data.train[0].augment, job.data.eval["hard"][0].augment):
        assert augment
        assert augment.noise
        assert augment.noise.folder == str(place / "jobs" / "noise")
        assert augment.noise.snr_db == (0, 5)
        assert augment.gain


def test_a_stage_adds_effects_changes_them_and_takes_them_away(place: Path) -> None:
    low: dict[str, Any] = {"language": "de", "base": "./base", "data": {"train": [SOURCE], "eval": [SOURCE]}}
    low["data"] |= {"augment": {"room": {"probability": 0.4}, "gain": {}}}
    (place / "low.yaml").write_text(yaml.safe_dump(low))
    high = {"extends": "low", "data": {"augment": {"room": {"probability": 0.1}, "gain": None, "telephone": {}}}}
    (place / "high.yaml").write_text(yaml.safe_dump(high))
    (place / "clean.yaml").write_text("extends: high\ndata: {augment: null}\n")
    augment = load_job(place / "high.yaml", machine_path=None).data.augment
    assert augment
    assert augment.room
    assert (augment.room.probability, augment.gain, bool(augment.telephone)) == (0.1, None, True)
    assert load_job(place / "clean.yaml", machine_path=None).data.augment is None
