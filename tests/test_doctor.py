"""docker/doctor.sh: what is wrong with a machine is named with its remedy, and decides the exit status."""

import http.server
import platform
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host, host

__all__ = ["host"]  # a fixture

GIB = 2**30


@pytest.fixture
def roomy(host: Host) -> Host:
    """A host whose own memory and disk, which are this machine's, give doctor nothing to say."""
    if shutil.disk_usage("/dev/shm").total < GIB or shutil.disk_usage(host.checkout).free < GIB:
        pytest.skip("this machine itself has too little shared memory or disk")
    has_python(host)
    return host


class Hub:
    """Stands in for the hub: accepts one token, and looks whether any process shows it on its command line."""

    def __init__(self) -> None:
        self.token = f"hf_{secrets.token_hex(16)}"
        self.asked: list[str] = []
        self.seen_in: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                hub.seen_in += [line for line in command_lines() if hub.token in line]
                self.send_response(200 if self.headers["Authorization"] == f"Bearer {hub.token}" else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def command_lines() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text(errors="replace").replace("\0", " "))
        except OSError:  # the process has ended
            continue
    return found


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def has_python(host: Host) -> None:
    """Puts a python3 there that this project runs on."""
    host.write_tool("python3", f'exec {sys.executable} "$@"')


# What is wrong.


def test_a_machine_without_python_is_told_what_needs_it(roomy: Host) -> None:
    (roomy.bin / "python3").unlink()
    alone = roomy.doctor()
    roomy.has_engine()
    with_engine = roomy.doctor()

    assert (alone.returncode, with_engine.returncode) == (2, 0), with_engine.stdout
    assert "WRONG  Python       no Python 3.11 or 3.12 that can make virtual environments" in alone.stdout
    assert "note   Python       no Python 3.11 or 3.12" in with_engine.stdout
    assert "make check, publish and leaderboard need it" in with_engine.stdout


@pytest.mark.parametrize(
    ("driver", "card", "message"),
    [
        ("535.129.03", "NVIDIA A100, 81559, 8.0", "WRONG  driver       535.129.03, too old for the image's CUDA 13"),
        ("580.65.06", "Tesla V100, 16160, 7.0", "WRONG  GPU 0        Tesla V100, compute capability 7.0"),
        ("580.65.06", "GeForce GTX 1080, 8192, 6.1", "leave it out with GPUS="),
    ],
)
def test_a_machine_whose_cards_are_too_old_is_told_what_to_do(host: Host, driver: str, card: str, message: str) -> None:
    host.has_cards(card, driver=driver)

    done = host.doctor()

    assert done.returncode == 2
    assert message in done.stdout
    assert "thing(s) to mend" in done.stdout
    assert "ready" not in done.stdout


def test_a_driver_that_fails_is_wrong_not_absent(host: Host) -> None:
    host.write_tool("nvidia-smi", 'echo "NVIDIA-SMI has failed" >&2; exit 9')

    done = host.doctor()

    assert done.returncode == 2
    assert "WRONG  GPU          nvidia-smi fails" in done.stdout


@pytest.mark.parametrize("cards", [0, 1])
def test_cards_asked_for_that_are_not_there_are_wrong(host: Host, cards: int) -> None:
    if cards:
        host.has_cards("NVIDIA A100, 81559, 8.0")
    (host.checkout / ".env").write_text("GPUS=3\n")

    done = host.doctor()

    assert done.returncode == 2
    assert "WRONG  GPUS         3: this machine" in done.stdout


@pytest.mark.parametrize("line", ["HF_TOKEN={}", "export HF_TOKEN='{}'", "VAST_API_KEY={}"])
def test_a_secret_that_every_user_can_read_is_told_and_not_printed(host: Host, hub: Hub, line: str) -> None:
    (host.checkout / ".env").write_text(line.format(hub.token) + "\n")
    (host.checkout / ".env").chmod(0o644)
    open_to_all = host.doctor(HF_ENDPOINT=hub.address)
    (host.checkout / ".env").chmod(0o600)
    closed = host.doctor(HF_ENDPOINT=hub.address)

    assert open_to_all.returncode == 2
    assert "WRONG  .env         holds a secret that every user of this machine can read" in open_to_all.stdout
    assert "chmod 600 .env" in open_to_all.stdout
    assert "WRONG  .env" not in closed.stdout
    assert hub.token not in open_to_all.stdout + open_to_all.stderr + closed.stdout + closed.stderr


