"""`docker compose up tensorboard` on a fresh clone: alone, soon, for this machine only, every job, live."""

import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import Project, docker, output_of, wait_until
from tests.tiny import write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow]


class Board:
    """A TensorBoard that compose brought up for the checkout in `clone`."""

    def __init__(self, clone: Path, environment: dict[str, str], port: int, container: str) -> None:
        self.clone, self.environment, self.port, self.container = clone, environment, port, container

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/data/{path}", timeout=10) as answer:
            return json.load(answer)

    def steps(self, job: str) -> list[int]:
        points = self.get(f"plugin/scalars/scalars?tag=train/loss&run={job}")
        return [int(step) for _, step, _ in points]


@pytest.fixture
def board(build_environment: dict[str, str], project: Project) -> Iterator[Board]:
    """Brought up as a newcomer does, in a clone that belongs to somebody who is not root."""
    clone = project.base / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 1234, 1234)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**build_environment, "COMPOSE_PROJECT_NAME": project.name, "TENSORBOARD_PORT": str(port)}
    up = ["docker", "compose", "up", "--build", "--detach", "tensorboard"]
    done = subprocess.run(up, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    yield Board(clone, environment, port, f"{project.name}-tensorboard-1")
    subprocess.run(["docker", "compose", "down"], cwd=clone, env=environment, check=True, capture_output=True)


def test_it_becomes_healthy_listens_here_only_and_gives_the_folder_to_its_owner(board: Board) -> None:
    health = ("container", "inspect", "--format", "{{.State.Health.Status}}", board.container)
    wait_until(lambda: output_of(*health) == "healthy", seconds=120)
    assert output_of("port", board.container).endswith(f"127.0.0.1:{board.port}")
    assert (board.clone / "logs").stat().st_uid == 1234
    owners = output_of("exec", board.container, "stat", "--format", "%u", "/proc/7").split()
    assert owners == ["1234"]


def test_it_shows_a_finished_and_a_running_job_live(board: Board, project: Project) -> None:
    place = f"LOG_DIR={board.clone}/logs"
    long = {"max_steps": 4000, "logging_steps": 5, "eval_strategy": "no", "save_steps": 1000}
    project.make("train", f"EXP={write_job(project.base, 'finished')}", place)
    running = write_job(project.base, "going-on", training=long)
    project.make("train", f"EXP={running}", "DETACH=1", place)
    wait_until(lambda: set(board.get("runs")) == {"finished", "going-on"})
    assert board.steps("finished")[-1] == 12
    seen = board.steps("going-on")[-1]
    wait_until(lambda: board.steps("going-on")[-1] > seen)
    docker("rm", "--force", project.container("going-on"))
