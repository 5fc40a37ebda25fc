"""What Vast.ai was asked for, in the real image: onstart in place of the entrypoint, or the entrypoint with args."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cloud.conftest import vast_client  # noqa: F401
from tests.cloud.recorded import record_launch
from tests.containers.conftest import docker, wait_until
from tests.tiny import write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("vast_client")]
NAME = "whisper-train-test-instance"
# A profile of one's own, which runs on a processor as well: here is no GPU.
PROFILE = {"processes": 1, "precision": "auto", "threads": 1, "audit_workers": 1, "dataloader_num_workers": 0}


def record(place: Path, *options: str, **changes: Any) -> dict[str, Any]:
    """The request for an instance that trains a tiny job."""
    job = write_job(place, "rented", **changes)
    (place / "any.yaml").write_text(yaml.safe_dump(PROFILE))
    machine = ("--machine", str(place / "any.yaml"), "--gpus", "1", "--gpu-memory", "16")
    return record_launch(job, *machine, *options, place=place)


@pytest.fixture
def instance(engine: None) -> Iterator[str]:
    docker("rm", "--force", NAME, check=False)
    yield NAME
    docker("rm", "--force", NAME, check=False)


def settings(request: dict[str, Any]) -> list[str]:
    return [f"--env={name}={value}" for name, value in request["env"].items()]


def inside(path: str) -> str:
    return docker("exec", NAME, "cat", path, check=False).stdout


def test_the_recorded_onstart_runs_the_job_and_goes_on_after_an_interruption(
    instance: str, images: dict[str, str], place: Path
) -> None:
    training = {"max_steps": 200, "eval_strategy": "no", "save_steps": 20}
    request = record(place, "--mode", "ssh", training=training)
    script = f"{request['onstart']}\necho up\nexec sleep infinity"
    docker("run", "--detach", "--name", NAME, "--user", "root", "--network", "none", *settings(request),
           "--entrypoint", "bash", images["train"], "-c", script)  # fmt: skip
    log = "/logs/rented/training.log"
    wait_until(lambda: "step 50/" in inside(log))
    docker("kill", NAME)
    docker("start", NAME)
    wait_until(lambda: '"status": "done"' in inside("/models/rented/run.json"))
    assert "resuming from checkpoint-" in inside(log)
    assert 'MODEL_DIR="/models"' in inside("/etc/environment")
    assert "step 200/200" in inside("/logs/rented/console.log")


def test_the_entrypoint_runs_the_job_that_was_sent_along(instance: str, images: dict[str, str], place: Path) -> None:
    request = record(place, "--mode", "entrypoint")
    done = docker("run", "--name", NAME, "--network", "none", *settings(request), images["train"], *request["args"],
                  check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: /models/rented" in done.stdout


def test_stop_when_done_says_when_it_cannot_stop_the_instance(
    instance: str, images: dict[str, str], place: Path
) -> None:
    """Here is no Vast.ai to ask; the job's own exit status stays."""
    request = record(place, "--mode", "entrypoint", "--stop-when-done")
    done = docker("run", "--name", NAME, "--network", "none", *settings(request), images["train"], *request["args"],
                  check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CONTAINER_ID" in done.stderr
