"""`docker compose up tensorboard` on a fresh clone: alone, soon, for this machine only, every job, live."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import USER, Project, as_root, docker, output_of, wait_until
from tests.tiny import write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow, as_root]


class Board:
    """A TensorBoard that compose brought up for the checkout in `clone`."""

    def __init__(self, clone: Path, environment: dict[str, str], port: int, container: str) -> None:
        self.clone, self.environment, self.port, self.container = clone, environment, port, container

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/data/{path}", timeout=10) as answer:
            return json.load(answer)

    def newest_step(self, job: str) -> int:
        """The last step that TensorBoard has read of the job; 0 before it has read any."""
        try:
            points = self.get(f"plugin/scalars/scalars?tag=train/loss&run={job}")
        except urllib.error.HTTPError:
            return 0
        return int(points[-1][1]) if points else 0


@pytest.fixture
def board(build_environment: dict[str, str]) -> Iterator[Board]:
    """Brought up as a newcomer does, in a clone that belongs to somebody who is not root; no other image is needed."""
    base = Path(tempfile.mkdtemp(prefix="whisper-train-"))
    base.chmod(0o755)
    clone, name = base / "clone", f"wt-board-{os.getpid()}"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    for path in (clone, *clone.rglob("*")):
        os.chown(path, USER, USER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**build_environment, "COMPOSE_PROJECT_NAME": name, "TENSORBOARD_PORT": str(port)}
    up = ["docker", "compose", "up", "--build", "--detach", "tensorboard"]
    done = subprocess.run(up, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    yield Board(clone, environment, port, f"{name}-tensorboard-1")
    subprocess.run(["docker", "compose", "down"], cwd=clone, env=environment, check=True, capture_output=True)
    shutil.rmtree(base)


def test_it_becomes_healthy_listens_here_only_and_gives_the_folder_to_its_owner(board: Board) -> None:
    health = ("container", "inspect", "--format", "{{.State.Health.Status}}", board.container)
    wait_until(lambda: output_of(*health) == "healthy", seconds=120)
    assert output_of("port", board.container).endswith(f"127.0.0.1:{board.port}")
    assert (board.clone / "logs").stat().st_uid == USER
    processes = output_of("top", board.container, "-eo", "pid,uid,args").splitlines()
    assert {line.split()[1] for line in processes if "bin/tensorboard" in line} == {str(USER)}
    assert output_of("exec", board.container, "sh", "-c", "ls -A /checkout") == "/checkout", "a file: .env is not seen"


def test_it_shows_a_finished_and_a_running_job_live(board: Board, project: Project) -> None:
    place = f"LOG_DIR={board.clone}/logs"
    long = {"max_steps": 4000, "logging_steps": 5, "eval_strategy": "no", "save_steps": 1000}
    project.make("train", f"EXP={write_job(project.base, 'finished')}", place)
    running = write_job(project.base, "going-on", training=long)
    project.make("train", f"EXP={running}", "DETACH=1", place)
    wait_until(lambda: set(board.get("runs")) == {"finished", "going-on"})
    wait_until(lambda: board.newest_step("finished") == 12)
    seen = board.newest_step("going-on")
    wait_until(lambda: board.newest_step("going-on") > seen)
    docker("rm", "--force", project.container("going-on"))
