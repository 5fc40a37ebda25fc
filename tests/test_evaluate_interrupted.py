"""An evaluation that is interrupted anywhere goes on where it was, on as many processes as there are then."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import RunCli
from tests.evaluated import read_lines, read_results, transcriptions, without_timings
from tests.tiny import interrupt

pytestmark = pytest.mark.slow
ONE_BY_ONE = ("--set", "machine.per_device_eval_batch_size=1")
TWO = (*ONE_BY_ONE, "--set", "machine.processes=2")


@pytest.fixture
def base(trained_and_evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the jobs' folders as BASE_DIR in which `second` is not evaluated yet."""
    shutil.copytree(trained_and_evaluated, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "models" / "second" / "evaluation")
    monkeypatch.setenv("BASE_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def folder(base: Path) -> Path:
    return base / "models" / "second" / "evaluation"


@pytest.fixture
def unbroken(trained_and_evaluated: Path) -> Path:
    return trained_and_evaluated / "models" / "second" / "evaluation"


def parts(folder: Path) -> dict[str, list[str]]:
    """The whole lines of each part of an unfinished transcription, without the headers."""
    return {
        f"{path.parent.name}/{path.name}": [
            line for line in path.read_text().splitlines(keepends=True)[1:] if line[-1] == "\n"
        ]
        for path in (folder / "transcriptions").glob("*/*.part-*")
    }


def has_lines(folder: Path, name: str, count: int, processes: int) -> Callable[[], bool]:
    """Whether every process has transcribed `count` clips of `name`, as in tuned/held-out."""
    wanted = [folder / "transcriptions" / f"{name}.jsonl.part-{number}" for number in range(processes)]
    return lambda: all(path.is_file() and path.read_bytes().count(b"\n") > count for path in wanted)


def wait_for_workers(folder: Path) -> None:
    """Until the processes of a killed evaluation are gone."""
    plan = str(folder / ".eval-plan.json")
    deadline = time.monotonic() + 30
    while any(plan in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline, "a process outlived its evaluation"
        time.sleep(0.02)


def assert_equal_results(folder: Path, unbroken: Path) -> None:
    """The same texts and figures; no clip twice, no part left."""
    assert read_results(folder) == read_results(unbroken)
    for label in ("tuned", "baseline"):
        for name in ("held-out", "other", "silence"):
            lines, expected = read_lines(folder, label, name), read_lines(unbroken, label, name)
            assert without_timings(lines) == without_timings(expected)
    assert transcriptions(folder).keys() == transcriptions(unbroken).keys()


def assert_kept(folder: Path, before: dict[str, list[str]]) -> None:
    """What was transcribed before the interruption stands there byte by byte, the time it took with it."""
    for name, lines in before.items():
        whole = (folder / "transcriptions" / name.partition(".part-")[0]).read_text().splitlines(keepends=True)
        assert set(lines) <= set(whole)


@pytest.mark.parametrize("name", ["tuned/held-out", "baseline/other"])
def test_kill_9_and_run_again_transcribes_no_clip_twice(
    base: Path, folder: Path, unbroken: Path, run_cli: RunCli, name: str
) -> None:
    job = base / "second.yaml"
    status, _ = interrupt(job, base, has_lines(folder, name, 3, 1), signal.SIGKILL, *ONE_BY_ONE, verb="eval")
    assert status == -signal.SIGKILL
    before, whole = parts(folder), transcriptions(folder)
    done = len(before[f"{name}.jsonl.part-0"])
    result = run_cli("eval", job, *ONE_BY_ONE)
    assert result.exit_code == 0, result.output
    label, _, set_name = name.partition("/")
    assert f"{label}: transcribing {set_name}, {done} clips were done before" in result.output
    assert_kept(folder, before)
    for path, content in whole.items():
        assert ".part-" in path or transcriptions(folder)[path] == content
    assert_equal_results(folder, unbroken)


@pytest.mark.parametrize("after", [TWO, ONE_BY_ONE])
def test_two_killed_processes_are_gone_on_with_by_two_or_by_one(
    base: Path, folder: Path, unbroken: Path, run_cli: RunCli, after: tuple[str, ...]
) -> None:
    job = base / "second.yaml"
    interrupt(job, base, has_lines(folder, "tuned/held-out", 2, 2), signal.SIGKILL, *TWO, verb="eval")
    wait_for_workers(folder)
    before = parts(folder)
    assert min(len(before[f"tuned/held-out.jsonl.part-{number}"]) for number in (0, 1)) >= 2
    result = run_cli("eval", job, *after)
    assert result.exit_code == 0, result.output
    assert_kept(folder, before)
    assert_equal_results(folder, unbroken)
    assert not (folder / ".eval-plan.json").exists()


def test_two_processes_end_with_the_results_of_one(base: Path, folder: Path, unbroken: Path, run_cli: RunCli) -> None:
    result = run_cli("eval", base / "second.yaml", "--set", "machine.processes=2")
    assert result.exit_code == 0, result.output
    assert_equal_results(folder, unbroken)


def test_a_process_that_fails_ends_the_evaluation_with_its_message(
    base: Path, folder: Path, run_cli: RunCli, capfd: pytest.CaptureFixture[str]
) -> None:
    (base / "models" / "second" / "model.safetensors").unlink()
    result = run_cli("eval", base / "second.yaml", *TWO)
    assert result.exit_code == 1
    assert "error: a process of the evaluation failed" in result.output
    said = capfd.readouterr().err
    assert "cannot be loaded" in said
    assert "Traceback" not in said
    assert not list(folder.rglob("*.jsonl")), "nothing passes for a transcription"


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_leaves_with_143_and_the_evaluation_goes_on(
    base: Path, folder: Path, unbroken: Path, run_cli: RunCli, processes: int
) -> None:
    job = base / "second.yaml"
    words = TWO if processes == 2 else ONE_BY_ONE
    moment = has_lines(folder, "tuned/held-out", 2, processes)
    status, output = interrupt(job, base, moment, signal.SIGTERM, *words, verb="eval")
    assert status == 143, output
    assert "Traceback" not in output
    assert json.loads((base / "models" / "second" / "run.json").read_text())["status"] == "done"
    before = parts(folder)
    result = run_cli("eval", job)
    assert result.exit_code == 0, result.output
    assert "clips were done before" in result.output
    assert_kept(folder, before)
    assert_equal_results(folder, unbroken)


def test_a_set_half_done_by_other_weights_is_begun_anew(base: Path, folder: Path, run_cli: RunCli) -> None:
    job = base / "second.yaml"
    interrupt(job, base, has_lines(folder, "tuned/held-out", 3, 1), signal.SIGKILL, *ONE_BY_ONE, verb="eval")
    first = base / "models" / "first" / "model.safetensors"
    shutil.copy(first, base / "models" / "second" / "model.safetensors")
    result = run_cli("eval", job)
    assert "clips were done before" not in result.output
    results = read_results(folder)["sets"]["held-out"]
    assert results["wer"] == results["baseline"]["wer"], "the weights of the base, whose texts are all there are"
    assert results["cer"] == results["baseline"]["cer"]
