"""Runs on a machine with little memory: they go on with smaller batches to the same result, or say what helps."""

import functools
import json
import os
import re
import signal
import socket
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeJob, RunCli
from tests.tiny import command, environment, interrupt, run, run_here, write_job

pytestmark = pytest.mark.slow
SCARCE = Path(__file__).parent / "scarce_memory"


@pytest.fixture
def small_job(make_job: MakeJob, make_manifest: Any, place: Path) -> Path:
    """Two steps of two clips."""
    train, held_out = place / "train" / "list.jsonl", place / "eval" / "list.jsonl"
    sources: dict[str, Any] = {"train": [{"manifest": str(make_manifest(train))}]}
    return make_job({**sources, "eval": {"held-out": [{"manifest": str(make_manifest(held_out, first=4))}]}})


def limit_to_one_clip(monkeypatch: pytest.MonkeyPatch, before_it_fails: Callable[[Any], None]) -> None:
    """Lets training batches of more than one clip fail in this process, once `before_it_fails` has seen the model."""
    from transformers import WhisperForConditionalGeneration

    whole = WhisperForConditionalGeneration.forward

    @functools.wraps(whole)  # generation asks for its signature
    def forward(self: Any, *args: Any, **options: Any) -> Any:
        outputs = whole(self, *args, **options)
        if self.training:
            before_it_fails(self)
            torch.empty(2**60 if options["decoder_input_ids"].shape[0] > 1 else 0, dtype=torch.uint8)
        return outputs

    monkeypatch.setattr(WhisperForConditionalGeneration, "forward", forward)


def test_nothing_of_the_broken_training_is_left_in_memory_when_it_goes_on(
    small_job: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank without DeepSpeed goes on in the same process: weights and activations must be gone by then."""
    models: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def note(model: Any) -> None:
        if not any(known() is model for known in models):
            alive.append(sum(known() is not None for known in models))
            models.append(weakref.ref(model))

    limit_to_one_clip(monkeypatch, note)
    result = run_cli("train", small_job)
    assert result.exit_code == 0, result.output
    assert "takes 1 clip × 2 accumulation instead of 2 clips × 1 accumulation" in result.output
    assert alive == [0, 0]


def test_a_run_asked_to_stop_in_the_step_that_fails_stops(
    small_job: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to_one_clip(monkeypatch, lambda model: os.kill(os.getpid(), signal.SIGTERM))
    result = run_cli("train", small_job)
    assert result.exit_code == 143, result.output
    assert "stopped; the same command goes on" in result.output


def scarce(base: Path, job: Path, *more: str, expect: int = 0, **scarcity: Any) -> str:
    """Runs `job` on a machine with little memory."""
    return run(job, base, *more, expect=expect, **scarce_environment(**scarcity))


def scarce_environment(
    *, fits: int, share: float = 0.15, moment: str = "forward", seed: int = 16, training: bool = True
) -> dict[str, str]:
    scarcity = {"fits": fits, "share": share, "moment": moment, "seed": seed, "training": training}
    path = os.pathsep.join(filter(None, [str(SCARCE), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SCARCE_MEMORY": json.dumps(scarcity)}


def weights(base: Path, name: str) -> dict[str, torch.Tensor]:
    """Those after the last step."""
    from safetensors.torch import load_file

    return load_file(base / "models" / name / "checkpoints" / "checkpoint-12" / "model.safetensors")


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def logged_steps(base: Path, name: str) -> list[int]:
    """The steps in the history that the run's last checkpoint keeps."""
    state = json.loads((base / "models" / name / "checkpoints" / "checkpoint-12" / "trainer_state.json").read_text())
    return [entry["step"] for entry in state["log_history"] if "loss" in entry]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


ZERO2 = {"threads": 1, "deepspeed": "zero2", "audit_workers": 1, "dataloader_num_workers": 0}
MACHINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "zero2": {**ZERO2, "processes": 1},
    "two-ranks": {**ZERO2, "processes": 2},
}
# Smaller batches sum in another order, in float32, and Adam scales up what that does to small gradients: 1e-7 was
# measured. Each step moves a weight by 1e-3 or so: one that is lost, taken twice or given another batch shows.
ROUNDING = 1e-6


def undisturbed(base: Path, machine: str) -> dict[str, torch.Tensor]:
    """The weights of a run of 12 steps, 6 an epoch, whose memory suffices."""
    name = f"undisturbed-{machine}"
    if not (base / "models" / name).is_dir():
        run_here(write_job(base, name, machine=MACHINES[machine]), base)
    return weights(base, name)


@pytest.mark.parametrize(
    ("machine", "moment", "steps"),
    [("plain", "forward", [3, 9]), ("plain", "backward", [3, 9]), ("zero2", "backward", [6, 9])],
)
def test_one_rank_loses_no_step_and_learns_the_same(base: Path, machine: str, moment: str, steps: list[int]) -> None:
    name = f"{machine}-{moment}"
    output = scarce(base, write_job(base, name, machine=MACHINES[machine]), fits=2, moment=moment)
    assert re.findall(r"step (\d+) ran out of memory", output) == [str(step) for step in steps]
    assert re.findall(r"goes on from checkpoint-(\d+) and", output) == [str(step - 1) for step in steps]
    assert "takes 2 clips × 4 accumulation instead of 4 clips × 2 accumulation" in output
    assert not re.search(r"trains steps .* again", output)
    assert re.findall(r"step (\d+)/12", output) == [str(step) for step in range(1, 13)]
    assert logged_steps(base, name) == list(range(1, 13))
    assert largest_difference(weights(base, name), undisturbed(base, machine)) < ROUNDING
    facts = json.loads((base / "models" / name / "run.json").read_text())
    assert (facts["status"], facts["device_batch"]["clips"]) == ("done", 2)


