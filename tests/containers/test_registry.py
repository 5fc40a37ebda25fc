"""The images go to a registry and come back: a real one, on localhost:5000."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import Project, docker, output_of, wait_until
from tests.tiny import write_job

pytestmark = [pytest.mark.docker, pytest.mark.slow]
REGISTRY = "localhost:5000"


def answers() -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2).status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def registry(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry program here: push and pull are NOT tested")
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: '{REGISTRY}'}}\n"
    )
    server = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(answers)
    yield REGISTRY
    server.terminate()
    server.wait()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clone") / "whisper-train"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(path)], check=True)
    return path


def make(clone: Path, environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )


def test_a_dirty_tree_is_not_pushed(clone: Path, build_environment: dict[str, str]) -> None:
    (clone / "new.txt").write_text("no commit holds this")
    refused = make(clone, build_environment, "push", f"REGISTRY={REGISTRY}")
    (clone / "new.txt").unlink()
    assert refused.returncode == 2
    assert "DIRTY=1" in refused.stderr


def test_pushed_removed_pulled_and_run(
    project: Project, registry: str, clone: Path, images: dict[str, str], build_environment: dict[str, str]
) -> None:
    pushed = make(clone, build_environment, "push", f"REGISTRY={registry}")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    commit = output_of_git(clone)
    names = {target: f"{registry}/whisper-train:{target}-0.1.0-{commit[:10]}" for target in images}
    for target in names:
        check_blobs(f"whisper-train/manifests/{target}-0.1.0-{commit[:10]}")
    for name in names.values():
        docker("rmi", name)
    pulled = make(clone, build_environment, "pull", f"REGISTRY={registry}")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    tag = names["train"].partition(":train-")[2]
    job = write_job(project.base, "pulled")
    docker("rmi", names["train"])  # the run pulls it by itself, too
    project.make("train", f"EXP={job}", REGISTRY=registry, IMAGE_TAG=tag)
    image = project.facts("pulled")["image"]
    digests = output_of("image", "inspect", "--format", "{{json .RepoDigests}}", names["train"])
    assert image["name"] == names["train"]
    assert image["digest"] in digests
    assert project.facts("pulled")["commit"] == commit
    docker("rmi", *names.values())


def check_blobs(path: str) -> None:
    """The registry has every layer: what is pulled here comes from layers that other tags keep."""
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    request = urllib.request.Request(f"http://{REGISTRY}/v2/{path}", headers=accept)
    with urllib.request.urlopen(request, timeout=10) as answer:
        manifest = json.load(answer)
    for part in (manifest["config"], *manifest["layers"]):
        blob = urllib.request.Request(f"http://{REGISTRY}/v2/whisper-train/blobs/{part['digest']}", method="HEAD")
        with urllib.request.urlopen(blob, timeout=10) as answer:
            assert int(answer.headers["Content-Length"]) == part["size"]


def output_of_git(clone: Path) -> str:
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
