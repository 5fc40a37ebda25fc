"""Jobs in the background, without containers: started, listed, followed, stopped, and gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import RunCli
from tests.tiny import call, command, environment, write_job
from whisper_train.run_folder import is_locked

HOLD = """
import pathlib, sys, time, whisper_train.run_folder
with whisper_train.run_folder.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True), time.sleep(600)
"""
SHORT = {"max_steps": 12, "eval_steps": 12, "save_steps": 12}
LONG = {"max_steps": 1_000_000, "eval_steps": 1_000_000, "save_steps": 1_000_000}


def whisper_train(base: Path, *words: str, expect: int = 0) -> str:
    """What the command prints; `base` holds the three folders, and is where it is given."""
    words = (sys.executable, "-m", "whisper_train", *words)
    output = call([*words], environment(base, MACHINE="cpu"), expect=expect, cwd=base, timeout=300)
    assert "Traceback" not in output, output
    return output


def start(job: Path, base: Path) -> int:
    """Starts `job` in the background and returns its process id."""
    return int(whisper_train(base, "train", str(job), "--detach").partition("as process ")[2].split()[0])


def wait_for(base: Path, name: str, words: str) -> None:
    """Until the job has said `words`."""
    log, deadline = base / "logs" / name / "console.log", time.monotonic() + 240
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def listed(base: Path, name: str) -> str:
    """The line of ps about a job."""
    return next(line for line in whisper_train(base, "ps").splitlines() if line.split()[0] == name)


@contextmanager
def held(lock: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process holds `lock`, as a job does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# What is refused.


@pytest.mark.parametrize("verb", ["logs", "stop"])
def test_a_job_that_never_ran_is_told(place: Path, run_cli: RunCli, verb: str) -> None:
    result = run_cli(verb, "dmeo")

    assert result.exit_code == 2
    assert f"error: dmeo: has not run yet; there is no {place}/models/dmeo; whisper-train ps lists" in result.output


def test_a_run_that_has_ended_cannot_be_stopped(place: Path, run_cli: RunCli) -> None:
    (place / "models" / "tiny").mkdir(parents=True)
    (place / "models" / "tiny" / ".lock").write_text(f"process {os.getpid()} on {os.uname().nodename}")

    for name in ("tiny", "tiny.yaml", "jobs/tiny.yaml"):
        result = run_cli("stop", name)
        assert (result.exit_code, result.output) == (
            2,
            "error: tiny: is not running; whisper-train ps lists the runs\n",
        )


def test_a_job_in_a_container_is_left_to_docker(place: Path, run_cli: RunCli) -> None:
    with held(place / "models" / "tiny" / ".lock", WHISPER_TRAIN_IMAGE="whisper-train:train-local") as process:
        result = run_cli("stop", "tiny")

        assert result.exit_code == 2
        assert f"tiny: runs as container {os.uname().nodename}; stop it there" in result.output
        assert "make stop EXP=tiny RUN=docker" in result.output
        assert process.poll() is None


def test_a_base_that_is_trained_for_another_job_is_stopped_by_that_jobs_name(place: Path, run_cli: RunCli) -> None:
    inside = {"WHISPER_TRAIN_IMAGE": "i", "WHISPER_TRAIN_CONTAINER": "whisper-train-demo", "WHISPER_TRAIN_JOB": "demo"}
    job = write_job(place)
    with held(place / "models" / "tiny" / ".lock", **inside):
        for words in (["train", str(job)], ["train", str(job), "--detach"], ["stop", "tiny"]):
            result = run_cli(*words)

            assert result.exit_code == 2
            assert "as container whisper-train-demo, started for demo" in result.output
            assert "make stop EXP=demo RUN=docker" in result.output


def test_a_job_on_another_host_is_not_signalled_here(place: Path, run_cli: RunCli) -> None:
    lock = place / "models" / "tiny" / ".lock"
    with held(lock) as process:
        lock.write_text(f"process {process.pid} on elsewhere")
        result = run_cli("stop", "tiny")

        assert result.exit_code == 2
        assert f"tiny: runs as process {process.pid} on elsewhere; stop it there" in result.output
        assert process.poll() is None


def test_a_job_that_runs_is_not_started_again_in_the_background(place: Path, run_cli: RunCli) -> None:
    job = write_job(place)
    with held(place / "models" / "tiny" / ".lock") as process:
        result = run_cli("train", job, "--detach")

    assert result.exit_code == 2
    assert f"error: tiny: is running already as process {process.pid} on {os.uname().nodename}" in result.output
    assert not (place / "logs" / "tiny" / "console.log").exists()


def test_a_job_that_is_trained_now_is_not_said_to_have_no_model(place: Path, run_cli: RunCli) -> None:
    with held(place / "models" / "tiny" / ".lock") as process:
        result = run_cli("eval", write_job(place))

    assert result.exit_code == 2
    assert f"error: tiny: is running already as process {process.pid} on" in result.output
    assert "it is being trained now, and ends with an evaluation" in result.output
    assert "make logs EXP=tiny RUN=local" in result.output


def test_a_wrong_job_is_refused_before_anything_is_started(place: Path, run_cli: RunCli) -> None:
    result = run_cli("train", write_job(place, training={"learning_rte": 1}), "--detach")

    assert "training.learning_rte: unknown key" in result.output
    assert not (place / "logs").exists()


def test_a_flat_file_does_not_go_to_the_background(run_cli: RunCli) -> None:
    assert "--detach: is for jobs" in run_cli("train", "--config", "config.yaml", "--detach").output


# What needs no training.


def test_nothing_ran_yet_is_an_empty_list(run_cli: RunCli) -> None:
    assert run_cli("ps").output.split() == ["JOB", "STATUS", "RUNS", "AS", "LAST", "LINE"]


def test_ranks_that_outlived_their_launcher_are_listed_and_stopped(place: Path, run_cli: RunCli) -> None:
    """The launcher's lock still names its process, whose number may be another program's by now."""
    folder = place / "models" / "tiny"
    with held(folder / ".ranks.lock") as process, held(place / "other" / ".lock") as bystander:
        (folder / ".lock").write_text(f"process {bystander.pid} on {os.uname().nodename}")
        (folder / "run.json").write_text('{"status": "running"}')

        assert f"tiny  running  process {process.pid} on" in run_cli("ps").output
        assert "tiny: interrupted before there was anything to save; make train" in run_cli("stop", "tiny").output
        assert process.wait(10) == -signal.SIGTERM
        assert bystander.poll() is None


def test_logs_of_a_run_that_has_ended_are_printed_whole(place: Path, run_cli: RunCli) -> None:
    (place / "logs" / "tiny").mkdir(parents=True)
    (place / "logs" / "tiny" / "training.log").write_text("step 1\nérreur\ndone\n")

    for name in ("tiny", "jobs/tiny.yaml"):
        assert run_cli("logs", name).output == "step 1\nérreur\ndone\n"


@pytest.mark.parametrize(
    ("log", "text", "shown"),
    [
        ("training.log", "at whisper_train: done in 1s; report: r\n", "at whisper_train: done in 1s; report: r"),
        ("training.log", "at whisper_train: error: a\nb\nat py.warnings: old\n", "at whisper_train: error: a"),
        ("console.log", "done in 1s; report: r\nnext, hear what it hears:\n  python -c x\n", "done in 1s; report: r"),
        ("console.log", "\n", "-"),
    ],
)
def test_the_last_line_of_the_list_says_how_it_is(
    place: Path, run_cli: RunCli, log: str, text: str, shown: str
) -> None:
    for folder, name, content in (("models", "run.json", '{"status": "done"}'), ("logs", log, text)):
        (place / folder / "tiny").mkdir(parents=True)
        (place / folder / "tiny" / name).write_text(content)

    assert run_cli("ps").output.splitlines()[1] == f"tiny  done    -        {shown}"


def test_what_went_wrong_is_in_the_log_and_in_the_list(place: Path, run_cli: RunCli) -> None:
    (place / "x.jsonl").write_text('{"audio": "gone.wav", "text": "a"}\n')
    source = [{"manifest": "x.jsonl"}]
    job = write_job(place, data={"train": source, "eval": {"held-out": source}})

    assert run_cli("train", job).exit_code == 2

    error = "whisper_train: error: tiny: data.train: no usable clip among 1 (1 unreadable)"
    assert error in run_cli("logs", "tiny").output
    assert error in run_cli("ps").output


# Real runs.


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("background")
    yield folder
    for lock in folder.glob("logs/*/.background.lock"):  # no job outlives its test
        if is_locked(lock):
            os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)


@pytest.fixture(scope="module")
def running(base: Path) -> tuple[Path, int]:
    """A job that trains, and its process; the shell that started it was hung up."""
    job = write_job(base, "long", training=LONG)
    words = " ".join([*command(job), "--detach"])
    shell = subprocess.Popen(
        ["bash", "-c", f"{words}; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(base),
        start_new_session=True,
    )
    assert shell.stdout is not None
    process = int(shell.stdout.readline().partition("as process ")[2])
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait(30) == -signal.SIGHUP
    shell.stdout.close()
    wait_for(base, "long", "step 3/1,000,000")
    return job, process


@pytest.mark.slow
def test_a_job_in_the_background_outlives_the_shell_that_started_it(base: Path, running: tuple[Path, int]) -> None:
    line = listed(base, "long")

    assert f"running  process {running[1]} on {os.uname().nodename}  step " in line


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--detach"], []])
def test_a_second_start_is_refused_and_disturbs_nothing(base: Path, running: tuple[Path, int], how: list[str]) -> None:
    job, process = running

    output = whisper_train(base, "train", str(job), *how, expect=2)
    assert f"error: long: is running already as process {process} on" in output
    assert "step 3/1,000,000" in (base / "logs" / "long" / "console.log").read_text()
    assert is_locked(base / "models" / "long" / ".lock")


@pytest.mark.slow
def test_a_killed_job_is_listed_as_interrupted(base: Path) -> None:
    process = start(write_job(base, "killed", training=LONG), base)
    wait_for(base, "killed", "step 2/")
    os.kill(process, signal.SIGKILL)
    while is_locked(base / "models" / "killed" / ".lock"):
        time.sleep(0.02)

    assert listed(base, "killed").split()[:3] == ["killed", "interrupted", "-"]
    assert "error: killed: is not running" in whisper_train(base, "stop", "killed", expect=2)


@pytest.mark.slow
def test_logs_right_after_the_start_goes_on_until_the_job_ends(base: Path) -> None:
    start(write_job(base, "short", training=SHORT), base)
    assert listed(base, "short").split()[1] in ("starting", "running")
    output = whisper_train(base, "logs", "short")
    assert "step 12/12" in output
    assert "done in " in output
    assert listed(base, "short").split()[:3] == ["short", "done", "-"]


@pytest.mark.slow
def test_a_start_that_fails_later_is_told_by_logs(base: Path) -> None:
    data: dict[str, Any] = {"train": [{"manifest": "gone.jsonl"}]}
    start(write_job(base, "wrong", data=data), base)

    output = whisper_train(base, "logs", "wrong")
    assert "error: wrong: " in output
    assert "gone.jsonl: no such file" in output
    assert listed(base, "wrong").split()[:3] == ["wrong", "failed", "-"]


@pytest.mark.slow
def test_a_job_stopped_while_it_reads_its_data_leaves_no_process(base: Path) -> None:
    process = psutil.Process(start(write_job(base, "audited", training=LONG), base))
    wait_for(base, "audited", "data: reading eval")
    processes = [process, *process.children(recursive=True)]

    assert "audited: stopped; make train" in whisper_train(base, "stop", "audited")
    assert listed(base, "audited").split()[:3] == ["audited", "stopped", "-"]
    assert psutil.wait_procs(processes, 20)[1] == []


@pytest.mark.slow
def test_a_stopped_job_goes_on_from_its_checkpoint_to_the_same_weights(base: Path) -> None:
    training = {"max_steps": 300, "eval_steps": 300, "save_steps": 300}
    broken, unbroken = (write_job(base, name, training=training) for name in ("broken", "unbroken"))
    start(unbroken, base)
    start(broken, base)
    wait_for(base, "broken", "step 5/300")

    output = whisper_train(base, "stop", str(broken))
    assert "broken: saving, then stopping (up to 600 s)" in output
    assert "broken: stopped; make train EXP=broken goes on from there" in output
    assert listed(base, "broken").split()[:3] == ["broken", "stopped", "-"]
    assert list((base / "models" / "broken" / "checkpoints").glob("checkpoint-*/complete.json"))
    start(broken, base)
    assert "resuming from checkpoint-" in whisper_train(base, "logs", "broken")
    whisper_train(base, "logs", "unbroken")
    assert listed(base, "broken").split()[1] == listed(base, "unbroken").split()[1] == "done"
    ends = [(base / "models" / name / "model.safetensors").read_bytes() for name in ("broken", "unbroken")]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_a_job_whose_base_is_trained_first_is_listed_followed_and_stopped_by_its_own_name(base: Path) -> None:
    write_job(base, "first", training=LONG)
    job = write_job(base, "second", base="job:first", architecture=None, training=SHORT)
    start(job, base)
    wait_for(base, "second", "step 2/1,000,000")

    assert listed(base, "second").split()[1] == "starting"
    assert listed(base, "first").split()[1] == "running"
    assert "second: stopped" in whisper_train(base, "stop", "second")
    assert listed(base, "first").split()[1] == "stopped"
    assert "step 2/1,000,000" in whisper_train(base, "logs", "second")
