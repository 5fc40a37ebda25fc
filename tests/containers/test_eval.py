"""Evaluations in containers, by make: refused where there is nothing to measure, kept, stopped, and gone on with."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.containers.conftest import USER, Project, as_root, wait_until
from tests.tiny import SPEECH, write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow]
SHORT = {"training": {"max_steps": 2, "eval_strategy": "no", "save_steps": 2}}
CLIPS = 100
MANY = {
    "data": {"eval": {"held-out": [{"synthetic": {**SPEECH, "part": "held-out", "clips": CLIPS, "seed": 3}}]}},
    "training": {"per_device_eval_batch_size": 1, "generation_max_length": 60},
}


# Wrong input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "untrained: has no model yet in /models/untrained"),
        (["ARGS=--model /no/such/folder"], "--model: /no/such/folder: no such folder"),
        (["ARGS=--sets elsewhere"], "--sets: elsewhere: no such set; data.eval has held-out"),
    ],
)
def test_an_eval_that_cannot_work_is_refused_even_when_it_is_left_to_itself(
    project: Project, arguments: list[str], message: str
) -> None:
    job = write_job(project.base, "untrained")
    assert message in project.make("eval", f"EXP={job}", "DETACH=1", *arguments, expect=2)


# What an evaluation leaves.


@as_root
def test_an_eval_is_written_for_the_caller_ends_with_its_gates_and_transcribes_once(project: Project) -> None:
    """The eval image has neither DeepSpeed nor peft; USER stands for a person."""
    job = write_job(project.base, "measured", gates={"wer": 0.0001}, **SHORT)
    for name in ("cache", "models", "logs"):
        (project.base / name).mkdir()
        os.chown(project.base / name, USER, USER)
    ids = {"HOST_UID": str(USER), "HOST_GID": str(USER)}
    project.make("train", f"EXP={job}", expect=3, **ids)
    run, logs = project.base / "models" / "measured", project.base / "logs" / "measured"
    shutil.rmtree(run / "evaluation")
    for path in (run / "README.md", *logs.glob("*.evaluation-*")):
        path.unlink()
    first = project.make("eval", f"EXP={job}", expect=3, **ids)
    assert "whisper-train:eval-" in first
    assert "tuned: transcribing held-out" in first
    results = json.loads((run / "evaluation" / "results.json").read_text())
    assert [(gate["gate"], gate["met"]) for gate in results["gates"]] == [("wer", False)]
    page = (run / "evaluation" / "report.html").read_text()
    assert "--ground:" in page  # the style sheet, which is no Python file
    assert page.count("<audio") == 6
    assert "model-index:" in (run / "README.md").read_text()
    assert list(logs.glob("*.evaluation-*"))
    assert {path.stat().st_uid for path in project.base.rglob("*") if path != job} == {USER}
    assert "transcribing" not in project.make("eval", f"EXP={job}", expect=3, **ids)


def heard(place: Path) -> dict[int, str]:
    """The texts of a transcription, and of its parts, by the position of their clip; each must be there once."""
    found: dict[int, str] = {}
    for path in place.glob("held-out.jsonl*"):
        for line in map(json.loads, path.read_text().splitlines()[1:]):
            assert line["position"] not in found
            found[line["position"]] = line["hypothesis"]
    return found


def test_an_eval_of_a_folder_is_listed_refused_a_second_time_stopped_and_gone_on_with(project: Project) -> None:
    """The folder lies outside of the checkout, and is named by its path outside of the container."""
    project.make("train", f"EXP={write_job(project.base, 'tiny', **SHORT)}")
    model = Path(shutil.move(project.base / "models" / "tiny", project.base.with_suffix(".model")))
    try:
        job = write_job(project.base, "many", **MANY)
        model_option = f"ARGS=--model {model}"
        assert "make logs EXP=" in project.make("eval", f"EXP={job}", "DETACH=1", model_option)
        assert "is running already as container" in project.make("train", f"EXP={job}", expect=2)
        wait_until(lambda: bool(list(project.base.glob("models/many/evaluations/*/transcriptions/tuned/*.part-0"))))
        place = next(project.base.glob("models/many/evaluations/*/transcriptions/tuned"))
        wait_until(lambda: len(heard(place)) > 1)
        assert "many" in project.make("ps")
        assert "stopped; the same command goes on" in project.make("stop", f"EXP={job}")
        before = heard(place)
        assert 1 < len(before) < CLIPS
        output = project.make("eval", f"EXP={job}", model_option)
        assert f"{len(before)} clips were done before" in output
        assert "report: /models/many/" in project.make("logs", f"EXP={job}")
        after = heard(place)
        assert sorted(after) == list(range(CLIPS))
        assert {position: after[position] for position in before} == before
    finally:
        shutil.rmtree(model)
