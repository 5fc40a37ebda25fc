"""`whisper-train vast` against a recorded Vast.ai: what each command asks for and says."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.asking import LAUNCH, created_by_launch, refused
from tests.cloud.conftest import HF_TOKEN, IMAGE
from tests.cloud.recorded import record_launch
from tests.cloud.vast_server import KEY, USER, VastServer, make_instance, make_offer
from tests.conftest import REPOSITORY, RunCli
from whisper_train.cloud.commands import vast as vast_group
from whisper_train.cloud.parcel import unpack
from whisper_train.job_file import dump_job, load_job


def test_launch_asks_for_every_field(vast: VastServer, run_cli: RunCli) -> None:
    """The stand-in itself checks that every field of the API is there, and of the right type."""
    body = created_by_launch(vast, run_cli)
    assert body["image"] == IMAGE
    assert body["label"] == "whisper-train:demo"
    assert body["runtype"] == "ssh_direc ssh_proxy"  # as the client writes it
    assert body["onstart"] == "bash /opt/whisper-train/docker/onstart.sh"
    assert body["cancel_unavail"] is True
    assert body["price"] is None
    assert body["disk"] == 60.0
    assert body["env"]["EXP"] == "demo"
    assert body["env"]["MACHINE"] == "2x16gb"
    assert body["env"]["HF_TOKEN"] == HF_TOKEN
    assert "STOP_WHEN_DONE" not in body["env"]
    assert KEY not in str(body)


def test_the_job_travels_whole_with_its_base(vast: VastServer, run_cli: RunCli, place: Path) -> None:
    jobs = unpack(created_by_launch(vast, run_cli, "--set", "training.max_steps=7")["env"])
    assert list(jobs) == ["demo-base", "demo"]
    for name, text in jobs.items():
        (place / f"{name}.yaml").write_text(text)
    travelled = load_job(place / "demo.yaml", machine_path=None)
    assert dump_job(travelled) == jobs["demo"]
    assert travelled.training["max_steps"] == 7
    assert travelled.machine.name == "2x16gb"
    assert load_job(place / "demo-base.yaml", machine_path=None).training["max_steps"] == 1400


def test_entrypoint_mode_passes_arguments(vast: VastServer, run_cli: RunCli) -> None:
    body = created_by_launch(vast, run_cli, "--mode", "entrypoint", "--stop-when-done")
    assert body["runtype"] == "args"
    assert body["args"] == ["train", "/cache/vast-jobs/demo.yaml"]
    assert body["onstart"] is None
    assert body["env"]["STOP_WHEN_DONE"] == "1"


def test_a_bid_makes_an_interruptible_instance(vast: VastServer, run_cli: RunCli) -> None:
    assert created_by_launch(vast, run_cli, "--bid", "0.2")["price"] == 0.2
    assert vast.asked("POST", "/api/v0/bundles/")[-1].body["type"] == "bid"


def test_a_bid_that_is_too_low(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7)]
    refused(run_cli(*LAUNCH, "--yes", "--bid", "0.1"), "BID: 0.1", "0.150")


def test_launch_says_what_it_costs(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7)]
    output = run_cli(*LAUNCH, "--yes").output
    assert "$0.012 an hour: 60 GB of disk, $8.76 a month" in output  # 0.146 $/GB a month × 60 GB
    assert "$0.400 an hour together: $10.00 last 25.0 h" in output
    assert "your balance: $25.00 last 62.5 h" in output
    assert "$0.002 a GB down, $0.010 a GB up" in output
    assert "make vast-destroy EXP=demo" in output
    assert HF_TOKEN not in output
    assert "key-of-the-instance" not in output


def test_a_second_instance_of_a_job_is_noticed(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:demo")]
    created_by_launch(vast, run_cli)
    vast.requests.clear()
    assert "instance 5 trains demo already" in run_cli(*LAUNCH, "--yes").output


@pytest.mark.parametrize(("answer", "created"), [(b"n\n", 0), (b"y\n", 1)])
def test_a_person_is_asked(vast: VastServer, place: Path, answer: bytes, created: int) -> None:
    vast.offers = [make_offer(7)]
    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "whisper_train", *LAUNCH]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdin=side, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as run:
        os.write(terminal, answer)
        output = run.communicate(timeout=60)[0].decode()
    os.close(terminal)
    os.close(side)
    assert "rent it? [y/N]" in output
    assert run.returncode == (0 if created else 2), output
    assert len([request for request in vast.requests if request.path == "/api/v0/asks/7/"]) == created


def test_secrets_are_on_no_command_line(vast: VastServer, run_cli: RunCli) -> None:
    created_by_launch(vast, run_cli)
    assert any("vastai.cli.main" in line for line in vast.command_lines)
    assert not [line for line in vast.command_lines if KEY in line or HF_TOKEN in line]


def test_offers_follow_from_job_and_machine(vast: VastServer, run_cli: RunCli) -> None:
    big = make_offer(3, gpu_name="H200", gpu_ram=143_771, dph_total=3.1, compute_cap=900)
    vast.offers = [big, make_offer(7, dph_total=0.5), make_offer(8), make_offer(9, verified=False)]
    result = run_cli("vast", "offers", "demo")
    assert result.exit_code == 0
    order = [line.split()[0] for line in result.output.splitlines() if "RTX 4090" in line]
    assert order == ["8", "7"]
    asked = vast.asked("POST", "/api/v0/bundles/")[-1].body
    assert asked["num_gpus"] == {"eq": "1"}
    assert asked["gpu_ram"] == {"gte": 16_000.0}
    assert asked["cuda_max_good"] == {"gte": "13.0"}
    assert asked["compute_cap"] == {"gte": "800"}
    assert asked["disk_space"] == {"gte": "60"}
    assert asked["verified"] == {"eq": True}
    assert asked["order"] == [["dph_total", "asc"]]
    assert asked["allocated_storage"] == 60.0
    assert "OFFER=8" in result.output
    result = run_cli("vast", "offers", "german", "--machine", "h200", "--disk", "300")
    assert result.exit_code == 0
    assert "H200" in result.output
    assert vast.asked("POST", "/api/v0/bundles/")[-1].body["gpu_ram"] == {"gte": 120_000.0}


def test_a_large_base_gets_a_large_card(vast: VastServer, run_cli: RunCli) -> None:
    refused(run_cli("vast", "offers", "german"), "profile 80gb", "4 checkpoints of 15.6")
    assert vast.asked("POST", "/api/v0/bundles/")[-1].body["gpu_ram"] == {"gte": 79_000.0}


def test_two_cards_for_the_profile_of_two(vast: VastServer, run_cli: RunCli) -> None:
    vast.offers = [make_offer(7), make_offer(8, num_gpus=2)]
    output = run_cli("vast", "offers", "assamese", "--machine", "2x16gb").output
    assert "OFFER=8" in output
    assert "OFFER=7" not in output


def test_a_profile_of_ones_own(vast: VastServer, run_cli: RunCli, place: Path) -> None:
    profile = place / "mine.yaml"
    profile.write_text("processes: all\n")
    vast.offers = [make_offer(7)]
    command = ("vast", "offers", "demo", "--machine", profile)
    refused(run_cli(*command), "mine", "--gpu-memory")
    assert run_cli(*command, "--gpus", "1", "--gpu-memory", "20").exit_code == 0


def test_the_template_is_created_then_updated(vast: VastServer, run_cli: RunCli) -> None:
    command = ("vast", "template", "train", "--yes", "--job", "demo", "--image")
    assert run_cli(*command, IMAGE).exit_code == 0
    (created,) = vast.asked("POST", "/api/v0/template/")
    assert created.body["name"] == "whisper-train-train"
    assert (created.body["image"], created.body["tag"]) == ("docker.io/someone/whisper-train", "train-abc123")
    assert created.body["onstart"] == "bash /opt/whisper-train/docker/onstart.sh"
    assert created.body["env"] == "-e EXP=demo -e STOP_WHEN_DONE=0"
    assert (created.body["runtype"], created.body["use_ssh"], created.body["ssh_direct"]) == ("ssh", True, True)
    assert created.body["private"] is True
    assert created.body["repo"] == "someone/whisper-train"
    assert created.body["href"] == "https://hub.docker.com/r/someone/whisper-train"
    assert created.body["recommended_disk_space"] == "100"
    assert created.body["extra_filters"]["cuda_max_good"] == {"gte": "13.0"}
    assert HF_TOKEN not in str(created.body)
    assert KEY not in str(created.body)
    result = run_cli(*command, IMAGE + "4")
    assert result.exit_code == 0
    assert "hash0-new" in result.output
    (updated,) = vast.asked("PUT", "/api/v1/template/")
    assert updated.body["tag"] == "train-abc1234"
    assert len(vast.templates) == 1


def test_the_template_of_someone_else_is_left_alone(vast: VastServer, run_cli: RunCli) -> None:
    vast.templates = [{"id": 1, "hash_id": "theirs", "name": "whisper-train-qat", "creator_id": USER + 1}]
    command = ("vast", "template", "qat", "--yes", "--mode", "entrypoint", "--image", IMAGE)
    assert run_cli(*command).exit_code == 0
    (created,) = vast.asked("POST", "/api/v0/template/")
    assert (created.body["runtype"], created.body["onstart"]) == ("args", None)
    assert vast.templates[0]["hash_id"] == "theirs"


def test_a_refused_template_is_an_error(vast: VastServer, run_cli: RunCli) -> None:
    """The client ends with status 0 when this request fails, and hides why."""
    vast.refuse["POST", "/api/v0/template/"] = (400, "bad template")
    refused(run_cli("vast", "template", "eval", "--image", IMAGE, "--yes"), "create template")


def test_logs_say_what_is_paid(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:demo", extra_env=[["HF_TOKEN", HF_TOKEN]])]
    vast.log_text = f"step 100\ntoken {HF_TOKEN}"
    result = run_cli("vast", "logs", "demo", "--tail", "7")
    assert result.exit_code == 0
    assert "step 100" in result.output
    assert "$0.400 an hour, rented 2.0 h ago: $0.80 at most" in result.output
    assert HF_TOKEN not in result.output
    assert vast.asked("PUT", "/api/v0/instances/request_logs/5/")[0].body == {"tail": "7"}


def test_destroy_asks_then_destroys(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:demo")]
    result = run_cli("vast", "destroy", "demo")
    refused(result, "destroy it?", "YES=1")
    assert "everything it made is lost" in result.output
    assert vast.instances
    assert run_cli("vast", "destroy", "demo", "--yes").exit_code == 0
    assert vast.instances == []


def test_help_waits_for_nothing() -> None:
    code = "import sys, whisper_train.cli; print(sorted({'pydantic', 'yaml', 'torch'} & sys.modules.keys()))"
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=settings)
    assert ended.stdout == "[]\n"


def test_the_environment_of_the_client_is_enough(vast: VastServer) -> None:
    """.venv-vast has no torch, and reads a job nevertheless."""
    vast.offers = [make_offer(7)]
    python = REPOSITORY / ".venv-vast" / "bin" / "python"
    command = [str(python), "-m", "whisper_train", "vast", "offers", "german", "--machine", "2x16gb", "--gpus", "1"]
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert ended.returncode == 0, ended.stderr
    assert "OFFER=7" in ended.stdout
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("target", ["template", "offers", "launch", "logs", "fetch", "destroy"])
def test_make_passes_options_on(target: str) -> None:
    """Every option that a make target writes is one of its command; `make -n` prints what it would run."""
    variables = ["EXP=demo", "OFFER=7", "MACHINE=h200", "DISK=99", "BID=0.2", "MODE=entrypoint", "ID=5", "YES=1"]
    command = ["make", "-n", f"vast-{target}", *variables, "STOP_WHEN_DONE=1", "IMAGE=qat"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    known = {name for parameter in vast_group.commands[target].params for name in parameter.opts}
    written = set(re.findall(r" (--[a-z-]+)", printed))
    assert written <= known
    expected = {"launch": {"--offer", "--machine", "--disk", "--bid", "--mode", "--image", "--yes", "--stop-when-done"}}
    expected |= {"destroy": {"--id", "--yes"}, "logs": {"--id"}, "fetch": {"--id"}}
    expected |= {"offers": {"--machine", "--disk", "--bid"}}
    expected |= {"template": {"--image", "--mode", "--disk", "--job", "--yes", "--stop-when-done"}}
    assert written == expected[target]


def test_the_recorded_launch_of_other_tests(vast_client: Path, place: Path) -> None:
    body = record_launch("demo", place=place)
    assert list(unpack(body["env"])) == ["demo-base", "demo"]
    assert body["onstart"]
    assert "HF_TOKEN" not in body["env"]


def test_a_failed_destroy_is_told(vast: VastServer, run_cli: RunCli) -> None:
    vast.instances = [make_instance(5, "whisper-train:demo")]
    vast.refuse["DELETE", "/api/v0/instances/5/"] = (500, "internal error")
    refused(run_cli("vast", "destroy", "demo", "--yes"), "internal error", "500")