@pytest.mark.parametrize(("machine", "seed", "again"), [("plain", 54, "steps 7 to 8"), ("zero2", 11, "step 7")])
def test_weights_that_were_being_changed_are_not_kept(base: Path, machine: str, seed: int, again: str) -> None:
    name = f"{machine}-update"
    output = scarce(base, write_job(base, name, machine=MACHINES[machine]), fits=4, moment="update", seed=seed)
    assert f"goes on from checkpoint-6, trains {again} again" in output
    assert logged_steps(base, name) == list(range(1, 13))
    assert largest_difference(weights(base, name), undisturbed(base, machine)) < ROUNDING


def test_several_ranks_start_again_from_the_newest_checkpoint(base: Path) -> None:
    """One rank runs out of memory while the other waits for it."""
    name = "two-ranks"
    output = scarce(base, write_job(base, name, machine=MACHINES[name]), fits=2, seed=51)
    assert "goes on from checkpoint-6, trains steps 7 to 8 again" in output
    assert "takes 2 clips × 2 accumulation instead of 4 clips × 1 accumulation" in output
    assert logged_steps(base, name) == list(range(1, 13))
    assert largest_difference(weights(base, name), undisturbed(base, name)) < ROUNDING


def test_a_run_killed_after_it_recovered_goes_on_with_what_fitted(base: Path) -> None:
    job = write_job(base, "recovered")
    changes: dict[str, Any] = {"fits": 4, "seed": 11}
    assert "takes 4 clips × 2 accumulation" in scarce(base, job, **changes)
    name = "recovered-killed"
    log = base / "logs" / name / "training.log"
    killed = write_job(base, name)
    status, _ = interrupt(
        killed,
        base,
        lambda: log.is_file() and "step 9/12" in log.read_text(),
        signal.SIGKILL,
        variables=scarce_environment(**changes),
    )
    assert status == -signal.SIGKILL
    output = scarce(base, killed, **changes)
    assert "4 clips × 2 accumulation instead of 8 clips × 1 accumulation, which ran out of memory before" in output
    assert "ran out of memory:" not in output
    assert largest_difference(weights(base, name), weights(base, "recovered")) == 0


def test_a_run_of_which_not_one_clip_fits_ends_with_status_1_and_goes_on_with_more_memory(base: Path) -> None:
    name = "nothing-fits"
    job = write_job(base, name, machine={"per_device_train_batch_size": 2})
    output = scarce(base, job, fits=0, share=0.1, expect=1)
    assert "does not fit into memory with one clip at a time" in output
    assert "machine.gradient_checkpointing=true" in output
    assert "Traceback" not in output
    assert json.loads((base / "models" / name / "run.json").read_text())["status"] == "failed"
    run_here(job, base)
    assert logged_steps(base, name) == list(range(1, 13))
    assert largest_difference(weights(base, name), undisturbed(base, "plain")) < ROUNDING


@pytest.mark.parametrize("machine", ["plain", "two-ranks"])
def test_an_evaluation_that_does_not_fit_ends_with_status_1_and_its_key(base: Path, machine: str) -> None:
    """Its six clips are a batch of four, which the first rank transcribes, and one of two."""
    name = f"evaluation-{machine}"
    job = write_job(base, name, machine={**MACHINES[machine], "per_device_eval_batch_size": 4})
    output = scarce(base, job, fits=2, share=1, training=False, expect=1)
    assert "machine.per_device_eval_batch_size=2" in output
    scarce(base, job, "--set", "machine.per_device_eval_batch_size=2", fits=2, share=1, training=False)
    assert logged_steps(base, name) == list(range(1, 13))


def test_several_hosts_end_and_begin_again_with_what_may_fit(base: Path) -> None:
    """Two launchers on this machine, each with one rank, sharing MODEL_DIR as hosts do."""
    name = "hosts"
    job = write_job(base, name, machine={**ZERO2, "processes": 1})
    statuses, outputs = run_on_two_hosts(job, base, scarce_environment(fits=2, seed=51))
    assert statuses == [1, 1], outputs
    assert "start the job again on every host: it goes on with 2 clips × 2 accumulation" in outputs[0]
    statuses, outputs = run_on_two_hosts(job, base, scarce_environment(fits=2, seed=51))
    assert statuses == [0, 0], outputs
    assert "resuming from checkpoint-6" in outputs[0]
    assert largest_difference(weights(base, name), undisturbed(base, "two-ranks")) < ROUNDING


def run_on_two_hosts(job: Path, base: Path, variables: dict[str, str]) -> tuple[list[int], list[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **variables}
    hosts = [
        subprocess.Popen(
            command(job),
            env=environment(base, **meeting, NODE_RANK=rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    outputs = [host.communicate(timeout=600)[0] for host in hosts]
    return [host.returncode for host in hosts], outputs
