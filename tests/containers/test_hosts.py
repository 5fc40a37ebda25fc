"""Two containers as two hosts: torchrun's rendezvous over a compose network, and what happens when one is lost."""

import subprocess
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import Project, docker, output_of, wait_until
from tests.tiny import run as run_locally
from tests.tiny import write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow]
ZERO2 = {"processes": 1, "deepspeed": "zero2", "threads": 1, "audit_workers": 1, "dataloader_num_workers": 0}
TRAINING: dict[str, Any] = {"max_steps": 120, "eval_strategy": "no", "save_steps": 20, "logging_steps": 5}
HOSTS = ("first", "second")


@pytest.fixture(scope="module")
def unbroken(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that two ranks of one host, outside of containers, end with."""
    base = tmp_path_factory.mktemp("outside")
    run_locally(write_job(base, "hosts", training=TRAINING, machine={**ZERO2, "processes": 2}), base)
    return (base / "models" / "hosts" / "model.safetensors").read_bytes()


def start(project: Project, job: str) -> None:
    """Starts the job on both hosts."""
    for folder in ("cache", "models", "logs"):
        (project.base / folder).mkdir(exist_ok=True)
    for host in HOSTS:
        docker("rm", "--force", f"{project.name}-{host}", check=False)
        command = ["docker", "compose", "--project-directory", str(REPOSITORY), "--file", "tests/containers/hosts.yaml"]
        command += ["run", "--detach", "--no-deps", "--name", f"{project.name}-{host}", "--use-aliases"]
        command += ["--volume", f"{project.base}:{project.base}:ro"]
        command += [host, "train", f"{project.base}/{job}.yaml", "--machine", "cpu"]
        environment = {**project.environment, "HOST_UID": "0", "HOST_GID": "0"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def ended(project: Project, host: str) -> int:
    """Waits for the end of a host's container and returns its exit status."""
    return int(docker("wait", f"{project.name}-{host}").stdout)


def said(project: Project, host: str) -> str:
    done = docker("logs", f"{project.name}-{host}")
    return done.stdout + done.stderr


@pytest.mark.parametrize("lost", HOSTS)
def test_a_lost_host_ends_the_other_and_a_restart_goes_on(project: Project, unbroken: bytes, lost: str) -> None:
    write_job(project.base, "hosts", training=TRAINING, machine=ZERO2)
    start(project, "hosts")
    wait_until(lambda: "step 50/" in project.log("hosts"))
    docker("kill", "--signal", "KILL", f"{project.name}-{lost}")
    other = next(host for host in HOSTS if host != lost)
    assert ended(project, other) == 1
    message = said(project, other)
    assert "error: another rank is gone" in message, message
    assert "start the job again on every host: it goes on from checkpoint-" in message
    assert list((project.base / "models" / "hosts" / "checkpoints").glob("checkpoint-*/complete.json"))
    start(project, "hosts")
    assert [ended(project, host) for host in HOSTS] == [0, 0], said(project, "first") + said(project, "second")
    assert "resuming from checkpoint-" in project.log("hosts")
    assert (project.base / "models" / "hosts" / "model.safetensors").read_bytes() == unbroken
    assert output_of("ps", "--quiet", "--filter", f"name={project.name}-") == ""
