"""What the images hold and what they do not, and that they run with next to no rights."""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.containers.conftest import TAG, TARGETS, Project, docker, output_of
from tests.tiny import write_job
from whisper_train import __version__

pytestmark = [pytest.mark.docker, pytest.mark.slow]
SECRETS = ("hf_thisIsNoRealToken0123456789abcdef", "vast-5f3b-no-real-key-98765")
COMPILERS = {"gcc", "g++", "cc", "c++", "cc1", "cc1plus", "clang", "clang++", "nvcc", "ld", "as", "make", "cmake"}
CACHES = ("root/.cache", "tmp/.cache", "home", "var/cache/apt/archives", "var/lib/apt/lists")


def in_image(image: str, *command: str, check: bool = True) -> str:
    return docker("run", "--rm", "--entrypoint", command[0], image, *command[1:], check=check).stdout


def base_layers(environment: dict[str, str]) -> set[str]:
    """The digests of the layers that are the base image's, which is not ours to clean."""
    base = environment.get("BASE_IMAGE")
    if not base:
        found = re.search(r"ARG BASE=.*:-(\S+)}", (REPOSITORY / "docker" / "Dockerfile").read_text())
        assert found is not None
        base = found[1]
        docker("pull", base)
    return set(json.loads(output_of("image", "inspect", "--format", "{{json .RootFS.Layers}}", base)))


def layers_of(images: Iterable[str], without: set[str], place: Path) -> Iterator[tarfile.TarFile]:
    """Every layer of `images` that is not among `without`, once, as docker save writes it."""
    docker("save", "--output", str(place / "saved.tar"), *images)
    seen = set(without)
    with tarfile.open(place / "saved.tar") as archive:
        for image in json.load(archive.extractfile("manifest.json")):  # type: ignore[arg-type]
            config = json.load(archive.extractfile(image["Config"]))  # type: ignore[arg-type]
            for digest, path in zip(config["rootfs"]["diff_ids"], image["Layers"], strict=True):
                if digest not in seen:
                    seen.add(digest)
                    with tarfile.open(fileobj=archive.extractfile(path)) as layer:
                        yield layer
    (place / "saved.tar").unlink()


def what_does_not_belong(layer: tarfile.TarFile) -> Iterator[str]:
    """The compilers, caches, weights and secrets among the files of a layer."""
    for file in layer:
        name = Path(file.name)
        if name.name.startswith(".wh."):  # the removal of a file of the base image
            continue
        if name.name == ".env" or (name.name in COMPILERS and ("bin" in name.parts or name.name.startswith("cc1"))):
            yield file.name
        if not file.isfile():
            continue
        if file.name.startswith(CACHES) and name.name != "lock":
            yield file.name
        if name.suffix in (".safetensors", ".pt", ".ckpt", ".bin") and file.size > 2**20:
            yield file.name
        if file.size < 2**20:
            content = layer.extractfile(file)
            assert content is not None
            text = content.read()
            if any(secret.encode() in text for secret in SECRETS):
                yield file.name


