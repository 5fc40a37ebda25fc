"""Quantization-aware runs from their job to their model: refused, killed and resumed, on one rank and on two."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MakeJob, RunCli
from tests.tiny import interrupt, run, run_here, write_job
from whisper_train.quantization.grid import Grid, on_grid

LEARNING = {"max_steps": 12, "save_steps": 4, "eval_steps": 4, "global_batch_size": 8, "learning_rate": 1e-3}
MACHINE = {"dataloader_num_workers": 0, "threads": 1, "audit_workers": 1, "per_device_train_batch_size": 4}
INT4: dict[str, Any] = {"scheme": "int4", "target": "onnx", "group_size": 16}
INT8: dict[str, Any] = {"scheme": "int8", "target": "onnx"}
ZERO2 = {**MACHINE, "deepspeed": "zero2"}


@pytest.fixture
def small_job(make_job: MakeJob, make_manifest: Any, place: Path) -> Callable[..., Path]:
    """Two steps of two clips from random weights, with a quantization."""
    train, held_out = place / "train" / "list.jsonl", place / "eval" / "list.jsonl"
    data = {"train": [{"manifest": str(make_manifest(train))}]}
    data["eval"] = [{"manifest": str(make_manifest(held_out, first=4))}]

    def make(quantization: dict[str, Any], **sections: Any) -> Path:
        return make_job({**data, "eval": {"held-out": data["eval"]}}, quantization=quantization, **sections)

    return make


def test_a_name_that_fits_nothing_is_refused_before_the_data_are_read(small_job: Any, run_cli: RunCli) -> None:
    result = run_cli("train", small_job({**INT4, "keep_float": ["decoder.layer.0"]}))
    assert result.exit_code == 2, result.output
    assert "quantization.keep_float: decoder.layer.0: fits no matrix of the base; did you mean decoder.layers.0" in (
        result.output
    )
    assert "data: reading" not in result.output


@pytest.mark.parametrize("broken", ["never attached", "int8 instead"])
def test_a_job_that_would_train_something_else_fails_before_its_first_step(
    small_job: Any, run_cli: RunCli, place: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What public recipes do: a step that fails is swallowed, int4 becomes int8, and the training goes on."""
    from whisper_train.quantization import attach

    real = attach.put_in

    def put_in(model: Any, attached: Any, switch: Any) -> None:
        if broken == "int8 instead" and attached:
            coarse = [attach.Attached(name=each.name, grid=Grid(bits=8), activation=None) for each in attached]
            real(model, coarse, switch)

    monkeypatch.setattr(attach, "put_in", put_in)
    result = run_cli("train", small_job(INT4))
    assert result.exit_code == 1, result.output
    assert "has no fake quantizer" in result.output or "rounds to 8 bits" in result.output
    assert "step 1/" not in result.output
    assert not (place / "models" / "tiny" / "checkpoints").exists()
    assert not (place / "models" / "tiny" / "model.safetensors").exists()


