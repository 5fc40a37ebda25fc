"""What the container tests share: an engine, the images built once, and make as people call it."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

STAND_IN = "local/base:cpu"  # what ../shared/docker-engine/up makes in place of the CUDA base
TARGETS = ("eval", "train", "qat")
TAG = "test"
SETTINGS: tuple[str, ...] = (
    "MACHINE",
    "BASE_DIR",
    "CACHE_DIR",
    "MODEL_DIR",
    "LOG_DIR",
    "CONFIG_DIR",
    "DATA_DIR",
    "GPUS",
    "HF_TOKEN",
)
SETTINGS += ("IMAGE_TAG", "TAG", "REGISTRY", "RUN", "DETACH", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
USER = 1234  # stands for a person's account; these tests run as root
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to somebody and run as somebody")


def engine_answers() -> bool:
    return shutil.which("docker") is not None and docker("info", check=False).returncode == 0


def docker(*arguments: str, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check, timeout=600, **options)


def output_of(*arguments: str) -> str:
    return docker(*arguments).stdout.strip()


def wait_until(true: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def engine() -> None:
    if not engine_answers():
        pytest.skip("no Docker engine answers here: images and compose are NOT tested")


@pytest.fixture(scope="session")
def build_environment(engine: None) -> dict[str, str]:
    """The shell's environment, with the stand-in for the CUDA images where it is there."""
    environment = {**os.environ, **dict.fromkeys(SETTINGS, "")}  # set and empty: a developer's .env does not count
    environment.setdefault("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")  # as `make train` does without a GPU
    if not environment.get("BASE_IMAGE") and docker("image", "inspect", STAND_IN, check=False).returncode == 0:
        environment["BASE_IMAGE"] = STAND_IN
    return environment


@pytest.fixture(scope="session")
def images(build_environment: dict[str, str]) -> dict[str, str]:
    """The names of the three images, built from this checkout; layers that are there already are taken."""
    built = subprocess.run(
        ["docker/images.sh", "build"],
        cwd=REPOSITORY,
        env={**build_environment, "TAG": TAG},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-5000:] + built.stderr[-5000:]
    return {target: f"whisper-train:{target}-{TAG}" for target in TARGETS}


class Project:
    """A place for runs, and make in this checkout with containers of a name of their own."""

    def __init__(self, base: Path, name: str, environment: dict[str, str]) -> None:
        self.base = base
        self.name = name
        self.environment = {
            **environment,
            "BASE_DIR": str(base),
            "COMPOSE_PROJECT_NAME": name,
            "IMAGE_TAG": TAG,
            "RUN": "docker",
            "MACHINE": "cpu",
        }

    def make(self, *arguments: str, expect: int = 0, **variables: str) -> str:
        """What make printed; `expect` is the status of what it calls, which make itself turns into 2."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=REPOSITORY,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == (2 if expect else 0), output
        assert not expect or f"Error {expect}" in output, output
        return output

    def container(self, job: str) -> str:
        return f"{self.name}-{job}"

    def status(self, job: str) -> str:
        return output_of("container", "inspect", "--format", "{{.State.Status}}", self.container(job))

    def facts(self, job: str) -> dict[str, Any]:
        return dict(json.loads((self.base / "models" / job / "run.json").read_text()))

    def log(self, job: str) -> str:
        path = self.base / "logs" / job / "training.log"
        return path.read_text() if path.is_file() else ""


@pytest.fixture
def project(images: dict[str, str], build_environment: dict[str, str]) -> Iterator[Project]:
    """Its folder is no tmp_path, which other users may not enter: containers run as some."""
    base = Path(tempfile.mkdtemp(prefix="whisper-train-"))
    base.chmod(0o755)
    name = f"wt-{base.name[-8:].lower().replace('_', '-').strip('-')}"
    yield Project(base, name, build_environment)
    left = output_of("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={name}").split()
    if left:
        docker("rm", "--force", *left)
    docker("network", "rm", f"{name}_default", check=False)
    shutil.rmtree(base)
