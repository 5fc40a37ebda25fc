"""People on one machine: an ordinary user with a fresh clone, groups, two clones; and compose without an engine."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import TAG, USER, Project, as_root, docker
from tests.tiny import write_job

pytestmark = pytest.mark.docker
GROUP = 4321  # a further group of USER


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that belongs to USER."""
    path = Path(tempfile.mkdtemp(prefix="whisper-train-"))
    os.chown(path, USER, USER)
    yield path
    shutil.rmtree(path)


def clone_for_user(home: Path, name: str = "clone") -> Path:
    """A fresh clone that belongs to USER, with the settings as the template has them."""
    clone = home / name
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    shutil.copy(clone / ".env.template", clone / ".env")
    for path in (clone, *clone.rglob("*")):
        os.chown(path, USER, USER)
    return clone


def make_as_user(clone: Path, environment: dict[str, str], *arguments: str) -> str:
    """What make prints when USER calls it, who is in the engine's group and in GROUP; its status is the last line."""
    socket = os.stat("/var/run/docker.sock").st_gid
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={socket},{GROUP}"]
    settings = {name: value for name, value in environment.items() if value}  # what is empty, .env may set
    done = subprocess.run(
        [*become, "make", *arguments],
        cwd=clone,
        env={**settings, "HOME": str(clone.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return f"{done.stdout}{done.stderr}\n{done.returncode}"


@as_root
@pytest.mark.slow
def test_an_ordinary_user_trains_from_a_fresh_clone_with_the_template_for_settings(
    home: Path, build_environment: dict[str, str], images: dict[str, str]
) -> None:
    """The image is built by `make train` itself. One folder is theirs by a further group alone."""
    clone = clone_for_user(home)
    (home / "shared").mkdir(mode=0o770)
    os.chown(home / "shared", 0, GROUP)
    (home / "shared").chmod(0o770)
    environment = {**build_environment, "COMPOSE_PROJECT_NAME": f"wt-user-{os.getpid()}", "MACHINE": "cpu"}
    (clone / "jobs" / "mine.yaml").write_text(write_job(home, "mine").read_text())
    output = make_as_user(clone, environment, "train", "EXP=mine", "RUN=docker", f"LOG_DIR={home}/shared/logs")
    docker("rm", f"wt-user-{os.getpid()}-mine", check=False)
    assert output.endswith("\n0"), output
    facts = json.loads((clone / "models" / "mine" / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["image"]["name"] == "whisper-train:train-local"
    written = [path for name in ("cache", "models") for path in (clone / name).rglob("*")]
    assert {path.stat().st_uid for path in [*written, *(home / "shared" / "logs").rglob("*")]} == {USER}
    again = make_as_user(clone, environment, "train", "EXP=mine", "RUN=docker", f"LOG_DIR={home}/shared/logs")
    docker("rm", f"wt-user-{os.getpid()}-mine", check=False)
    assert "finished before" in again
    assert "building" not in again


@as_root
@pytest.mark.slow
def test_another_checkout_does_not_stop_or_replace_a_job_of_the_same_name(
    project: Project, home: Path, build_environment: dict[str, str]
) -> None:
    project.make("train", f"EXP={write_job(project.base, 'demo')}")
    clone = clone_for_user(home, "other")
    environment = {**build_environment, "COMPOSE_PROJECT_NAME": project.name, "IMAGE_TAG": TAG, "RUN": "docker"}
    for command in ("stop", "logs", "train"):
        output = make_as_user(clone, environment, command, "EXP=demo")
        assert f"is a container of the checkout in {REPOSITORY}; give this one names of its own" in output
    assert project.status("demo") == "exited"


def config(*files: str, **variables: str) -> dict[str, object]:
    """compose.yaml with `files`, as compose understands it; it needs the plugin, but no engine."""
    command = ["docker", "compose", "--profile", "jobs", "--file", "compose.yaml"]
    command += [word for file in files for word in ("--file", f"docker/compose/{file}")]
    done = subprocess.run(
        [*command, "config", "--format", "json"],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not shutil.which("docker"):
        pytest.skip("no docker compose here")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["services"])


def test_a_host_with_gpus_hands_in_all_of_them(engine: None) -> None:
    for name, service in config("gpu.yaml").items():
        devices = service.get("deploy", {}).get("resources", {})  # type: ignore[attr-defined]
        assert bool(devices) == (name != "tensorboard"), name


def test_jobs_over_several_hosts_use_the_hosts_network(engine: None) -> None:
    assert config("hosts.yaml")["train"]["network_mode"] == "host"  # type: ignore[index]


def test_another_base_is_what_deepspeed_is_compiled_on_too(engine: None) -> None:
    """Compose reads .env itself, where DEVEL_IMAGE stands empty."""
    train = config(BASE_IMAGE="debian:12", DEVEL_IMAGE="")["train"]
    assert train["build"]["args"]["DEVEL_IMAGE"] == "debian:12"  # type: ignore[index]
