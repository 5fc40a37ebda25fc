"""The second copy of a run: what it holds, what it survives, and how a run that is lost comes back from it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeJob, RunCli
from tests.test_checkpoints import flip, make_checkpoint
from whisper_train.mirror import copy_run, fetch_lost
from whisper_train.run_folder import RunFolder
from whisper_train.training.checkpoints import MANIFEST, find_damage, list_checkpoints, remove_old


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints."""
    run = RunFolder(tmp_path / "models" / "tiny", tmp_path / "logs" / "tiny")
    (run.path / "base").mkdir(parents=True)
    (run.path / "base" / "config.json").write_text("{}")
    for name in ("job.yaml", "run.json"):
        (run.path / name).write_text("{}")
    for step in (6, 12):
        make_checkpoint(run.checkpoints, step)
    return run


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / "tiny"


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder / "checkpoints")]


def test_what_is_copied_is_whole_and_only_what_is_new_is_copied(folder: RunFolder, mirror: Path) -> None:
    copy_run(folder, mirror)
    assert names(mirror) == ["checkpoint-6", "checkpoint-12"]
    assert all(find_damage(path) is None for path in list_checkpoints(mirror / "checkpoints"))
    before = (mirror / "checkpoints" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns
    make_checkpoint(folder.checkpoints, 18)
    remove_old(folder.checkpoints, keep=2, best_step=None)
    copy_run(folder, mirror)
    assert names(mirror) == ["checkpoint-12", "checkpoint-18"]
    assert (mirror / "checkpoints" / "checkpoint-12" / MANIFEST).stat().st_mtime_ns == before


def test_a_copy_that_was_cut_off_is_no_checkpoint_and_is_made_again(folder: RunFolder, mirror: Path) -> None:
    copy_run(folder, mirror)
    (mirror / "checkpoints" / "checkpoint-12" / MANIFEST).unlink()  # it comes last
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    fetch_lost(folder, mirror, lambda line: None)
    assert names(folder.path) == ["checkpoint-6"]


def test_a_lost_run_comes_back_without_what_is_damaged(folder: RunFolder, mirror: Path) -> None:
    copy_run(folder, mirror)
    flip(mirror / "checkpoints" / "checkpoint-12" / "model.safetensors")
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    said: list[str] = []
    fetch_lost(folder, mirror, said.append)
    assert names(folder.path) == ["checkpoint-6"]
    assert "checkpoint-12" in said[1]
    assert "is DAMAGED: model.safetensors is altered" in said[1]
    assert (folder.path / "run.json").is_file()
    assert (folder.path / "base" / "config.json").is_file()


def test_what_is_newer_here_stays(folder: RunFolder, mirror: Path) -> None:
    copy_run(folder, mirror)
    shutil.rmtree(folder.checkpoints / "checkpoint-6")
    (folder.path / "run.json").write_text('{"status": "done"}')
    said: list[str] = []
    fetch_lost(folder, mirror, said.append)
    assert said == []
    assert names(folder.path) == ["checkpoint-12"]


@pytest.mark.slow
def test_a_run_on_another_machine_goes_on_from_the_mirror(
    tmp_path: Path,
    make_job: MakeJob,
    make_manifest: Callable[..., Path],
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIRROR_DIR", str(tmp_path / "mirror"))
    train, held_out = (
        make_manifest(tmp_path / "a" / "train.jsonl", 6),
        make_manifest(tmp_path / "b" / "eval.jsonl", 2, 50),
    )
    data = {"train": [{"manifest": str(train)}], "eval": {"held-out": [{"manifest": str(held_out)}]}}
    training = {"global_batch_size": 2, "max_steps": 4, "save_steps": 2, "eval_strategy": "no", "logging_steps": 1}
    job = make_job(data, training={**training, "save_strategy": "steps", "load_best_model_at_end": False})
    assert run_cli("train", job).exit_code == 0
    assert names(tmp_path / "mirror" / "tiny") == ["checkpoint-2", "checkpoint-4"]
    weights = (tmp_path / "models" / "tiny" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "models")
    shutil.rmtree(tmp_path / "mirror" / "tiny" / "checkpoints" / "checkpoint-4")
    result = run_cli("train", job)
    assert result.exit_code == 0, result.output
    assert "mirror: fetched checkpoint-2 from" in result.output
    assert "resuming from checkpoint-2" in result.output
    assert (tmp_path / "models" / "tiny" / "model.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "models" / "tiny" / "run.json").read_text())["status"] == "done"
