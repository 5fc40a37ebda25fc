"""docker/onstart.sh as SSH mode runs it, in a copy of the image's folder, with an entrypoint that only tells.

Training in the real image is the container tests' part: there the recorded request goes into a real container.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from whisper_train.cloud.parcel import pack

ENTRYPOINT = """#!/bin/bash
echo "$@" >>"$LOG_DIR/started"
echo "training $2"
sleep "${TRAIN_SECONDS:-0}"
exit "${TRAIN_STATUS:-0}"
"""


class Instance:
    """What an instance's disk holds, and its starts. The environment is that of the container."""

    def __init__(self, place: Path):
        self.place = place
        docker = place / "opt" / "docker"
        docker.mkdir(parents=True)
        (docker / "onstart.sh").write_text((REPOSITORY / "docker" / "onstart.sh").read_text())
        (docker / "entrypoint.sh").write_text(ENTRYPOINT)
        (docker / "entrypoint.sh").chmod(0o755)
        (place / "opt" / "whisper_train").symlink_to(REPOSITORY / "whisper_train")
        self.etc = place / "environment"
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CONTAINER_ID": "5",
            "CONTAINER_API_KEY": "key-of-the-instance",
            "HF_TOKEN": "hf_secret",
            "ETC_ENVIRONMENT": str(self.etc),
            "CONTAINER_LOG": str(place / "container.log"),
        }
        for name in ("CACHE_DIR", "MODEL_DIR", "LOG_DIR"):
            self.environment[name] = str(place / name.lower())
            (place / name.lower()).mkdir()
        (place / "container.log").touch()

    def start(self, **more: str) -> str:
        """Runs onstart.sh to its end and returns what it says; the job may go on."""
        ended = subprocess.run(
            ["bash", self.place / "opt" / "docker" / "onstart.sh"],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return ended.stdout

    def starts(self) -> list[str]:
        path = self.place / "log_dir" / "started"
        return path.read_text().splitlines() if path.is_file() else []

    def wait_for_starts(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.starts()) < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def console(self, name: str, until: str) -> str:
        """The job's output, once `until` is in it."""
        path = self.place / "log_dir" / name / "console.log"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.is_file() and until in path.read_text():
                return path.read_text()
            time.sleep(0.05)
        raise AssertionError(f"no {until!r} in {path.read_text() if path.is_file() else path}")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_no_job_leaves_a_machine_to_work_on(instance: Instance) -> None:
    assert "EXP is not set" in instance.start()
    assert instance.starts() == []
    assert "MODEL_DIR=" in instance.etc.read_text()


def test_a_damaged_job_is_told(instance: Instance) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        instance.start(EXP="demo", JOB_000="H4sIAAAAAA")
    assert "hold no whole job" in raised.value.stderr
    assert instance.starts() == []


def test_shells_get_the_environment_without_secrets(instance: Instance) -> None:
    instance.etc.write_text('LANG="C.UTF-8"\nEXP="of another time"\n')
    instance.start(EXP="demo", MACHINE="h200", ARGS="--set training.max_steps=3")
    first = instance.etc.read_text()
    instance.start(EXP="demo", MACHINE="h200", ARGS="--set training.max_steps=3")
    assert instance.etc.read_text() == first
    assert 'LANG="C.UTF-8"' in first
    assert first.count("EXP=") == 1
    assert 'ARGS="--set training.max_steps=3"' in first
    assert f'LOG_DIR="{instance.place}/log_dir"' in first
    assert "hf_secret" not in first
    assert "key-of-the-instance" not in first


def test_the_job_runs_apart_with_its_output_in_two_places(instance: Instance) -> None:
    said = instance.start(EXP="demo", ARGS="--set training.max_steps=3", TRAIN_STATUS="1")
    assert f"{instance.place}/log_dir/demo/console.log" in said
    assert "training demo" in instance.console("demo", "ended with status 1")
    assert instance.starts() == ["train demo --set training.max_steps=3"]
    assert "training demo" in (instance.place / "container.log").read_text()


def test_it_is_not_started_twice_and_returns_while_the_job_runs(instance: Instance) -> None:
    started = time.monotonic()
    instance.start(EXP="demo", TRAIN_SECONDS="3")
    assert time.monotonic() - started < 2.5
    instance.console("demo", "training demo")
    assert "is running already" in instance.start(EXP="demo")
    assert len(instance.starts()) == 1
    instance.console("demo", "ended with status 0")


def test_after_an_interruption_the_same_command_runs_again(instance: Instance) -> None:
    (instance.place / "model_dir" / "demo").mkdir()
    (instance.place / "model_dir" / "demo" / "run.json").write_text('{\n  "status": "running"\n}\n')
    instance.start(EXP="demo")
    instance.console("demo", "ended with status 0")
    instance.start(EXP="demo")
    instance.wait_for_starts(2)
    assert instance.starts() == ["train demo", "train demo"]


@pytest.mark.parametrize("status", ["done", "gate missed"])
def test_a_finished_job_is_not_started_again(instance: Instance, status: str) -> None:
    """Else an instance that stops itself could not be started for a look at it."""
    (instance.place / "model_dir" / "demo").mkdir()
    (instance.place / "model_dir" / "demo" / "run.json").write_text(
        f'{{\n  "job": "demo",\n  "status": "{status}"\n}}\n'
    )
    assert "has ended" in instance.start(EXP="demo")
    (instance.place / "log_dir" / ".stopped-itself").touch()
    assert "has ended" in instance.start(EXP="demo", STOP_WHEN_DONE="1")
    assert instance.starts() == []


def test_a_stop_that_never_came_is_made_up_for(instance: Instance) -> None:
    """The instance was interrupted between the end of its job and its own stop, and would cost money for ever."""
    (instance.place / "model_dir" / "demo").mkdir()
    (instance.place / "model_dir" / "demo" / "run.json").write_text('{\n  "status": "done"\n}\n')
    instance.start(EXP="demo", STOP_WHEN_DONE="1")
    instance.wait_for_starts(1)
    assert instance.starts() == ["train demo"]


def test_a_job_that_came_along_is_written_and_trained(instance: Instance) -> None:
    packed = pack({"my-base": "name: my-base\n", "mine": "name: mine\nlanguage: de\n"})
    assert packed is not None
    instance.start(EXP="mine", **packed)
    instance.console("mine", "ended with status 0")
    folder = instance.place / "cache_dir" / "vast-jobs"
    assert instance.starts() == [f"train {folder}/mine.yaml"]
    assert (folder / "mine.yaml").read_text() == "name: mine\nlanguage: de\n"
    assert (folder / "my-base.yaml").read_text() == "name: my-base\n"
    instance.start(EXP="mine")  # from a shell, which has EXP of /etc/environment and no more
    instance.wait_for_starts(2)
    assert instance.starts()[1] == instance.starts()[0]
