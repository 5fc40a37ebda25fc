"""Which profile suits a machine, and how a global batch is spread over it."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, RunCli
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import load_job
from whisper_train.machine import choose_profile, list_gpus, plan_layout
from whisper_train.paths import read_environment

CONFIG = REPOSITORY / "jobs"


def make_job(training: dict[str, Any] | None = None, **machine: Any) -> Job:
    data = {"train": [{"manifest": "a.csv"}], "eval": [{"manifest": "b.csv"}]}
    values = {"name": "job", "language": "de", "base": "./x", "data": data, "machine": machine}
    return Job.model_validate(values | {"training": training or {}})


class Driver:
    """An nvidia-smi that answers as one on a machine with these cards would."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "bin" / "nvidia-smi"
        self.path.parent.mkdir()
        monkeypatch.setenv("PATH", f"{self.path.parent}:{os.environ['PATH']}")

    def has(self, *memory: int | str) -> None:
        lines = "\n".join(f"echo '{number}, GPU-{number}f{number}, {each}'" for number, each in enumerate(memory))
        self.path.write_text(f"#!/bin/bash\n{lines}\n")
        self.path.chmod(0o755)

    def fails(self) -> None:
        self.path.write_text("#!/bin/bash\necho 'NVIDIA-SMI has failed: no driver'\nexit 9\n")
        self.path.chmod(0o755)


@pytest.fixture
def driver(place: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.delenv("MACHINE", raising=False)
    return Driver(place, monkeypatch)


# What there is.


def test_a_driver_that_fails_is_no_gpu(driver: Driver) -> None:
    driver.fails()
    assert list_gpus({}) == []
    driver.has("[N/A]")
    assert list_gpus({}) == []


@pytest.mark.parametrize("setting", ["GPUS", "CUDA_VISIBLE_DEVICES"])
def test_a_card_that_is_not_there_is_refused(driver: Driver, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(setting, "0,2")
    with pytest.raises(UserError, match=f"{setting}: 0: this machine shows no such GPU; there are: none"):
        list_gpus(read_environment())
    driver.has(16_376, 16_376)
    with pytest.raises(UserError, match=f"{setting}: 2: this machine shows no such GPU; there are: 0, 1"):
        list_gpus(read_environment())


@pytest.mark.parametrize(("cards", "found"), [("1", [24_564]), ("all", [16_376, 24_564]), ("", [16_376, 24_564])])
def test_gpus_picks_cards(driver: Driver, monkeypatch: pytest.MonkeyPatch, cards: str, found: list[int]) -> None:
    driver.has(16_376, 24_564)
    monkeypatch.setenv("GPUS", cards)
    assert list_gpus(read_environment()) == found


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, [16_376, 24_564]),
        ("0", [16_376]),
        ("1", [24_564]),
        ("0,1", [16_376, 24_564]),
        ("GPU-1f", [24_564]),
        ("", []),
        ("-1", []),
    ],
)
def test_only_visible_gpus_count(driver: Driver, visible: str | None, found: list[int]) -> None:
    driver.has(16_376, 24_564)

    assert list_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == found


@pytest.mark.parametrize(
    ("cards", "profile", "why"),
    [
        ((), "cpu", "no GPU found"),
        ((16_376,), "2x16gb", "found 1 GPU with 15 GiB"),
        ((16_376, 16_376), "2x16gb", "found 2 GPUs with 15 GiB"),
        ((81_559,), "80gb", "found 1 GPU with 79 GiB"),
        ((143_771,), "h200", "found 1 GPU with 140 GiB"),
        ((143_771, 16_376), "2x16gb", "found 2 GPUs with 15 GiB"),
    ],
)
def test_the_profile_follows_from_the_cards_and_is_said(
    driver: Driver, run_cli: RunCli, cards: tuple[int, ...], profile: str, why: str
) -> None:
    driver.has(*cards)

    result = run_cli("check", "demo")

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"# machine profile {profile} ({why}; MACHINE=<profile> chooses another)\n")
    assert f"name: {profile}\n" in result.output


