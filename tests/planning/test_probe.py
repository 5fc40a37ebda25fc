"""`plan --probe`: the search, the profile it leaves, and one real probe."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, RunCli
from tests.tiny import write_job
from whisper_train.errors import UserError
from whisper_train.job_file import load_job
from whisper_train.machine import Layout
from whisper_train.planning.probe import MADE_BY, batches, climb, profile_path

JOB = REPOSITORY / "jobs" / "demo-base.yaml"
CPU = REPOSITORY / "jobs" / "machines" / "cpu.yaml"


@pytest.mark.parametrize("largest", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("start", [1, 4, 16])
def test_the_search_ends_at_the_largest_that_fits(largest: int, start: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= largest

    assert climb([1, 2, 4, 8, 16], start, fits) == largest
    assert len(tried) == len(set(tried)), "nothing is tried twice"


def test_the_search_says_when_nothing_fits() -> None:
    assert climb([1, 2], 2, lambda size: False) is None


def test_batches_divide_the_share_of_a_rank() -> None:
    assert list(batches(Layout(ranks=2, ranks_per_host=2, per_device=4, accumulation=3, threads=1))) == [
        1,
        2,
        3,
        4,
        6,
        12,
    ]


def test_a_profile_that_somebody_wrote_is_left_alone(tmp_path: Path) -> None:
    job = load_job(JOB, machine_path=CPU)
    (tmp_path / "machines").mkdir()
    path = profile_path(job, tmp_path)
    path.write_text("processes: 1\n")
    with pytest.raises(UserError, match=r"cpu-probed\.yaml: was not made by a probe"):
        profile_path(job, tmp_path)
    path.write_text(f"{MADE_BY} …\n")
    assert profile_path(job, tmp_path) == path


@pytest.mark.slow
def test_a_probe_writes_a_profile_that_trains_as_it_was_tried(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whisper_train.planning.probe.SECONDS", 2.0)
    config = tmp_path / "jobs"
    (config / "machines").mkdir(parents=True)
    (config / "machines" / "cpu.yaml").write_text(CPU.read_text())
    monkeypatch.setenv("CONFIG_DIR", str(config))
    job = write_job(config, "tiny")
    result = run_cli("plan", job, "--probe", "--memory-gb", "2")
    assert result.exit_code == 0, result.output
    assert "cpu-probed.yaml; use it with --machine cpu-probed" in result.output
    assert "as measured" in result.output
    profile = config / "machines" / "cpu-probed.yaml"
    assert profile.read_text().startswith(MADE_BY)
    values = yaml.safe_load(profile.read_text())
    assert values["per_device_train_batch_size"] == 8, "a job as small as this takes its whole global batch"
    assert values["measured"]["windows_per_second"] > 0
    again = run_cli("plan", job, "--machine", "cpu-probed")
    assert again.exit_code == 0, again.output
    assert "as --probe measured them" in again.output
    assert "hours   not known" not in again.output
    too_small = run_cli("plan", job, "--probe", "--memory-gb", "0.05")
    assert too_small.exit_code == 2
    assert "not one window fits" in too_small.output
