"""Faults of a job of task: entities: it has from the common trainer what speech jobs have."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.entities.conftest import JOB, write_job
from whisper_train.training.checkpoints import MANIFEST, find_damage

FLAT: dict[str, Any] = {**JOB["training"], "save_steps": 2}


def checkpoints(name: str = "tiny") -> list[str]:
    return sorted(path.name for path in (Path("models") / name / "checkpoints").glob("checkpoint-*"))


def test_a_run_without_room_is_refused_before_it_begins(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1_000)
    monkeypatch.setattr("whisper_train.planning.room.shutil", SimpleNamespace(disk_usage=lambda path: usage))
    done = run_cli("train", write_job(place, "tiny"))
    assert done.exit_code == 2, done.output
    assert "tiny: MODEL_DIR: " in done.output
    assert "checkpoints of" in done.output
    assert "training.save_total_limit: 1 keeps the fewest checkpoints" in done.output
    assert not checkpoints()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stop", "rollback"])
def test_a_loss_that_is_no_number_is_left_or_gone_back_from(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    from whisper_train.entities.build import EntityTrainer

    whole = EntityTrainer.compute_loss
    harmed: list[bool] = []

    def compute_loss(self: Any, *args: Any, **options: Any) -> Any:
        loss = whole(self, *args, **options)
        if self.state.global_step != 3 or harmed:
            return loss
        harmed.append(True)
        return loss * float("nan")

    monkeypatch.setattr(EntityTrainer, "compute_loss", compute_loss)
    done = run_cli("train", write_job(place, "tiny", training=FLAT, faults={"bad_loss": policy}))
    assert done.exit_code == (1 if policy == "stop" else 0), done.output
    assert "step 4: the loss is nan; nothing was saved of it" in done.output
    if policy == "stop":
        assert checkpoints() == ["checkpoint-2"]
    else:
        assert "the run goes on from checkpoint-2 with 0.5 of the job's learning rate" in done.output
        assert all(find_damage(Path("models/tiny/checkpoints") / name) is None for name in checkpoints())


@pytest.mark.slow
def test_an_evaluation_is_left_and_done_first_by_the_next_session(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisper_train.entities.pieces import label_words as whole

    assert run_cli("train", write_job(place, "whole")).exit_code == 0

    def label_words(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(*args, **options)

    job = write_job(place, "tiny")
    with monkeypatch.context() as patched:
        patched.setattr("whisper_train.entities.build.label_words", label_words)
        done = run_cli("train", job)
        assert done.exit_code == 143, done.output
        assert "stopped: saved checkpoint-4" in done.output
        assert json.loads((Path("models/tiny/checkpoints/checkpoint-4") / MANIFEST).read_text())["owes_evaluation"]
    done = run_cli("train", job)
    assert done.exit_code == 0, done.output
    assert done.output.index("step 4: evaluated") < done.output.index("step 6/8")
    same = [Path("models") / name / "model.safetensors" for name in ("tiny", "whole")]
    assert same[0].read_bytes() == same[1].read_bytes()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_every_one_has_a_copy(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR_DIR", str(place / "mirror"))
    job = write_job(place, "tiny", training=FLAT)
    assert run_cli("train", job).exit_code == 0
    assert find_damage(Path("mirror/tiny/checkpoints/checkpoint-8")) is None
    monkeypatch.delenv("MIRROR_DIR")
    run = Path("models/tiny/run.json")
    run.write_text(json.dumps(json.loads(run.read_text()) | {"status": "stopped", "kept": None}))
    weights = Path("models/tiny/checkpoints/checkpoint-8/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-9])
    done = run_cli("train", job)
    assert done.exit_code == 0, done.output
    assert "checkpoint-8 is DAMAGED" in done.output
    assert "resuming from checkpoint-6" in done.output
