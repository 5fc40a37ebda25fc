"""Several ranks: ZeRO-2 over two processes, resumed on two and on one, stopped by a signal, and on two hosts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.tiny import command, environment, interrupt, run, run_here, write_job

pytestmark = pytest.mark.slow
ZERO2 = {"threads": 1, "processes": 2, "deepspeed": "zero2", "audit_workers": 1, "dataloader_num_workers": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def unbroken(base: Path) -> Path:
    """The folder of a finished run of two ranks."""
    run_here(write_job(base, "unbroken", machine=ZERO2), base)
    return base / "models" / "unbroken"


def losses(base: Path, name: str) -> dict[int, float]:
    log = (base / "logs" / name / "training.log").read_text()
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+)/\d+  loss (\S+)", log)}


def kill_after_first_checkpoint(base: Path, name: str, machine: dict[str, Any]) -> Path:
    """A run of the tiny job, whose launcher is killed once step 7 of 12 is done; its checkpoint is that of step 6."""
    job = write_job(base, name, machine=machine)
    interrupt(job, base, lambda: 7 in (losses(base, name) if has_log(base, name) else {}), signal.SIGKILL)
    return job


def kill_ranks(name: str) -> None:
    """At once: a rank that is alone may take the steps that are left before it hears that its launcher is gone."""
    for process in psutil.process_iter(["cmdline"]):
        if f"models/{name}/" in " ".join(process.info["cmdline"] or []):
            process.kill()


def has_log(base: Path, name: str) -> bool:
    return (base / "logs" / name / "training.log").is_file()


def test_the_exported_folder_loads_with_no_missing_key(unbroken: Path) -> None:
    """ZeRO consolidation drops the tied output projection (DeepSpeed#1896, #3824)."""
    from transformers import WhisperForConditionalGeneration

    model, report = WhisperForConditionalGeneration.from_pretrained(unbroken, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


def test_each_rank_keeps_half_of_the_optimizer_on_the_disk(unbroken: Path) -> None:
    checkpoint = unbroken / "checkpoints" / "checkpoint-12"
    shards = sorted((checkpoint / "global_step12").glob("*optim_states.pt"))
    assert len(shards) == 2
    parts = [torch.load(path, weights_only=False)["optimizer_state_dict"] for path in shards]
    numbers = [sum(group.numel() for group in part["single_partition_of_fp32_groups"]) for part in parts]
    assert abs(numbers[0] - numbers[1]) <= 64  # padding


def test_killed_ranks_resume_to_the_same_weights(base: Path, unbroken: Path) -> None:
    """The ranks end with their killed launcher; a run that still finds them alive is refused, so it may take two."""
    job = kill_after_first_checkpoint(base, "broken", ZERO2)
    assert "resuming from checkpoint-" in run_when_free(job, base)
    ours = (base / "models" / "broken" / "model.safetensors").read_bytes()
    assert ours == (unbroken / "model.safetensors").read_bytes()


def run_when_free(job: Path, base: Path, *more: str) -> str:
    """Runs once the ranks of a killed launcher are gone; they save what they have first."""
    for _ in range(60):
        done = subprocess.run(command(job, *more), env=environment(base), capture_output=True, text=True, check=False)
        if "is running already" not in done.stderr:
            break
        time.sleep(0.5)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill_and_move(base: Path, name: str, before: int, after: int, **settings: Any) -> str:
    """What a run of `after` ranks says that goes on where `before` were killed in step 7."""
    job = write_job(base, name, machine={**ZERO2, "processes": before}, **settings)

    def ranks_killed() -> bool:
        if not (has_log(base, name) and 7 in losses(base, name)):
            return False
        kill_ranks(name)
        return True

    interrupt(job, base, ranks_killed, signal.SIGKILL)
    return run_when_free(job, base, "--set", f"machine.processes={after}")


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_frozen_parts_and_a_rate_a_layer_survive_a_kill_and_a_move(base: Path, before: int, after: int) -> None:
    """Each layer has an optimizer group of its own, which ZeRO divides among the ranks."""
    settings = {"model": {"layer_decay": 0.5, "freeze": ["encoder.conv", "decoder.embeddings"]}}
    whole = base / "models" / "by-layer"
    if not whole.is_dir():
        run_here(write_job(base, "by-layer", machine=ZERO2, **settings), base)
    name = f"by-layer-{before}-{after}"
    kill_and_move(base, name, before, after, **settings)
    expected, found = losses(base, "by-layer"), losses(base, name)
    assert found.keys() == expected.keys()
    assert max(abs(found[step] - expected[step]) for step in expected) < 2e-3
    if before == after:
        ours = (base / "models" / name / "model.safetensors").read_bytes()
        assert ours == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_moves_to_another_number_of_ranks(base: Path, unbroken: Path, before: int, after: int) -> None:
    """ZeRO's own checkpoints load on no other number (DeepSpeed#5405, #7628)."""
    name = f"from-{before}-to-{after}"
    output = kill_and_move(base, name, before, after)
    assert "converting checkpoint-" in output
    expected, found = losses(base, "unbroken"), losses(base, name)
    assert found.keys() == expected.keys()
    assert max(abs(found[step] - expected[step]) for step in expected) < 2e-3


def test_moments_in_8_bits_survive_a_kill_and_stay_with_their_ranks(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "gpu")]
    if subprocess.run([*fetch, "--requirement", str(REPOSITORY / "requirements" / "gpu.txt")], check=False).returncode:
        pytest.skip("bitsandbytes, which a machine without GPU goes without, cannot be fetched here")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "gpu"), os.environ.get("PYTHONPATH", "")]))
    settings = {"training": {"optim": "adamw_bnb_8bit"}}
    run(write_job(base, "8-bit", machine=ZERO2, **settings), base)
    kill_and_move(base, "8-bit-killed", 2, 2, **settings)
    ours = (base / "models" / "8-bit-killed" / "model.safetensors").read_bytes()
    assert ours == (base / "models" / "8-bit" / "model.safetensors").read_bytes()
    more = ("--set", "training.max_steps=18", "--set", "machine.processes=1")
    output = run(base / "8-bit.yaml", base, *more, expect=2)
    assert "machine.processes=2" in output


