"""Housekeeping: what can go is shown with its size, results never go, and a running job is left alone."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from whisper_train.housekeeping.clean import clean_cache
from whisper_train.housekeeping.in_use import IN_USE, cache_in_use
from whisper_train.paths import find_directories, write_json
from whisper_train.run_folder import LAUNCHER_LOCK

HOLDS = """
import sys, time
from pathlib import Path
from contextlib import ExitStack
from whisper_train.housekeeping.in_use import cache_in_use
from whisper_train.run_folder import locked
with ExitStack() as stack:
    if sys.argv[1] != "-":
        stack.enter_context(locked(Path(sys.argv[1])))
    stack.enter_context(cache_in_use(Path(sys.argv[2])))
    print("held", flush=True)
    time.sleep(60)
"""


def write(path: Path, content: str = "x" * 5000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def make_checkpoint(folder: Path, step: int) -> Path:
    path = folder / "checkpoints" / f"checkpoint-{step}"
    weights = write(path / "model.safetensors")
    write_json(path / "complete.json", {"files": {"model.safetensors": weights.stat().st_size}})
    return path


def make_run(place: Path, name: str, status: str = "done") -> Path:
    """A run with four checkpoints, of which the second is the one kept, and everything that is to stay."""
    folder = place / "models" / name
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"job": name, "status": status, "kept": "checkpoint-2"})
    for step in (1, 2, 3, 4):
        make_checkpoint(folder, step)
    for stays in RESULTS:
        write(folder / stays)
    write(place / "logs" / name / "training.log")
    return folder


RESULTS: tuple[str, ...] = ("model.safetensors", "config.json", "README.md", "job.yaml", "evaluation/results.json")
RESULTS += ("evaluation/report.html", "evaluation/transcriptions/tuned/a.jsonl", "exports/onnx-int8/model.onnx")
RESULTS += ("data/train.jsonl", "my-notes.txt", "recordings/anna.wav")


def make_repository(place: Path, kind: str, name: str, commits: tuple[str, ...] = ("a" * 40,)) -> Path:
    """A repository as the hub's client lays it out; `main` points to the last of `commits`."""
    folder = place / "cache" / "huggingface" / "hub" / f"{kind}s--{name.replace('/', '--')}"
    for commit in commits:
        blob = write(folder / "blobs" / f"blob-{commit[:4]}")
        link = folder / "snapshots" / commit / "model.safetensors"
        link.parent.mkdir(parents=True)
        link.symlink_to(Path("../../blobs") / blob.name)
    write(folder / "refs" / "main", commits[-1])
    return folder


def files_below(place: Path) -> set[str]:
    ours = (IN_USE, ".lock", ".ranks.lock")
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and path.name not in ours}


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    write(tmp_path / "jobs" / "mine.yaml", "base: openai/whisper-small\n")
    (tmp_path / "jobs" / "machines").mkdir()
    return tmp_path


