"""Disk that steps take: said in one line before they start, refused where it cannot fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.tiny import tiny_job, write_job
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.paths import find_directories, size_of
from whisper_train.planning.disk import WEIGHT, checkpoint_bytes, estimate_disk, most_checkpoints
from whisper_train.planning.room import Take, check_room
from whisper_train.planning.takes import chain_takes, speech_takes


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every disk have so many bytes free."""

    def have(number: int) -> None:
        usage = SimpleNamespace(free=number)
        monkeypatch.setattr("whisper_train.planning.room.shutil", SimpleNamespace(disk_usage=lambda path: usage))

    return have


def job(name: str = "tiny", **changes: Any) -> Job:
    return Job.model_validate({"name": name, **tiny_job(**changes)})


def say_takes(takes: list[Take]) -> list[str]:
    said: list[str] = []
    check_room(takes, said.append, key="MODEL_DIR", way_out="MODEL_DIR names another disk")
    return said


def test_what_is_on_one_disk_is_added_up_and_refused_with_the_way_out(free: Any, tmp_path: Path) -> None:
    free(1_000_000_000)
    takes = [Take(place=tmp_path / f"{number}" / "deep", bytes=600_000_000, what=f"part {number}") for number in (1, 2)]
    assert len(say_takes(takes[:1])) == 1
    with pytest.raises(UserError) as refused:
        say_takes(takes)
    assert str(refused.value) == (
        "MODEL_DIR: 1/deep: needs about 1.2 GB (part 1, part 2), and 1.0 GB are free;"
        " make clean-cache shows what can go, MODEL_DIR names another disk"
    )


def test_one_line_says_what_is_taken_and_what_is_free(free: Any, tmp_path: Path) -> None:
    free(5_000_000)
    said = say_takes([Take(place=tmp_path / "x", bytes=2_500_000, what="a model")])
    assert said == ["disk: will take about 2.5 MB in x (a model); 5.0 MB free"]
    assert say_takes([Take(place=tmp_path / "x", bytes=0, what="nothing")]) == []


@pytest.mark.parametrize(
    ("training", "steps", "most"),
    [
        ({}, None, 4),  # two kept, the best, one being written
        ({"save_total_limit": 1}, None, 3),
        ({"save_steps": 6}, 12, 3),  # at 6, at 12, and one of a stop
        ({"save_steps": 1}, 12, 4),
        ({"save_steps": 0.5}, 1000, 3),
        ({"save_total_limit": None, "save_steps": 6}, 60, 11),
        ({"save_total_limit": None}, None, 7),
        ({"save_strategy": "epoch", "eval_strategy": "epoch"}, 12, 4),
    ],
)
def test_checkpoints_that_are_there_at_once(training: dict[str, Any], steps: int | None, most: int) -> None:
    assert most_checkpoints(job(training={"save_total_limit": 2, **training}), steps) == most


def test_the_estimate_counts_checkpoints_and_models() -> None:
    tiny = job(training={"save_steps": 6})
    disk = estimate_disk([tiny], 1000, steps=12)
    assert (disk.checkpoint, disk.checkpoints) == (checkpoint_bytes(tiny, 1000), 3)
    assert disk.models == 2 * WEIGHT * 1000


def test_speech_that_is_made_already_is_not_counted(tmp_path: Path) -> None:
    from whisper_train.data.synthetic import synthetic_folder

    tiny = job()
    assert [take.what for take in speech_takes(tiny, tmp_path)] == ["50 clips of speech"]
    recipe = tiny.data.train[0].synthetic
    assert recipe
    synthetic_folder(recipe, tmp_path, "de").mkdir(parents=True)
    assert [take.what for take in speech_takes(tiny, tmp_path)] == ["6 clips of speech"]


def test_a_chain_takes_what_its_stages_take(tmp_path: Path) -> None:
    first = job("first")
    second = Job.model_validate({**tiny_job(), "name": "second", "base": "job:first", "architecture": None})
    directories = find_directories({"BASE_DIR": str(tmp_path)})
    takes = chain_takes([first, second], first, directories, {})
    assert [take.what for take in takes] == ["first", "second"]
    assert takes[1].bytes > takes[0].bytes > 0
    checkpoint = tmp_path / "models" / "second" / "checkpoints" / "checkpoint-1" / "optimizer.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"x" * 10_000)
    again = chain_takes([first, second], first, directories, {})
    assert takes[1].bytes - again[1].bytes == size_of([checkpoint.parents[1]])


def test_a_training_that_cannot_fit_is_refused_before_it_reads_data(run_cli: RunCli, free: Any, tmp_path: Path) -> None:
    path = write_job(tmp_path)
    free(1000)
    refused = run_cli("train", path)
    assert refused.exit_code == 2
    assert "tiny: CACHE_DIR: cache/synthetic: needs about 2.9 MB (50 clips of speech), and 1.0 kB are" in refused.output
    assert not (tmp_path / "cache" / "synthetic").exists()


@pytest.mark.slow
def test_training_says_its_checkpoints_and_evaluation_its_transcriptions(run_cli: RunCli, tmp_path: Path) -> None:
    path = write_job(tmp_path, training={"max_steps": 2, "save_steps": 1})
    done = run_cli("train", path)
    lines = [line for line in done.output.splitlines() if line.startswith("disk: will take about ")]
    assert "(50 clips of speech)" in lines[0]
    assert "(at most 3 checkpoints of " in lines[1]
    assert "(transcriptions of 6 clips by 1 model)" in lines[2]
    folder = tmp_path / "models" / "tiny"
    said = float(lines[1].split("about ")[1].split()[0]) * 1e6
    made = size_of([folder / "checkpoints"])
    assert made < 1.5 * said, "the estimate is near what was written"
