"""`whisper-train vast` with wrong input: status 2, one message with the way out, no secret, nothing rented."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cloud.asking import LAUNCH, refused
from tests.cloud.conftest import IMAGE
from tests.cloud.vast_server import VastServer, make_instance, make_offer
from tests.conftest import MakeJob, RunCli


@pytest.mark.parametrize("command", [("offers", "demo"), ("logs", "demo"), ("fetch", "demo"), ("destroy", "demo")])
def test_no_key(vast: VastServer, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.delenv("VAST_API_KEY")
    refused(run_cli("vast", *command), "VAST_API_KEY", "is not set", ".env")
    assert vast.requests == []


def test_a_refused_key(vast: VastServer, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "another-key")
    for command in (("offers", "demo"), ("logs", "demo"), ("template", "train", "--image", IMAGE, "--yes")):
        result = run_cli("vast", *command)
        refused(result, "VAST_API_KEY", "refuses it", "manage-keys")
        assert "another-key" not in result.output


def test_no_network(vast: VastServer, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    refused(run_cli("vast", "offers", "demo"), "http://127.0.0.1:9 cannot be reached", "network")


def test_no_client(vast: VastServer, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("whisper_train.cloud.client.CHECKOUT", tmp_path)
    refused(run_cli("vast", "offers", "demo"), "client is not installed", "requirements/install.sh vast")


def test_too_many_requests(vast: VastServer, run_cli: RunCli) -> None:
    vast.refuse["GET", "/api/v1/instances/"] = (429, "API requests too frequent")
    refused(run_cli("vast", "logs", "demo"), "too many requests", "wait")


def test_an_unknown_job_names_the_nearest(vast: VastServer, run_cli: RunCli) -> None:
    refused(run_cli("vast", "offers", "demmo"), "demmo", "did you mean demo")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("", "is empty"),
        ("whisper-train:train-abc", "no registry"),
        ("someone/whisper-train:train-abc", "no registry"),
        ("docker.io/someone/whisper-train", "no registry and tag"),
        ("localhost:5000/whisper-train:train-abc", "is this computer"),
        ("127.0.0.1:5000/whisper-train:train-abc", "is this computer"),
    ],
)
def test_an_image_that_cannot_be_pulled(vast: VastServer, run_cli: RunCli, image: str, why: str) -> None:
    refused(run_cli("vast", "launch", "demo", "--offer", "7", "--image", image, "--yes"), why, "make push REGISTRY=")
    refused(run_cli("vast", "template", "train", "--image", image, "--yes"), why)
    assert vast.requests == []


def test_nothing_is_rented_without_an_answer(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7)]
    result = run_cli(*LAUNCH)
    refused(result, "rent it?", "YES=1")
    assert "$" in result.output.partition("error:")[0]
    assert not [request for request in vast.requests if request.path.startswith("/api/v0/asks/")]


def test_an_offer_that_is_gone(vast: VastServer, run_cli: RunCli) -> None:
    refused(run_cli(*LAUNCH, "--yes"), "OFFER: 7", "make vast-offers")


def test_an_offer_with_too_small_a_disk(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7, disk_space=20.0)]
    refused(run_cli(*LAUNCH, "--yes"), "OFFER: 7", "20 GB of disk", "DISK=")


def test_an_offer_that_is_taken_meanwhile(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7)]
    vast.refuse["PUT", "/api/v0/asks/7/"] = (410, "error 410/3907: no_such_ask Instance type 7 is no longer available.")
    refused(run_cli(*LAUNCH, "--yes"), "no longer available", "410")


def test_no_offers(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7, cuda_max_good=12.4), make_offer(8, compute_cap=750), make_offer(9, disk_space=10.0)]
    refused(run_cli("vast", "offers", "demo"), "no offer", "DISK=", "MACHINE=")


def test_a_job_whose_data_lies_here(
    vast: VastServer, run_cli: RunCli, make_job: MakeJob, make_manifest: Callable[..., Path], place: Path
) -> None:
    manifest = make_manifest(place / "clips.jsonl")
    job = make_job({"train": [{"manifest": str(manifest)}], "eval": [{"manifest": str(manifest)}]})
    vast.offers = [make_offer(7)]
    result = run_cli("vast", "launch", job, "--offer", "7", "--image", IMAGE, "--yes")
    refused(result, "tiny: data.train.0.manifest", str(manifest), "lies on this computer", "/data/")
    source = {"manifest": "/data/clips.jsonl"}
    noisy = make_job({"train": [source], "eval": [source], "augment": {"noise": {"folder": "street"}}})
    result = run_cli("vast", "launch", noisy, "--offer", "7", "--image", IMAGE, "--yes")
    refused(result, "tiny: data.augment.noise.folder", str(place / "street"), "lies on this computer", "/data/")
    there = make_job({"train": [{"manifest": "/data/clips.jsonl"}], "eval": [{"manifest": "/data/clips.jsonl"}]})
    assert run_cli("vast", "launch", there, "--offer", "7", "--image", IMAGE, "--yes").exit_code == 0


def test_a_job_that_is_too_long(vast: VastServer, run_cli: RunCli, make_job: MakeJob) -> None:
    words = [os.urandom(12).hex() for _ in range(2500)]
    source = {"synthetic": {"sentences": words, "voices": ["de"], "clips": 10}}
    job = make_job({"train": [source], "eval": [source]})
    refused(run_cli("vast", "launch", job, "--offer", "7", "--image", IMAGE, "--yes"), "too long", "make push")
    assert vast.requests == []


def test_a_base_without_a_size_needs_a_machine(vast: VastServer, run_cli: RunCli) -> None:
    refused(run_cli("vast", "offers", "german", "--set", "base=primeline/other-model"), "base:", "MACHINE=", "h200")
    refused(run_cli("vast", "offers", "german", "--machine", "cpu"), "has no GPU", "h200")


def test_no_instance(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:german"), make_instance(6, "not ours")]
    for command in ("logs", "fetch", "destroy"):
        refused(run_cli("vast", command, "demo"), "demo", "no such instance", "german (ID=5)")
    refused(run_cli("vast", "logs", "german", "--id", "6"), "german with ID=6")


def test_several_instances_are_told_apart(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:demo"), make_instance(6, "whisper-train:demo")]
    refused(run_cli("vast", "logs", "demo"), "2 instances", "ID=5, ID=6")
    assert run_cli("vast", "logs", "demo", "--id", "6").exit_code == 0


def test_an_image_that_the_registry_does_not_have(
    vast: VastServer, run_cli: RunCli, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine would be paid for while it waits for the image. Here the registry is a docker command that says so."""
    vast.offers = [make_offer(7)]
    docker = place / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\necho 'manifest unknown: manifest unknown' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    image = "docker.io/someone/whisper-train:train-abc"
    result = run_cli("vast", "launch", "demo", "--offer", "7", "--image", image, "--yes")
    assert result.exit_code == 2
    assert "the registry has no such image; push this commit" in result.output
