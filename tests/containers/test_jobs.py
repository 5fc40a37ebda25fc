"""Jobs in containers, by make: what they leave, that they outlive the terminal, stop after saving, and go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chains.jobs import write_chain
from tests.conftest import REPOSITORY
from tests.containers.conftest import USER, Project, as_root, docker, output_of, wait_until
from tests.tiny import call, environment, write_job
from tests.tiny import run as run_locally

pytestmark = [pytest.mark.docker, pytest.mark.slow]
LONG = {"training": {"max_steps": 400, "eval_strategy": "no", "save_steps": 100, "logging_steps": 5}}


def write_long_job(folder: Path, name: str = "long", **changes: Any) -> Path:
    return write_job(folder, name, **{**LONG, **changes})


# Wrong input: told before anything starts.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EXP=no-such-job"], "no-such-job: no such job in jobs/"),
        (["EXP=demo", "GPUS=0"], "GPUS: 0: this machine shows no NVIDIA GPU"),
        (["EXP=demo", "MODEL_DIR=/proc/models"], "MODEL_DIR: /proc/models: cannot be created"),
        (["EXP=demo", "DATA_DIR=/no/data"], "/no/data: no such folder"),
        (["EXP=demo", "IMAGE_TAG=none", "REGISTRY=localhost:9"], "train-none: is not here and cannot be pulled"),
        (["EXP=demo", "MACHINE=h200"], "no GPU is visible"),
    ],
)
def test_a_start_that_cannot_work_is_refused_with_the_way_out(
    project: Project, arguments: list[str], message: str
) -> None:
    assert message in project.make("train", *arguments, expect=2)


def test_a_mistake_in_a_detached_job_is_told_at_once(project: Project) -> None:
    job = write_job(project.base, "mistake", training={"learning_rte": 1})
    assert "did you mean learning_rate?" in project.make("train", f"EXP={job}", "DETACH=1", expect=2)


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_a_job_that_was_never_started_has_no_container(project: Project, command: str) -> None:
    assert "no container of this job" in project.make(command, "EXP=demo", expect=2)


# What a run leaves.


@as_root
def test_a_run_ends_like_the_local_one_and_its_files_belong_to_the_caller(project: Project) -> None:
    """The container gets the id of who starts it; USER stands for a person."""
    job = write_job(project.base, "both")
    for name in ("cache", "models", "logs"):
        (project.base / name).mkdir()
        os.chown(project.base / name, USER, USER)
    output = project.make("train", f"EXP={job}", HOST_UID=str(USER), HOST_GID=str(USER))
    assert "report: /models/both" in output
    assert f"/models is {project.base}/models" in output
    paths = [path for name in ("cache", "models", "logs") for path in (project.base / name).rglob("*")]
    assert {path.stat().st_uid for path in paths} == {USER}
    run_locally(job, project.base / "outside")
    ours = (project.base / "models" / "both" / "model.safetensors").read_bytes()
    assert ours == (project.base / "outside" / "models" / "both" / "model.safetensors").read_bytes()


def test_run_json_names_image_digest_and_commit(project: Project, images: dict[str, str]) -> None:
    project.make("train", f"EXP={write_job(project.base, 'named')}")
    facts = project.facts("named")
    digest = output_of("image", "inspect", "--format", "{{.Id}}", images["train"])
    assert facts["image"] == {"name": images["train"], "digest": digest}
    revision = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    assert facts["commit"] == output_of("image", "inspect", "--format", revision, images["train"])


def test_what_an_ended_job_said_can_still_be_read(project: Project) -> None:
    job = write_job(project.base, "ended")
    project.make("train", f"EXP={job}")
    assert "report: /models/ended" in project.make("logs", f"EXP={job}")
    assert "ended " in project.make("ps")
    assert "had ended already, with status 0" in project.make("stop", f"EXP={job}")


def test_a_failing_job_hands_its_exit_status_on(project: Project) -> None:
    job = write_job(project.base, "goal", gates={"wer": 0.0001})
    assert "gate wer" in project.make("train", f"EXP={job}", expect=3)


def test_zero2_with_states_in_ram_uses_the_adam_that_was_compiled_ahead(project: Project) -> None:
    machine = {"processes": 2, "deepspeed": "zero2-offload", "threads": 1, "audit_workers": 1}
    job = write_job(project.base, "offload", machine={**machine, "dataloader_num_workers": 0})
    output = project.make("train", f"EXP={job}")
    assert "DeepSpeed ZeRO-2 with its compiled Adam in RAM" in output
    assert "report: /models/offload" in output


# Jobs that outlive the terminal.


def test_a_detached_job_is_listed_followed_and_refused_a_second_time(project: Project) -> None:
    job = write_long_job(project.base)
    assert "make logs EXP=" in project.make("train", f"EXP={job}", "DETACH=1")
    identity = output_of("container", "inspect", "--format", "{{slice .Id 0 12}}", project.container("long"))
    assert identity in project.make("train", f"EXP={job}", expect=2)
    wait_until(lambda: "step 5/" in project.log("long"))
    listed = project.make("ps")
    assert "long" in listed
    assert identity in listed
    follower = subprocess.run(
        ["timeout", "10", "make", "logs", f"EXP={job}"],
        cwd=REPOSITORY,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "step 5/400" in follower.stdout


def test_a_stopped_and_a_killed_job_go_on_to_the_same_weights(project: Project) -> None:
    job = write_long_job(project.base)
    project.make("train", f"EXP={job}", "DETACH=1")
    wait_until(lambda: "step 20/" in project.log("long"))
    assert "stopped; the same command" in project.make("stop", f"EXP={job}")
    assert project.facts("long")["status"] == "stopped"
    project.make("train", f"EXP={job}", "DETACH=1")
    wait_until(lambda: "step 200/" in project.log("long"))
    docker("kill", "--signal", "KILL", project.container("long"))
    wait_until(lambda: project.status("long") == "exited")
    assert "report: " in project.make("train", f"EXP={job}")
    assert project.log("long").count("resuming from checkpoint-") == 2
    whole = write_long_job(project.base, "whole")
    project.make("train", f"EXP={whole}")
    weights = [(project.base / "models" / name / "model.safetensors").read_bytes() for name in ("long", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("number", "outlives"), [(signal.SIGHUP, True), (signal.SIGINT, False)])
def test_a_closed_terminal_leaves_a_job_running_and_ctrl_c_stops_it_after_saving(
    project: Project, number: signal.Signals, outlives: bool
) -> None:
    job = write_long_job(project.base, training={**LONG["training"], "max_steps": 4000})
    shell = subprocess.Popen(
        ["make", "train", f"EXP={job}"],
        cwd=REPOSITORY,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: "step 5/" in project.log("long"))
    os.killpg(shell.pid, number)
    output, _ = shell.communicate(timeout=60)
    if outlives:
        assert project.status("long") == "running"
        project.make("stop", f"EXP={job}")
    else:
        assert "Error 143" in output, output
    assert project.facts("long")["status"] == "stopped"


def test_a_run_goes_on_outside_of_containers(project: Project) -> None:
    """CACHE_DIR lies elsewhere inside, and synthetic speech lies in it."""
    job = write_long_job(project.base)
    project.make("train", f"EXP={job}", "DETACH=1")
    wait_until(lambda: "step 20/" in project.log("long"))
    project.make("stop", f"EXP={job}")
    assert "resuming from checkpoint-" in run_locally(job, project.base)
    whole = write_long_job(project.base, "whole")
    run_locally(whole, project.base)
    weights = [(project.base / "models" / name / "model.safetensors").read_bytes() for name in ("long", "whole")]
    assert weights[0] == weights[1]


def test_a_chain_that_ran_in_a_container_is_done_outside_too(project: Project) -> None:
    jobs = write_chain(project.base / "jobs")
    output = project.make("chain", f"EXP={jobs / 'second.yaml'}")
    assert "stage 2 of 2: second" in output
    assert (project.base / "models" / "chains" / "second" / "chain.html").is_file()
    words = [sys.executable, "-m", "whisper_train", "chain", str(jobs / "second.yaml"), "--plan"]
    plan = call(words, environment(project.base), expect=0)
    assert plan.count("done") == 2, plan