def test_a_zero_checkpoint_without_deepspeed_is_refused_with_the_way_out(base: Path) -> None:
    name = "without"
    run_here(write_job(base, name, machine=ZERO2), base, "--set", "training.max_steps=6")
    output = run(base / f"{name}.yaml", base, "--set", "machine.deepspeed=null", expect=2)
    assert "machine.deepspeed=zero2" in output


def test_sigterm_to_the_launcher_saves_once_and_leaves_no_rank(base: Path) -> None:
    name = "stopped"
    job = write_job(base, name, machine=ZERO2, training={"max_steps": 500, "eval_steps": 500, "save_steps": 500})
    status, output = interrupt(
        job, base, lambda: 5 in (losses(base, name) if has_log(base, name) else {}), signal.SIGTERM
    )
    assert status == 143, output
    assert "Traceback" not in output
    assert json.loads((base / "models" / name / "run.json").read_text())["status"] == "stopped"
    running = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in running if f"models/{name}/" in line]


def test_ranks_killed_in_the_last_evaluation_evaluate_when_they_come_back(base: Path, unbroken: Path) -> None:
    name = "unevaluated"
    job = write_job(base, name, machine=ZERO2)
    run_file = base / "models" / name / "run.json"
    interrupt(job, base, lambda: run_file.is_file() and '"trained"' in run_file.read_text(), signal.SIGKILL)
    assert "step 12/12" not in run_when_free(job, base)
    ours = (base / "models" / name / "model.safetensors").read_bytes()
    assert ours == (unbroken / "model.safetensors").read_bytes()


def test_bf16_weights_learn_the_same_within_a_per_cent(base: Path, unbroken: Path) -> None:
    """As on GPUs: DeepSpeed holds the weights in bf16, features are computed in float32 and cast."""
    machine = {**ZERO2, "precision": "bf16", "per_device_train_batch_size": 2}
    run_here(write_job(base, "bf16", machine=machine), base)
    found, expected = losses(base, "bf16"), losses(base, "unbroken")
    assert max(abs(found[step] - expected[step]) / expected[step] for step in expected) < 0.01


def test_two_hosts_meet_by_the_rendezvous_variables(base: Path, unbroken: Path) -> None:
    """Two launchers on this machine, each with one rank, sharing MODEL_DIR as hosts do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    job = write_job(base, "hosts", machine={**ZERO2, "processes": 1})
    meeting = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    hosts = [
        subprocess.Popen(
            command(job), env=environment(base, **meeting, NODE_RANK=rank), stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    outputs = [host.communicate(timeout=300)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    ours = (base / "models" / "hosts" / "model.safetensors").read_bytes()
    assert ours == (unbroken / "model.safetensors").read_bytes()
