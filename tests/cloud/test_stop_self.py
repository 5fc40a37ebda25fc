"""An instance stops itself: `python -m whisper_train.cloud.stop_self`, run as on the instance, without any package."""

import os
import subprocess
import sys

import pytest

from tests.cloud.vast_server import KEY, VastServer, make_instance, serving
from tests.conftest import REPOSITORY
from whisper_train.cloud.stop_self import stop


def run_module(**settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "whisper_train.cloud.stop_self"]  # -S: no installed packages
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [({}, "CONTAINER_ID"), ({"CONTAINER_ID": "5"}, "CONTAINER_API_KEY"), ({"CONTAINER_API_KEY": KEY}, "CONTAINER_ID")],
)
def test_outside_an_instance(settings: dict[str, str], missing: str) -> None:
    ended = run_module(**settings)
    assert ended.returncode == 1
    assert f"{missing} is not set" in ended.stderr
    assert "make vast-destroy" in ended.stderr
    assert KEY not in ended.stderr


def test_a_refused_key_is_not_tried_again() -> None:
    with serving() as server:
        problem = stop({"CONTAINER_ID": "5", "CONTAINER_API_KEY": "wrong-key", "VAST_URL": server.url}, waits=(60.0,))
    assert problem is not None
    assert "401" in problem
    assert "wrong-key" not in problem
    assert len(server.requests) == 1


def test_no_network_is_tried_again_then_told() -> None:
    settings = {"CONTAINER_ID": "5", "CONTAINER_API_KEY": KEY, "VAST_URL": "http://127.0.0.1:9"}
    problem = stop(settings, waits=(0.0, 0.0))
    assert problem is not None
    assert "http://127.0.0.1:9" in problem


def test_a_busy_server_is_asked_again() -> None:
    with serving() as server:
        server.instances = [make_instance(5, "whisper-train:demo")]
        server.refuse["PUT", "/api/v0/instances/5/"] = (503, "busy")
        settings = {"CONTAINER_ID": "5", "CONTAINER_API_KEY": KEY, "VAST_URL": server.url}
        problem = stop(settings, waits=(0.0, 0.0))
    assert problem is not None
    assert "503" in problem
    assert len(server.requests) == 3


def test_the_instance_is_stopped() -> None:
    with serving() as server:
        server.instances = [make_instance(5, "whisper-train:demo")]
        ended = run_module(CONTAINER_ID="5", CONTAINER_API_KEY=KEY, VAST_URL=server.url)
        assert ended.returncode == 0, ended.stderr
        assert server.instances[0]["actual_status"] == "exited"
    assert VastServer.asked(server, "PUT", "/api/v0/instances/5/")[0].body == {"state": "stopped"}