@pytest.fixture(scope="module")
def built_beside_secrets(
    images: dict[str, str], build_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The three images built from a clone with a filled .env, and with the secrets in the shell as well."""
    clone = tmp_path_factory.mktemp("clone") / "whisper-train"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    (clone / ".env").write_text(f"HF_TOKEN={SECRETS[0]}\nVAST_API_KEY={SECRETS[1]}\n")
    environment = {**build_environment, "TAG": "secrets", "HF_TOKEN": SECRETS[0], "VAST_API_KEY": SECRETS[1]}
    subprocess.run(["docker/images.sh", "build"], cwd=clone, env=environment, check=True, capture_output=True)
    return {target: f"whisper-train:{target}-secrets" for target in TARGETS}


def test_no_layer_holds_a_secret_a_compiler_a_cache_or_weights(
    built_beside_secrets: dict[str, str], build_environment: dict[str, str], tmp_path: Path
) -> None:
    names = list(built_beside_secrets.values())
    for image in names:
        history = output_of("history", "--no-trunc", image) + output_of("image", "inspect", image)
        assert not [secret for secret in SECRETS if secret in history]
    layers = list(map(list, map(what_does_not_belong, layers_of(names, base_layers(build_environment), tmp_path))))
    assert len(layers) > 6
    assert [name for layer in layers for name in layer] == []


@pytest.mark.parametrize("target", TARGETS)
def test_labels_say_what_it_is(images: dict[str, str], target: str) -> None:
    labels = json.loads(output_of("image", "inspect", "--format", "{{json .Config.Labels}}", images[target]))
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == f"whisper-train {target}"
    assert labels[f"{prefix}version"] == __version__
    assert len(labels[f"{prefix}revision"].rstrip("+")) == 40
    assert labels[f"{prefix}licenses"] == "GPL-3.0-or-later"


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_no_root_and_tini_is_the_first_process(images: dict[str, str], target: str) -> None:
    assert in_image(images[target], "id", "--user").strip() == "1000"
    entry = json.loads(output_of("image", "inspect", "--format", "{{json .Config.Entrypoint}}", images[target]))
    assert entry[0] == "tini"
    assert f"version {__version__}" in docker("run", "--rm", images[target], "--version").stdout


def test_the_targets_share_their_layers(images: dict[str, str]) -> None:
    layers = [
        set(json.loads(output_of("image", "inspect", "--format", "{{json .RootFS.Layers}}", images[target])))
        for target in TARGETS
    ]
    assert len(layers[0] & layers[1] & layers[2]) >= len(layers[0]) - 2  # all but the program and its folder


def test_each_target_has_what_it_is_for_and_no_more(images: dict[str, str]) -> None:
    packages = ("transformers", "jiwer", "espeakng_loader", "deepspeed", "peft", "onnxruntime", "ctranslate2")
    probe = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    found = {target: in_image(images[target], "python", "-c", probe, *packages).split() for target in TARGETS}
    assert found["eval"] == list(packages[:3])
    assert found["train"] == list(packages[:5])
    assert found["qat"] == list(packages)
    for target in TARGETS:
        assert "No broken requirements found" in in_image(images[target], "pip", "check")


def test_a_context_with_another_torch_does_not_build(build_environment: dict[str, str], images: dict[str, str]) -> None:
    """The check that the build runs after each installation, on an image whose torch is not the pinned one."""
    script = "echo torch==0.1 > /tmp/pin && python /opt/requirements/check_torch.py /tmp/pin"
    refused = docker("run", "--rm", "--entrypoint", "sh", images["eval"], "-c", script, check=False)
    assert refused.returncode == 1
    assert "pins 0.1" in refused.stderr


def test_it_trains_and_evaluates_with_a_read_only_root_and_no_rights(project: Project, images: dict[str, str]) -> None:
    """As a careful host runs it: the three mounts and a tmpfs, nothing else can be written to."""
    write_job(project.base, "careful")
    mounts = []
    for name in ("cache", "models", "logs"):
        (project.base / name).mkdir()
        (project.base / name).chmod(0o777)
        mounts += ["--volume", f"{project.base / name}:/{name}"]
    options = ["--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp"]
    options += [*mounts, "--volume", f"{project.base}:/jobs:ro", "--network", "none"]
    words = ["/jobs/careful.yaml", "--machine", "cpu"]
    done = docker("run", *options, images["train"], "train", *words, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.facts("careful")["status"] == "done"
    done = docker("run", *options, images["eval"], "eval", *words, "--max-samples", "3", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held-out  3 " in done.stdout


def test_the_commit_is_known_where_there_is_no_git(project: Project, images: dict[str, str]) -> None:
    assert images["train"].endswith(TAG)
    assert in_image(images["train"], "sh", "-c", "command -v git || true") == ""
    project.make("train", f"EXP={write_job(project.base, 'known')}")
    assert len(project.facts("known")["commit"].rstrip("+")) == 40
