"""`whisper-train plan`, from its command line: what it says, what it refuses, and that it runs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, MakeJob, RunCli
from whisper_train.data.index import write_index
from whisper_train.job_file import load_job
from whisper_train.paths import find_directories, write_json
from whisper_train.planning.bases import SIZES
from whisper_train.planning.clips import count_data

GERMAN_ON_TWO_CARDS = ("plan", "german", "--machine", "2x16gb")


@pytest.fixture
def manifest(make_manifest: Callable[..., Path], tmp_path: Path) -> Path:
    return make_manifest(tmp_path / "clips" / "list.jsonl", clips=6)


def figures(run_cli: RunCli, *arguments: str | Path) -> dict[str, Any]:
    result = run_cli("plan", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


# What it refuses.


def test_a_base_that_nothing_here_tells_of(run_cli: RunCli, make_job: MakeJob, manifest: Path) -> None:
    data = {"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}]}
    result = run_cli("plan", make_job(data, base="someone/ears", architecture=None))
    assert result.exit_code == 2
    assert "base: someone/ears" in result.output


def test_a_cap_without_a_probe(run_cli: RunCli) -> None:
    result = run_cli("plan", "demo", "--memory-gb", "4")
    assert result.exit_code == 2
    assert "--memory-gb" in result.output
    assert "--probe" in result.output


def test_a_probe_of_cards_that_are_not_here(run_cli: RunCli, place: Path) -> None:
    result = run_cli(*GERMAN_ON_TWO_CARDS, "--probe")
    assert result.exit_code == 2
    assert "2 GPU(s) are planned for and 0 are here" in result.output


def test_a_job_that_only_evaluates(run_cli: RunCli, make_job: MakeJob, manifest: Path) -> None:
    result = run_cli("plan", make_job({"eval": [{"manifest": str(manifest)}]}))
    assert result.exit_code == 2
    assert "data.train" in result.output


# What it says.


def test_german_fits_two_cards_of_16_gb_and_32_gb_of_ram(run_cli: RunCli) -> None:
    found = figures(run_cli, *GERMAN_ON_TWO_CARDS[1:])
    assert found["fits"]
    assert found["optimizer"] == "adamw_bnb_8bit"
    assert found["memory"]["total"] < 0.9 * 16e9
    assert found["memory"]["host"] < 0.9 * 32e9
    assert found["traced"]["parameters"] == 1_543_490_560
    assert found["ways"] == []


def test_what_does_not_fit_is_told_with_what_would_help(run_cli: RunCli) -> None:
    asked = (*GERMAN_ON_TWO_CARDS, "--set", "training.optim=adamw_torch_fused")
    result = run_cli(*asked)
    assert result.exit_code == 0
    assert "does not fit" in result.output
    assert "fits" in line_with(result.output, "--set training.optim=adamw_bnb_8bit")
    assert "not " in line_with(result.output, "--set machine.deepspeed=zero2-offload")
    ways = {tuple(way["settings"]): way for way in figures(run_cli, *asked[1:])["ways"]}
    chosen = ways["training.optim=adamw_bnb_8bit",]
    again = figures(run_cli, *GERMAN_ON_TWO_CARDS[1:], "--set", "training.optim=adamw_bnb_8bit")
    assert chosen["memory"]["total"] == again["memory"]["total"], "a way out must be what the plan then says"


def line_with(output: str, words: str) -> str:
    return next(line for line in output.splitlines() if words in line)


def test_what_is_not_known_is_said_and_not_guessed(run_cli: RunCli) -> None:
    output = run_cli(*GERMAN_ON_TWO_CARDS, "--price", "0.3").output
    assert "steps   not known: hub: flozi00/asr-german-mixed" in output
    assert "hours   not known" in output
    assert "cost" not in output


def test_a_run_before_tells_the_rate_and_the_price_the_cost(
    run_cli: RunCli, make_job: MakeJob, manifest: Path, tmp_path: Path
) -> None:
    data = {"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}]}
    job = make_job(data)
    facts = {"timings": {"training": 60.0}, "steps": 2, "sessions": [{"machine": {"name": "cpu"}}]}
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    write_json(tmp_path / "models" / "tiny" / "run.json", facts)
    found = figures(run_cli, job, "--price", "6")
    assert found["hours"] == pytest.approx(2 / 120)
    assert found["cost"] == pytest.approx(6 * 2 / 120)
    facts["sessions"] = [{"machine": {"name": "h200"}}]
    write_json(tmp_path / "models" / "tiny" / "run.json", facts)
    assert figures(run_cli, job, "--price", "6")["hours"] is None


def test_nothing_is_left_behind(run_cli: RunCli, make_job: MakeJob, manifest: Path, tmp_path: Path) -> None:
    data = {"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}]}
    job = make_job(data)
    before = sorted(tmp_path.rglob("*"))
    assert run_cli("plan", job).exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


# How much there is to train on.


def amount(job: Path, tmp_path: Path, global_batch: int = 4) -> Any:
    loaded = load_job(job, machine_path=REPOSITORY / "jobs" / "machines" / "cpu.yaml")
    return count_data(loaded, find_directories({"BASE_DIR": str(tmp_path)}), SIZES["tiny"], global_batch)


def test_clips_are_counted_in_the_sources(make_job: MakeJob, manifest: Path, tmp_path: Path) -> None:
    speech = {"sentences": ["eins"], "voices": ["de"], "clips": 10, "seed": 1}
    sources = [{"manifest": str(manifest)}, {"synthetic": speech, "weight": 0.5}]
    training = {"num_train_epochs": 2}
    found = amount(make_job({"train": sources, "eval": [{"manifest": str(manifest)}]}, training=training), tmp_path)
    assert found.clips == found.windows == 11
    assert found.steps == 6  # two epochs of three steps
    assert found.tokens == 447, "labels that nobody has counted are taken as long as they can be"


def test_windows_are_not_guessed_before_the_audit(make_job: MakeJob, manifest: Path, tmp_path: Path) -> None:
    data = {"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}], "windows": {}}
    found = amount(make_job(data, training={"num_train_epochs": 1}), tmp_path)
    assert found.clips == 6
    assert found.steps is None
    assert "the audit tells" in found.why


def test_the_audit_tells_real_lengths(make_job: MakeJob, manifest: Path, tmp_path: Path) -> None:
    data = {"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}]}
    job = make_job(data, training={"num_train_epochs": 1})
    folder = tmp_path / "models" / "tiny" / "data"
    folder.mkdir(parents=True)
    row: dict[str, Any] = {"audio": "a.wav", "text": "a", "language": "en", "speaker": "", "recording": "", "tags": {}}
    row |= {"row_group": -1, "row": -1, "source": 0, "audio_hash": 1}
    rows = [{**row, "id": str(number), "seconds": 2.0 + number, "tokens": 10 + number} for number in range(8)]
    write_index(folder / "train.arrow", rows)
    write_json(folder / "audit.json", {})
    found = amount(job, tmp_path)
    assert (found.clips, found.windows, found.steps) == (8, 8, 2)
    assert found.seconds == 9.0
    assert found.tokens == 16  # of the longest label all but the last are fed
    assert found.hours == pytest.approx(8 * 5.5 / 3600)
