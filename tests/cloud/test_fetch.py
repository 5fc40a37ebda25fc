"""`vast fetch`: Vast.ai's client with a real rsync on both ends.

Only `ssh` is replaced, by a script that runs rsync's daemon here instead of on the host: the connection to a rented
machine, and how its host lays out the daemon's modules, are not tested.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.asking import refused
from tests.cloud.vast_server import VastServer, make_instance
from tests.conftest import RunCli

SSH = """#!/bin/sh
echo "$@" >>"{place}/ssh-calls"
exec rsync --server --daemon --config="{place}/rsyncd.conf" .
"""


@pytest.fixture
def disk(place: Path, vast: VastServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The disk of instance 5, which trains demo: a folder that `ssh` leads to."""
    root = place / "disk"
    root.mkdir()
    (place / "rsyncd.conf").write_text(f"use chroot = no\n[C.5]\npath = {root}\nread only = yes\n")
    shim = place / "bin" / "ssh"
    shim.parent.mkdir()
    shim.write_text(SSH.format(place=place))
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    vast.instances = [make_instance(5, "whisper-train:demo")]
    return root


def write_run(root: Path, *sessions: str, status: str = "done", model: str = "weights") -> None:
    folder = root / "models" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {"job": "demo", "status": status, "sessions": [{"started": when} for when in sessions]}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "model.safetensors").write_text(model)
    (root / "logs" / "demo").mkdir(parents=True, exist_ok=True)
    (root / "logs" / "demo" / "console.log").write_text("said")


def test_without_rsync(disk: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    refused(run_cli("vast", "fetch", "demo"), "rsync", "not installed")


def test_nothing_there_yet(disk: Path, run_cli: RunCli, place: Path) -> None:
    refused(run_cli("vast", "fetch", "demo"), "nothing to fetch", "make vast-logs")
    assert list((place / "models").iterdir()) == []


def test_a_refused_connection(disk: Path, run_cli: RunCli, place: Path) -> None:
    (place / "bin" / "ssh").write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    refused(run_cli("vast", "fetch", "demo"), "Permission denied", "SSH key")


def test_a_copy_that_is_refused(disk: Path, run_cli: RunCli, vast: VastServer) -> None:
    vast.refuse["PUT", "/api/v0/commands/rsync/"] = (400, "instance is offline")
    refused(run_cli("vast", "fetch", "demo"), "instance is offline")


def test_files_of_no_run_are_left_alone(disk: Path, run_cli: RunCli, place: Path) -> None:
    write_run(disk, "monday")
    (place / "models" / "demo").mkdir(parents=True)
    (place / "models" / "demo" / "notes.txt").write_text("mine")
    refused(run_cli("vast", "fetch", "demo"), "files of no run", "MODEL_DIR=")


def test_another_run_is_left_alone(disk: Path, run_cli: RunCli, place: Path) -> None:
    write_run(place, "sunday", model="precious")
    write_run(disk, "monday")
    refused(run_cli("vast", "fetch", "demo"), "another run", "sunday", "MODEL_DIR=")
    assert (place / "models" / "demo" / "model.safetensors").read_text() == "precious"


def test_a_later_state_is_left_alone(disk: Path, run_cli: RunCli, place: Path) -> None:
    write_run(place, "monday", "tuesday", model="precious")
    write_run(disk, "monday")
    refused(run_cli("vast", "fetch", "demo"), "went on here")
    assert (place / "models" / "demo" / "model.safetensors").read_text() == "precious"


def test_results_come_back(disk: Path, run_cli: RunCli, place: Path, vast: VastServer) -> None:
    write_run(disk, "monday")
    result = run_cli("vast", "fetch", "demo")
    assert result.exit_code == 0, result.output
    assert (place / "models" / "demo" / "model.safetensors").read_text() == "weights"
    assert (place / "logs" / "demo" / "console.log").read_text() == "said"
    assert [path.name for path in (place / "models").iterdir()] == ["demo"]
    asked = [request.body for request in vast.asked("PUT", "/api/v0/commands/rsync/")]
    assert [(body["src_id"], body["src_path"]) for body in asked] == [
        ("C.5", "/models/demo/run.json"),
        ("C.5", "/models/demo/"),
        ("C.5", "/logs/demo/"),
    ]
    assert "-p 2222" in (place / "ssh-calls").read_text()


def test_an_earlier_state_of_the_run_is_brought_up_to_date(disk: Path, run_cli: RunCli, place: Path) -> None:
    write_run(place, "monday", status="running", model="old")
    write_run(disk, "monday", "tuesday", model="new and longer")
    result = run_cli("vast", "fetch", "demo")
    assert result.exit_code == 0, result.output
    assert (place / "models" / "demo" / "model.safetensors").read_text() == "new and longer"
    assert "demo: done" in result.output


def test_a_running_job_is_said_to_run(disk: Path, run_cli: RunCli) -> None:
    write_run(disk, "monday", status="running")
    assert "has not ended" in run_cli("vast", "fetch", "demo").output