@pytest.fixture
def hold(tmp_path: Path) -> Any:
    """Starts a process that holds the cache, and perhaps a lock file, as a job does."""
    started: list[subprocess.Popen[str]] = []

    def start(lock: Path | str = "-") -> None:
        command = [sys.executable, "-c", HOLDS, str(lock), str(tmp_path / "cache")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_without_any_folder_it_says_what_to_check(run_cli: RunCli) -> None:
    refused = run_cli("clean-cache")
    assert refused.exit_code == 2
    assert "no such folder; check CACHE_DIR" in refused.output


def test_without_a_terminal_it_only_shows(run_cli: RunCli, jobs: Path) -> None:
    make_run(jobs, "done")
    before = files_below(jobs)
    shown = run_cli("clean-cache")
    assert shown.exit_code == 0
    assert "older checkpoints of finished runs: " in shown.output
    assert "models/done/checkpoints/checkpoint-1  (checkpoint of done)" in shown.output
    assert "nothing was removed: there is no terminal to ask at; --yes (YES=1)" in shown.output
    assert "free on the disk of models: " in shown.output
    assert files_below(jobs) == before


def test_results_and_what_a_run_goes_on_from_stay(run_cli: RunCli, jobs: Path) -> None:
    done, stopped = make_run(jobs, "done"), make_run(jobs, "stopped", status="stopped")
    trained = make_run(jobs, "trained", status="trained")
    cleaned = run_cli("clean-cache", "--yes")
    assert cleaned.exit_code == 0
    assert {path.name for path in (done / "checkpoints").iterdir()} == {"checkpoint-2", "checkpoint-4"}
    for folder in (stopped, trained):
        assert len(list((folder / "checkpoints").iterdir())) == 4
    for folder in (done, stopped, trained):
        assert files_below(folder) >= set(RESULTS)
    assert "freed 32." in cleaned.output  # two checkpoints of 5000 bytes and a manifest, in blocks of 4096 bytes
    assert "last and best checkpoints of finished runs" in cleaned.output
    assert "--all offers them too" in cleaned.output
    assert "nothing to remove" in run_cli("clean-cache", "--yes").output


def test_all_takes_the_last_checkpoints_too_and_still_no_result(run_cli: RunCli, jobs: Path) -> None:
    folder = make_run(jobs, "missed", status="gate missed")
    shown = run_cli("clean-cache", "--all").output
    assert "checkpoint-4  (checkpoint of missed, the newest)" in shown
    assert "checkpoint-2  (checkpoint of missed, the one kept)" in shown
    run_cli("clean-cache", "--all", "--yes")
    assert list((folder / "checkpoints").iterdir()) == []
    assert files_below(folder) == {*RESULTS, "run.json"}
    assert (jobs / "logs" / "missed" / "training.log").is_file()


def test_what_was_interrupted_goes(run_cli: RunCli, jobs: Path) -> None:
    folder = make_run(jobs, "stopped", status="stopped")
    left = [
        write(folder / ".model.incomplete" / "model.safetensors"),
        write(folder / ".run.json.incomplete"),
        write(folder / "exports" / ".onnx-int4.incomplete" / "model.onnx"),
        write(folder / "checkpoints" / ".incomplete" / "checkpoint-5" / "model.safetensors"),
        write(folder / "checkpoints" / "checkpoint-4" / ".global_step4_universal.incomplete" / "zero.pt"),
        write(jobs / "cache" / "synthetic" / ".de-1.incomplete" / "000000.flac"),
    ]
    (jobs / "models" / "other" / "checkpoints" / ".incomplete").mkdir(parents=True)  # empty: no news
    hidden = write(folder / "recordings" / ".mine.incomplete")
    cleaned = run_cli("clean-cache", "--yes")
    assert [path for path in left if path.exists()] == []
    assert hidden.exists(), "not in a place where this program leaves such files"
    assert cleaned.output.count("half-written") == 4


def test_only_what_no_job_names_leaves_the_hubs_cache(run_cli: RunCli, jobs: Path) -> None:
    used = make_repository(jobs, "model", "openai/whisper-small", ("b" * 40, "c" * 40))
    longer = make_repository(jobs, "model", "openai/whisper-smaller")
    other = make_repository(jobs, "model", "someone/else")
    data = make_repository(jobs, "dataset", "some/data")
    token = write(jobs / "cache" / "huggingface" / "token")
    mine = write(jobs / "cache" / "my-corpus" / "a.wav")
    chunks = write(jobs / "cache" / "huggingface" / "xet" / "chunk")
    output = run_cli("clean-cache", "--yes").output
    assert "(model openai/whisper-small, 1 earlier revision)" in output
    assert not any(path.exists() for path in (longer, other, data, chunks))
    assert (used / "snapshots" / ("c" * 40) / "model.safetensors").read_text()
    assert not (used / "snapshots" / ("b" * 40)).exists()
    assert token.exists()
    assert mine.exists()
    run_cli("clean-cache", "--yes", "--all")
    assert not used.exists()
    assert token.exists()
    assert mine.exists()


def test_a_hub_cache_elsewhere_belongs_to_others_too(
    run_cli: RunCli, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(jobs, "done")
    elsewhere = make_repository(jobs / "home", "model", "someone/else")
    monkeypatch.setenv("HF_HOME", str(jobs / "home" / "cache" / "huggingface"))
    run_cli("clean-cache", "--yes", "--all")
    assert elsewhere.exists()


def test_speech_that_an_index_names_stays_until_all_is_asked_for(run_cli: RunCli, jobs: Path) -> None:
    from whisper_train.data.index import SCHEMA, write_index

    for name in ("de-used", "de-unused"):
        write(jobs / "cache" / "synthetic" / name / "manifest.jsonl")
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    (jobs / "models" / "a" / "data").mkdir(parents=True)
    write_index(jobs / "models" / "a" / "data" / "train.arrow", [{**row, "audio": "cache:synthetic/de-used/0.flac"}])
    run_cli("clean-cache", "--yes")
    assert [path.name for path in (jobs / "cache" / "synthetic").iterdir()] == ["de-used"]
    run_cli("clean-cache", "--yes", "--all")
    assert list((jobs / "cache" / "synthetic").iterdir()) == []


def test_a_running_job_and_the_whole_cache_are_left_alone(
    run_cli: RunCli, jobs: Path, hold: Callable[..., None]
) -> None:
    busy, done = make_run(jobs, "busy"), make_run(jobs, "done")
    half = write(done / "exports" / ".onnx-int8.incomplete" / "model.onnx")  # as a conversion that runs writes it
    other = make_repository(jobs, "model", "someone/else")
    hold(busy / LAUNCHER_LOCK)
    cleaned = run_cli("clean-cache", "--yes", "--all")
    assert "running, and left alone with all that is in the cache: busy (process " in cleaned.output
    assert "left alone: 2, in use now" in cleaned.output
    assert len(list((busy / "checkpoints").iterdir())) == 4
    assert list((done / "checkpoints").iterdir()) == []
    assert half.exists()
    assert other.exists()


def test_a_command_that_begins_meanwhile_waits(jobs: Path, hold: Callable[..., None]) -> None:
    from whisper_train.housekeeping.in_use import cache_to_oneself

    (jobs / "cache").mkdir()
    with cache_in_use(jobs / "cache"), cache_in_use(jobs / "cache"):
        hold()  # several share it
    with cache_to_oneself(jobs / "cache") as alone:
        assert not alone


def test_nothing_begins_while_the_cache_is_cleaned(jobs: Path) -> None:
    from whisper_train.housekeeping.in_use import cache_to_oneself

    (jobs / "cache").mkdir()
    with cache_to_oneself(jobs / "cache") as alone:
        assert alone
        command = [sys.executable, "-c", HOLDS, "-", str(jobs / "cache")]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout
        assert "is being cleaned; waiting" in waiting.stdout.readline()
        time.sleep(0.3)
        assert waiting.poll() is None
    assert waiting.stdout.readline() == "held\n"
    waiting.kill()
    waiting.wait()


def test_what_is_not_agreed_to_stays(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(jobs, "done")
    left = write(folder / ".model.incomplete" / "model.safetensors")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    said: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return "interrupted" in question

    environment = {"BASE_DIR": str(jobs), "CONFIG_DIR": str(jobs / "jobs")}
    clean_cache(environment, everything=False, yes=False, ask=ask, say=said.append)
    assert [question.partition(":")[0] for question in asked] == [
        "left by what was interrupted",
        "older checkpoints of finished runs",
    ]
    assert not left.exists()
    assert len(list((folder / "checkpoints").iterdir())) == 4
    assert said[-1].startswith("freed ")


def test_links_are_not_followed(run_cli: RunCli, jobs: Path) -> None:
    outside = write(jobs / "elsewhere" / "keep.bin").parent
    (jobs / "cache" / "synthetic").mkdir(parents=True)
    (jobs / "cache" / "synthetic" / ".de.incomplete").symlink_to(outside)
    run_cli("clean-cache", "--yes")
    assert (outside / "keep.bin").exists()


def test_what_cannot_be_read_passes_for_nothing(run_cli: RunCli, jobs: Path) -> None:
    folder = make_run(jobs, "broken")
    (folder / "run.json").write_text('{"status": "done"')
    write(folder / "data" / "train.arrow", "half an index")
    cleaned = run_cli("clean-cache", "--yes", "--all")
    assert cleaned.exit_code == 0
    assert len(list((folder / "checkpoints").iterdir())) == 4


@pytest.mark.slow
def test_a_job_fetches_again_what_was_cleaned(run_cli: RunCli, trained_and_evaluated: Path, tmp_path: Path) -> None:
    """Speech that an audited run needs is made again by itself, and the run stays the same."""
    import shutil

    from whisper_train.data.prepare import index_path

    shutil.copytree(trained_and_evaluated, tmp_path / "copy")
    place = tmp_path / "copy"
    data = place / "models" / "first" / "data"
    before = json.loads((data / "audit.json").read_text())["sets"]
    environment = {"BASE_DIR": str(place), "CONFIG_DIR": str(place)}
    clean_cache(environment, everything=True, yes=True, ask=lambda question: True, say=lambda line: None)
    assert list((place / "cache" / "synthetic").iterdir()) == []
    from tests.tiny import run

    run(place / "first.yaml", place)
    assert json.loads((data / "audit.json").read_text())["sets"] == before
    assert index_path(data, "train").is_file()
    assert find_directories(environment).cache.is_dir()
