"""What a run in an image relies on: the pinned torch, what it was built from, what was compiled, who is still there."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY
from whisper_train.run_folder import git_commit, image
from whisper_train.training.arguments import use_compiled_adam
from whisper_train.training.rank import is_lost_rank

RELEASE = version("torch").partition("+")[0]

# The pinned torch.


def check_torch(requirements: Path, python_path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(python_path)} if python_path else None
    command = [sys.executable, str(REPOSITORY / "docker" / "check_torch.py"), str(requirements)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("pinned", "told"),
    [
        ("torch==1.0.0\n", "pins 1.0.0"),
        (f"torch=={RELEASE}0\n", f"pins {RELEASE}0"),
        ("", "pins none"),
        (f"pytorch=={RELEASE}\n# torch=={RELEASE}\n", "pins none"),
    ],
)
def test_another_torch_than_the_pinned_one_is_refused(place: Path, pinned: str, told: str) -> None:
    (place / "torch.txt").write_text(pinned)

    done = check_torch(place / "torch.txt")

    assert done.returncode == 1
    assert f"torch {version('torch')} was resolved, {place}/torch.txt pins {told.removeprefix('pins ')}" in done.stderr


@pytest.mark.parametrize("local", ["", "+cpu", "+cu130"])
def test_the_pinned_torch_is_accepted_whatever_it_was_built_for(place: Path, local: str) -> None:
    """As pip would have installed it: what importlib finds first on the path."""
    installed = place / f"torch-2.13.0{local}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0{local}\n")
    (place / "torch.txt").write_text("# a comment\ntorch==2.13.0\n")

    done = check_torch(place / "torch.txt", place)

    assert (done.returncode, done.stdout) == (0, f"torch 2.13.0{local}\n"), done.stderr


def test_the_installed_torch_is_the_pinned_one() -> None:
    assert check_torch(REPOSITORY / "requirements" / "torch.txt").returncode == 0


# Image and commit.


def test_a_run_knows_its_image_only_from_who_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHISPER_TRAIN_IMAGE", raising=False)
    monkeypatch.setenv("WHISPER_TRAIN_DIGEST", "sha256:1")
    assert image() is None
    monkeypatch.setenv("WHISPER_TRAIN_IMAGE", "me/whisper-train:train-1")
    assert image() == {"name": "me/whisper-train:train-1", "digest": "sha256:1"}
    monkeypatch.setenv("WHISPER_TRAIN_DIGEST", "")
    assert image() == {"name": "me/whisper-train:train-1", "digest": None}


def test_the_commit_an_image_was_built_from_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_TRAIN_COMMIT", "1a2b3c+")

    assert git_commit() == "1a2b3c+"


def test_the_commit_of_a_checkout_is_told_with_a_plus_for_changes(place: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def told() -> str:
        script = "from whisper_train.run_folder import git_commit; print(git_commit())"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    shutil.copytree(REPOSITORY / "whisper_train", place / "whisper_train")
    assert told() == "None"  # a copy without its history
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    commit = git("rev-parse", "HEAD")
    assert told() == commit
    (place / "whisper_train" / "errors.py").open("a").write("\n")
    assert told() == f"{commit}+"


# DeepSpeed's Adam.

ON_CPU: dict[str, Any] = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


@pytest.mark.parametrize(
    "deepspeed",
    [{}, {"zero_optimization": {"stage": 2}}, {"zero_optimization": {"offload_optimizer": {"device": "no"}}}],
)
def test_without_states_in_ram_the_optimizer_stays(deepspeed: dict[str, Any]) -> None:
    assert use_compiled_adam(deepspeed) == deepspeed


def test_states_in_ram_take_deepspeeds_adam_where_it_was_compiled(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adam = pytest.importorskip("deepspeed.ops.adam")
    before = json.dumps(ON_CPU)
    if not list(Path(adam.__path__[0]).glob("cpu_adam_op*")):
        assert use_compiled_adam(ON_CPU) == {**ON_CPU, "zero_force_ds_cpu_optimizer": False}
    (place / "cpu_adam_op.py").write_text("")
    monkeypatch.setattr(adam, "__path__", [*adam.__path__, str(place)])
    assert use_compiled_adam(ON_CPU) == {**ON_CPU, "zero_force_ds_cpu_optimizer": True}
    assert json.dumps(ON_CPU) == before


# Lost ranks.

RANK = """
import os, sys, torch, torch.distributed as dist
from whisper_train.training.rank import is_lost_rank
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
dist.all_reduce(torch.ones(1))
if rank == 1:
    os._exit(9)
try:
    for _ in range(100):
        dist.all_reduce(torch.ones(1))
except RuntimeError as error:
    print(is_lost_rank(error), str(error).splitlines()[0], flush=True)
os._exit(0)
"""


def test_an_error_of_ones_own_is_no_lost_rank() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2, 3) @ torch.ones(2, 3)

    assert not is_lost_rank(raised.value)


def test_a_lost_rank_of_nccl_is_known_by_its_type() -> None:
    assert is_lost_rank(torch.distributed.DistBackendError("NCCL error"))


def test_a_rank_that_dies_is_noticed_as_lost_by_the_other(place: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(place / "meeting")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]

    assert outputs[0].startswith("True "), outputs
