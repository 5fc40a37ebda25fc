"""What a checkpoint can go on with: refusals that need no training."""

from pathlib import Path
from typing import Any

import pytest

from whisper_train.errors import UserError
from whisper_train.paths import write_json
from whisper_train.training.checkpoints import MANIFEST, check_resumable


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