def test_a_folder_that_cannot_be_made_is_wrong(host: Host) -> None:
    (host.checkout / "file").write_text("")

    done = host.doctor(LOG_DIR="file/logs")

    assert done.returncode == 2
    assert f"WRONG  LOG_DIR      {host.checkout}/file/logs cannot be created" in done.stdout


def test_a_token_that_the_hub_refuses_is_wrong(host: Host, hub: Hub) -> None:
    host.has("curl")

    done = host.doctor(HF_TOKEN="hf_old", HF_ENDPOINT=hub.address)

    assert done.returncode == 2
    assert "WRONG  HF_TOKEN     refused by the hub" in done.stdout


# What is not.


def test_a_token_is_tried_and_is_on_no_command_line(roomy: Host, hub: Hub) -> None:
    roomy.has("curl")

    done = roomy.doctor(HF_TOKEN=hub.token, HF_ENDPOINT=hub.address)

    assert done.returncode == 0, done.stdout
    assert "ok     HF_TOKEN     accepted by the hub" in done.stdout
    assert hub.asked == ["/api/whoami-v2"]
    assert hub.seen_in == []
    assert hub.token not in done.stdout + done.stderr


def test_a_hub_that_does_not_answer_is_no_fault_of_the_machine(roomy: Host, hub: Hub) -> None:
    without_curl = roomy.doctor(HF_TOKEN=hub.token, HF_ENDPOINT=hub.address)
    roomy.has("curl")
    hub.close()
    silent = roomy.doctor(HF_TOKEN=hub.token, HF_ENDPOINT=hub.address)

    assert without_curl.returncode == silent.returncode == 0
    assert "note   HF_TOKEN     set, not tried (no curl)" in without_curl.stdout
    assert "note   HF_TOKEN     set, not tried: the hub does not answer" in silent.stdout


def test_a_machine_with_no_card_no_docker_and_no_token_is_ready_for_the_demo(roomy: Host) -> None:
    done = roomy.doctor()

    assert done.returncode == 0, done.stdout
    assert "note   engine       no docker command" in done.stdout
    assert f"ok     Python       {platform.python_version()} (python3)" in done.stdout
    assert "note   GPU          none (no nvidia-smi)" in done.stdout
    assert "note   HF_TOKEN     not set" in done.stdout
    assert f"{roomy.checkout}/models" in done.stdout
    assert done.stdout.endswith("ready: make train EXP=demo runs in .venv\n")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("NVIDIA H200, 143771, 9.0", "ok     GPU 0        NVIDIA H200, 140 GiB, compute capability 9.0"),
        ("Tesla T4, 15360, 7.5", "note   GPU 0        Tesla T4, 15 GiB, no bf16 (compute capability 7.5)"),
        ("NVIDIA B200, 183359, 10.0", "ok     GPU 0        NVIDIA B200, 179 GiB, compute capability 10.0"),
    ],
)
def test_cards_and_driver_that_do_are_listed(roomy: Host, card: str, message: str) -> None:
    roomy.has_cards(card)

    done = roomy.doctor(GPUS="0")

    assert done.returncode == 0, done.stdout
    assert "ok     driver       580.65.06, enough for CUDA 13" in done.stdout
    assert message in done.stdout


def test_the_setting_where_jobs_run_is_respected(roomy: Host) -> None:
    roomy.has_engine()
    (roomy.checkout / ".env").write_text("RUN=local\n")

    assert "runs in .venv" in roomy.doctor().stdout
    assert "runs in a container" in roomy.doctor(RUN="docker").stdout