def test_the_profile_asked_for_wins(driver: Driver, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.has(143_771)

    assert "# machine profile cpu\n" in run_cli("check", "demo", "--machine", "cpu").output
    monkeypatch.setenv("MACHINE", "2x16gb")
    assert "# machine profile 2x16gb\n" in run_cli("check", "demo").output
    assert "# machine profile cpu\n" in run_cli("check", "demo", "--machine", "cpu").output


def test_a_profile_may_be_a_file_of_ones_own(place: Path) -> None:
    (place / "mine.yaml").write_text("threads: 3\n")

    path, why = choose_profile("mine.yaml", CONFIG, [])

    assert path == place / "mine.yaml"
    assert why == "machine profile mine"


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"MACHINE: h20: no such profile in .*; did you mean h200?"):
        choose_profile("h20", CONFIG, [])


# The layout.


@pytest.mark.parametrize(
    ("training", "machine", "gpus", "hosts", "expected"),
    [
        # global batch; at most so many clips on a device -> (ranks, per device, accumulation)
        ({"global_batch_size": 32}, {"per_device_train_batch_size": 8}, 0, 1, (1, 8, 4)),
        ({"global_batch_size": 32}, {"per_device_train_batch_size": 64}, 0, 1, (1, 32, 1)),
        ({"global_batch_size": 24}, {"per_device_train_batch_size": 16}, 0, 1, (1, 12, 2)),
        ({"global_batch_size": 7}, {"per_device_train_batch_size": 4}, 0, 1, (1, 1, 7)),
        ({"global_batch_size": 24}, {"per_device_train_batch_size": 4, "processes": "all"}, 2, 1, (2, 4, 3)),
        ({"global_batch_size": 24}, {"per_device_train_batch_size": 4, "processes": "all"}, 0, 1, (1, 4, 6)),
        ({"global_batch_size": 32}, {"per_device_train_batch_size": 8, "processes": 2}, 0, 1, (2, 8, 2)),
        ({"global_batch_size": 32}, {"per_device_train_batch_size": 8, "processes": 2}, 0, 2, (4, 8, 1)),
        ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}, 0, 1, (1, 4, 1)),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, {}, 0, 1, (1, 4, 3)),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, {"processes": 2}, 0, 1, (2, 4, 2)),
    ],
)
def test_layouts(
    training: dict[str, Any], machine: dict[str, Any], gpus: int, hosts: int, expected: tuple[int, int, int]
) -> None:
    layout = plan_layout(make_job(training, **machine), gpus=gpus, hosts=hosts)

    assert (layout.ranks, layout.per_device, layout.accumulation) == expected
    assert layout.ranks_per_host * hosts == layout.ranks


@pytest.mark.parametrize("total", [8, 24, 32, 48])
@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize("profile", ["cpu", "2x16gb", "h200"])
def test_no_profile_changes_the_global_batch(profile: str, gpus: int, total: int) -> None:
    job = load_job(
        CONFIG / "demo.yaml",
        machine_path=CONFIG / "machines" / f"{profile}.yaml",
        overrides=[f"training.global_batch_size={total}"],
    )

    layout = plan_layout(job, gpus=gpus)

    assert layout.ranks * layout.per_device * layout.accumulation == total == layout.global_batch
    assert layout.per_device <= job.machine.per_device_train_batch_size
    assert layout.threads >= 1


def test_a_batch_that_cannot_be_spread_is_refused() -> None:
    with pytest.raises(UserError, match=r"job: training.global_batch_size: 32: cannot be spread over 3 processes"):
        plan_layout(make_job({"global_batch_size": 32}, processes=3), gpus=0)
    with pytest.raises(UserError, match=r"job: machine.processes: 4: this machine has 2 GPU"):
        plan_layout(make_job({"global_batch_size": 32}, processes=4), gpus=2)
