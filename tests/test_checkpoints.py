"""What a checkpoint can go on with, which one is taken, and what is kept: without any training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whisper_train.errors import UserError
from whisper_train.paths import read_json, write_json
from whisper_train.training.checkpoints import (
    INCOMPLETE,
    MANIFEST,
    check_resumable,
    find_damage,
    find_good,
    find_newest,
    finish_checkpoint,
    is_complete,
    remove_old,
    write_manifest,
)


def write_checkpoint(folder: Path, optimizer: str | None) -> Path:
    facts: dict[str, Any] = {"ranks": 2, "deepspeed": True, "global_batch": 8, "optim": optimizer, "files": {}}
    write_json(folder / MANIFEST, facts)
    return folder


@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "adamw_torch_4bit"])
def test_quantized_states_do_not_move_to_another_number_of_ranks(tmp_path: Path, optimizer: str) -> None:
    checkpoint = write_checkpoint(tmp_path, optimizer)
    with pytest.raises(UserError, match=rf"2 rank\(s\) with training\.optim: {optimizer}.*machine\.processes=2"):
        check_resumable(checkpoint, ranks=1, deepspeed=True, global_batch=8)
    assert not check_resumable(checkpoint, ranks=2, deepspeed=True, global_batch=8)


@pytest.mark.parametrize("optimizer", [None, "adamw_torch"])
def test_other_states_move(tmp_path: Path, optimizer: str | None) -> None:
    assert check_resumable(write_checkpoint(tmp_path, optimizer), ranks=1, deepspeed=True, global_batch=8)


def test_a_checkpoint_of_an_earlier_version_says_no_optimizer(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, {"ranks": 2, "deepspeed": True, "global_batch": 8, "files": {}})
    assert check_resumable(tmp_path, ranks=1, deepspeed=True, global_batch=8)


# Damage: what was written is what is loaded, or it is not loaded.


def make_checkpoint(folder: Path, step: int) -> Path:
    """A complete one of two files."""
    written = folder / INCOMPLETE / f"checkpoint-{step}"
    (written / "shards").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(bytes(range(256)) * 10)
    (written / "shards" / "optimizer.pt").write_bytes(b"state" * 100)
    finish_checkpoint(written, folder / written.name, {"ranks": 1, "deepspeed": False, "global_batch": 8})
    return folder / written.name


def flip(path: Path, place: int = 100) -> None:
    """Turns over one bit, as a tired disk does; size and times stay."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


DAMAGES: list[tuple[str, str, Callable[[Path], None]]] = [
    ("model.safetensors", "model.safetensors is missing", Path.unlink),
    ("model.safetensors", "model.safetensors has 2,557 bytes instead of 2,560", truncate),
    ("model.safetensors", "model.safetensors is altered", flip),
    ("shards/optimizer.pt", "shards/optimizer.pt is altered", flip),
    (MANIFEST, f"{MANIFEST} is missing", Path.unlink),
    (MANIFEST, f"{MANIFEST} is altered", truncate),
    (MANIFEST, f"{MANIFEST} is altered", flip),
    ("shards", "shards/optimizer.pt is missing", shutil.rmtree),
]


@pytest.mark.parametrize(("name", "told", "harm"), DAMAGES)
def test_a_damaged_checkpoint_is_told_set_aside_and_the_one_before_used(
    tmp_path: Path, name: str, told: str, harm: Callable[[Path], None]
) -> None:
    good, bad = make_checkpoint(tmp_path, 6), make_checkpoint(tmp_path, 12)
    harm(bad / name)
    said: list[str] = []
    assert find_good(tmp_path, said.append) == good
    assert said == [
        f"checkpoint: checkpoint-12 is DAMAGED: {told}; using the one before, and keeping it as checkpoint-12.damaged"
    ]
    assert (tmp_path / "checkpoint-12.damaged").is_dir()
    assert find_newest(tmp_path) == good


def test_any_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    """What it says of the ranks decides how a checkpoint is loaded."""
    checkpoint = make_checkpoint(tmp_path, 6)
    whole = (checkpoint / MANIFEST).read_bytes()
    for place in range(0, len(whole), 7):
        flip(checkpoint / MANIFEST, place)
        if parsed((checkpoint / MANIFEST).read_bytes()) != parsed(whole):
            assert find_damage(checkpoint), place
        (checkpoint / MANIFEST).write_bytes(whole)


def parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_nothing_but_damage_begins_anew(tmp_path: Path) -> None:
    flip(make_checkpoint(tmp_path, 6) / "model.safetensors")
    said: list[str] = []
    assert find_good(tmp_path, said.append) is None
    assert "checkpoint-6 is DAMAGED" in said[0]


def test_a_checkpoint_of_an_earlier_version_has_sizes_only(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 6)
    listed = read_json(checkpoint / MANIFEST)
    write_json(checkpoint / MANIFEST, {key: listed[key] for key in ("ranks", "deepspeed", "global_batch", "files")})
    assert find_damage(checkpoint) is None
    truncate(checkpoint / "model.safetensors")
    assert find_damage(checkpoint)


def test_files_made_of_a_checkpoint_later_are_watched_as_well(tmp_path: Path) -> None:
    """Its universal form is what other numbers of ranks load."""
    checkpoint = make_checkpoint(tmp_path, 6)
    (checkpoint / "universal.pt").write_bytes(b"x" * 200)
    write_manifest(checkpoint, read_json(checkpoint / MANIFEST), [checkpoint / "universal.pt"])
    assert find_damage(checkpoint) is None
    flip(checkpoint / "universal.pt")
    assert find_damage(checkpoint) == "universal.pt is altered"


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, None, [24]), (2, 6, [6, 18, 24]), (0, 12, [12, 24]), (None, None, [6, 12, 18, 24]), (9, 6, [6, 12, 18, 24])],
)
def test_rotation_keeps_the_best_and_the_last_complete(
    tmp_path: Path, keep: int | None, best: int | None, left: list[int]
) -> None:
    for step in (6, 12, 18, 24):
        make_checkpoint(tmp_path, step)
    unfinished = tmp_path / "checkpoint-30"
    shutil.copytree(tmp_path / "checkpoint-24", unfinished)
    truncate(unfinished / "model.safetensors")
    remove_old(tmp_path, keep=keep, best_step=best)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*") if is_complete(path)) == sorted(
        f"checkpoint-{step}" for step in left
    )


def test_what_was_damaged_stays_until_another_is_complete(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 6)
    flip(make_checkpoint(tmp_path, 12) / "model.safetensors")
    find_good(tmp_path, lambda line: None)
    make_checkpoint(tmp_path, 12)
    assert (tmp_path / "checkpoint-12.damaged").is_dir()
    remove_old(tmp_path, keep=2, best_step=None)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-6"]