def test_quantizers_lost_after_they_were_attached_are_missed_at_the_first_step(
    small_job: Any, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a wrapper rebuilds a layer: the model is looked at as it is about to train."""
    from whisper_train.training import build, loss

    def lose_one(model: Any, *args: Any) -> Any:
        layer = model.model.encoder.layers[0]
        layer.fc1 = torch.nn.Linear(layer.fc1.in_features, layer.fc1.out_features)
        return loss.make_loss(model, *args)

    monkeypatch.setattr(build, "make_loss", lose_one)
    result = run_cli("train", small_job(INT4))
    assert result.exit_code == 1, result.output
    assert "model.encoder.layers.0.fc1 has no fake quantizer" in result.output
    assert "step 1/" not in result.output


def test_a_program_that_forgets_to_attach_them_does_not_train(
    small_job: Any, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisper_train.training import build

    monkeypatch.setattr(build, "quantize", lambda model, job: None)
    result = run_cli("train", small_job(INT4))
    assert result.exit_code == 1, result.output
    assert "has no fake quantizer: it would be trained as float; nothing was trained" in result.output
    assert "step 1/" not in result.output


def test_a_run_that_would_end_before_rounding_begins_is_refused(small_job: Any, run_cli: RunCli) -> None:
    result = run_cli("train", small_job({**INT4, "start_step": 2}))
    assert result.exit_code == 2, result.output
    assert "quantization.start_step: 2: the run has 2 steps" in result.output


def test_a_quantized_model_is_evaluated_as_such_and_so_are_its_checkpoints(
    small_job: Any, run_cli: RunCli, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisper_train.evaluation import transcribe
    from whisper_train.quantization.layers import Quantized

    heard: list[int] = []
    real = transcribe.transcribe

    def listen(model: Any, *args: Any, **options: Any) -> Any:
        heard.append(sum(isinstance(module, Quantized) for module in model.modules()))
        return real(model, *args, **options)

    monkeypatch.setattr(transcribe, "transcribe", listen)
    job = small_job(INT8)
    result = run_cli("train", job)
    assert result.exit_code == 0, result.output
    assert "quantization: int8 in rows for onnx: 17 matrices" in result.output
    assert heard
    assert set(heard) == {18}
    heard.clear()
    folder = place / "models" / "tiny"
    (checkpoint,) = folder.glob("checkpoints/checkpoint-*")
    facts = [json.loads((each / "quantization.json").read_text()) for each in (folder, checkpoint)]
    assert [each.pop("rounded") for each in facts] == [True, False]
    assert facts[0] == facts[1]
    assert "quantization.json" in json.loads((checkpoint / "complete.json").read_text())["files"]
    result = run_cli("eval", job, "--model", checkpoint)
    assert result.exit_code == 0, result.output
    assert set(heard) == {18}


def test_a_quantized_base_is_no_teacher(small_job: Any, run_cli: RunCli, place: Path) -> None:
    assert run_cli("train", small_job(INT4)).exit_code == 0
    again = {"base": "job:tiny", "architecture": None, "name": "again"}
    result = run_cli("train", small_job({**INT4, "distillation": {}}, **again))
    assert result.exit_code == 2, result.output
    assert "is quantized itself and has no more to teach" in result.output


# Whole runs, in processes of their own.


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the result of the tiny job as `plain`."""
    folder = tmp_path_factory.mktemp("runs")
    run_here(write_job(folder, "plain", training={"max_steps": 6}), folder)
    return folder


def write_qat(base: Path, name: str, quantization: dict[str, Any], **sections: Any) -> Path:
    settings = {"machine": MACHINE, "training": LEARNING, **sections}
    return write_job(base, name, base="job:plain", architecture=None, quantization=quantization, **settings)


def trained(base: Path, name: str) -> bytes:
    """The weights of the last checkpoint: rounded ones would hide a difference."""
    return (base / "models" / name / "checkpoints" / "checkpoint-12" / "model.safetensors").read_bytes()


def losses(base: Path, name: str) -> dict[int, float]:
    log = (base / "logs" / name / "training.log").read_text()
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+)/\d+  loss (\S+)", log)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "kills"),
    [
        ({**INT4, "start_step": 6, "distillation": {}}, ["step 2/12", "checkpoint-4", "step 5/12", "step 9/12", "end"]),
        ({"scheme": "int8", "target": "ctranslate2"}, ["step 9/12"]),
        (INT8, ["step 9/12"]),
    ],
    ids=["int4", "ctranslate2", "int8"],
)
def test_killed_and_resumed_equals_unbroken_bit_for_bit(
    base: Path, quantization: dict[str, Any], kills: list[str]
) -> None:
    """Killed in the first steps, while a checkpoint is written, before rounding began and after, and at the end.

    The other schemes differ in what they round by, which has no state of its own: once from a checkpoint shows it.
    """
    name = f"{quantization['scheme']}-{quantization['target']}"
    changes = {"model": {"dropout": 0.1, "spec_augment": {"mask_time_prob": 0.1, "mask_time_length": 2}}}
    run_here(write_qat(base, f"{name}-unbroken", quantization, **changes), base)
    broken = write_qat(base, f"{name}-broken", quantization, **changes)
    log = base / "logs" / f"{name}-broken" / "training.log"
    log.parent.mkdir(parents=True)
    log.touch()
    checkpoints = base / "models" / f"{name}-broken" / "checkpoints"
    moments: dict[str, Callable[[], bool]] = {
        "step 2/12": lambda: "step 2/12" in log.read_text(),
        "checkpoint-4": (checkpoints / ".incomplete" / "checkpoint-4").exists,
        "step 5/12": lambda: "step 5/12" in log.read_text(),
        "step 9/12": lambda: "step 9/12" in log.read_text(),
        "end": lambda: "step 12: evaluated" in log.read_text(),
    }
    for kill in kills:
        interrupt(broken, base, moments[kill], signal.SIGKILL)
    assert "resuming from checkpoint-" in run_here(broken, base)
    assert trained(base, f"{name}-broken") == trained(base, f"{name}-unbroken")
    ours, theirs = base / "models" / f"{name}-broken", base / "models" / f"{name}-unbroken"
    for file in ("model.safetensors", "quantization.json"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", [{**INT4, "distillation": {}}, INT8], ids=["int4", "int8"])
def test_two_ranks_with_zero2_agree_with_one(base: Path, quantization: dict[str, Any]) -> None:
    """One rank with and without accumulation, and two: windows are rounded each by itself."""
    machines = {
        "one": {**MACHINE, "per_device_train_batch_size": 8},
        "accumulated": {**MACHINE, "per_device_train_batch_size": 2},
        "zero": {**ZERO2, "processes": 1},
        "zeros": {**ZERO2, "processes": 2},
    }
    training = {**LEARNING, "eval_strategy": "no", "load_best_model_at_end": False}
    curves = {}
    for machine, settings in machines.items():
        name = f"{quantization['scheme']}-{machine}"
        run_here(write_qat(base, name, quantization, machine=settings, training=training), base)
        curves[machine] = losses(base, name)
    for machine, curve in curves.items():
        assert curve.keys() == curves["one"].keys() == set(range(1, 13))
        apart = max(abs(curve[step] - curves["one"][step]) for step in curve)
        assert apart < 2e-3, f"{machine}: {apart}"


@pytest.mark.slow
def test_bf16_under_zero2_keeps_what_the_forward_pass_saw(base: Path) -> None:
    """The codes of the kept model are those of the checkpoint's bf16 weights, in float32 arithmetic."""
    machine = {**ZERO2, "processes": 2, "precision": "bf16", "per_device_train_batch_size": 2}
    run_here(write_qat(base, "bf16", INT4, machine=machine), base)
    folder = base / "models" / "bf16"
    kept = json.loads((folder / "run.json").read_text())["kept"]
    seen, saved = (
        load_file(folder / "checkpoints" / kept / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    facts = json.loads((folder / "quantization.json").read_text())
    checked = 0
    for tensor, how in facts["tensors"].items():
        if tensor in saved:
            assert seen[tensor].dtype == torch.bfloat16
            grid = Grid(bits=how["bits"], group=how["group"])
            assert torch.equal(saved[tensor], on_grid(seen[tensor], grid)), tensor
            checked += 1
    assert checked == 17
    expected = losses(base, "bf16")
    assert max(expected.values()) < 10


@pytest.mark.slow
def test_two_ranks_that_were_stopped_go_on_to_the_same_weights(base: Path) -> None:
    machine = {**ZERO2, "processes": 2}
    run_here(write_qat(base, "ranks-unbroken", INT4, machine=machine), base)
    broken = write_qat(base, "ranks-broken", INT4, machine=machine)
    log = base / "logs" / "ranks-broken" / "training.log"
    interrupt(broken, base, lambda: log.is_file() and "step 7/12" in log.read_text(), signal.SIGTERM)
    assert "resuming from checkpoint-" in run(broken, base)
    assert trained(base, "ranks-broken") == trained(base, "ranks-unbroken")
