"""What cannot be converted is refused before anything is loaded, with the way out."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.whisper import make_whisper
from whisper_train.errors import UserError
from whisper_train.export.forms import Form, estimate_bytes
from whisper_train.export.grids import choose_layers
from whisper_train.export.source import EMBEDDING, Trained, check_trained_for, read_trained
from whisper_train.quantization.activations import Activation
from whisper_train.quantization.grid import Grid


@pytest.mark.parametrize(
    ("form", "precision", "says"),
    [
        ("ctranslate2", "int4", "take --precision int8, or --to onnx"),
        ("ggml", "fp32", "take --precision fp16"),
        ("safetensors", "int8", "take --precision fp16, or --to onnx"),
        ("tflite", "fp32", "there are onnx, ctranslate2, ggml, safetensors"),
        ("onnx", "int3", "there are fp32, fp16, int8, int4"),
    ],
)
def test_an_impossible_pair_is_refused_with_the_way_out(run_cli: RunCli, form: str, precision: str, says: str) -> None:
    result = run_cli("convert", "no-such-model", "--to", form, "--precision", precision)
    assert result.exit_code == 2
    assert says in result.output


def test_a_model_that_is_not_there_is_refused(run_cli: RunCli) -> None:
    result = run_cli("convert", "./no-such", "--to", "onnx", "--precision", "fp32")
    assert result.exit_code == 2
    assert "./no-such: no model there; check the path" in result.output


def test_a_job_that_has_no_model_yet_is_not_looked_for_on_the_hub(run_cli: RunCli) -> None:
    result = run_cli("convert", "demo", "--to", "onnx", "--precision", "fp32")
    assert result.exit_code == 2
    assert "demo: no model there" in result.output
    assert "train the job first" in result.output


def test_a_model_of_another_kind_is_refused(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "camembert"}))
    result = run_cli("convert", tmp_path, "--to", "onnx", "--precision", "fp32", "--output", tmp_path / "new")
    assert result.exit_code == 2
    assert f"convert: {tmp_path}: is a camembert model, not Whisper" in result.output


@pytest.mark.parametrize("verb", ["convert", "transcribe", "order"])
def test_a_language_that_whisper_does_not_know_is_refused(run_cli: RunCli, verb: str) -> None:
    result = run_cli(verb, "model", "--language", "germna")
    assert result.exit_code == 2
    assert "'--language': germna: not a language of Whisper; did you mean german?" in result.output


def test_a_folder_that_is_there_is_never_written_over(run_cli: RunCli, tmp_path: Path) -> None:
    base, there = tmp_path / "not-loaded", tmp_path / "mine"
    base.mkdir()
    there.mkdir()
    (there / "notes.txt").write_text("mine")
    result = run_cli("convert", base, "--to", "safetensors", "--precision", "fp16", "--output", there)
    assert result.exit_code == 2
    assert "is there already" in result.output
    assert [path.name for path in there.iterdir()] == ["notes.txt"]


def test_a_disk_without_room_is_told_beforehand(
    run_cli: RunCli, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=10_000)
    monkeypatch.setattr("whisper_train.planning.room.shutil", SimpleNamespace(disk_usage=lambda path: usage))
    output = tmp_path / "exports" / "x"
    result = run_cli("convert", base, "--to", "safetensors", "--precision", "fp16", "--output", output)
    assert result.exit_code == 2
    assert "(the model as safetensors-fp16); 10.0 kB free" in result.output
    assert "convert: --output: exports/x: needs about " in result.output
    assert "make clean-cache shows what can go, --output names a folder on another disk" in result.output
    assert not output.exists()


def test_int4_takes_about_an_eighth_of_float32() -> None:
    model = make_whisper(words=4000, d_model=128, encoder_ffn_dim=512, decoder_ffn_dim=512)
    whole = estimate_bytes(model, Form("onnx", "fp32"))
    weights = 4 * sum(weight.numel() for weight in model.parameters())
    assert weights < whole < 1.11 * weights
    assert 0.12 < estimate_bytes(model, Form("onnx", "int4")) / whole < 0.25


BLOCKS = {"kind": "block-int8", "block": 32}


def write_quantization(folder: Path, **changes: Any) -> Path:
    tensors = {
        "model.decoder.layers.0.fc1.weight": {"bits": 4, "group": 32, "activation": None},
        "proj_out.weight": {"bits": 4, "group": 32, "activation": BLOCKS},
        "model.decoder.embed_tokens.weight": {"bits": 4, "group": 32, "activation": None},
    }
    facts = {"version": 1, "scheme": "int4", "target": "onnx", "tensors": tensors, **changes}
    (folder / "quantization.json").write_text(json.dumps(facts))
    return folder


def trained_in(folder: Path) -> Trained | None:
    return read_trained(make_whisper(), str(folder))


def test_a_trained_grid_is_kept_and_what_was_left_in_float_stays(tmp_path: Path) -> None:
    layers = choose_layers(make_whisper(), Form("onnx", "int4"), trained_in(write_quantization(tmp_path)))
    assert {name: (layer.grid, layer.activation) for name, layer in layers.items()} == {
        "model.decoder.layers.0.fc1.weight": (Grid(bits=4, group=32), None),
        EMBEDDING: (Grid(bits=4, group=32), Activation(kind="block-int8", block=32)),  # proj_out is the same parameter
    }


def test_a_grid_learned_for_ctranslate2_has_onnx_runtimes_inputs_there(tmp_path: Path) -> None:
    rows = {"bits": 8, "group": None, "activation": {"kind": "row-int8", "block": None}}
    tensors = {"model.decoder.layers.0.fc1.weight": rows, "model.encoder.conv1.weight": {**rows, "activation": None}}
    folder = write_quantization(tmp_path, scheme="int8", target="ctranslate2", tensors=tensors)
    layers = choose_layers(make_whisper(), Form("onnx", "int8"), trained_in(folder))
    assert layers.keys() == {"model.decoder.layers.0.fc1.weight"}
    assert [(one.grid, one.activation and one.activation.kind) for one in layers.values()] == [
        (Grid(bits=8), "block-int8")
    ]


def test_a_model_trained_for_one_grid_is_not_rounded_to_another(tmp_path: Path) -> None:
    quantization = trained_in(write_quantization(tmp_path))
    with pytest.raises(UserError, match="was trained for int4"):
        check_trained_for(quantization, Form("onnx", "int8"))
    check_trained_for(quantization, Form("onnx", "int4"))
    check_trained_for(quantization, Form("safetensors", "fp16"))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"tensors": {"proj_out.weight": {"bits": 3, "group": None, "activation": None}}},
        {"tensors": None},
    ],
)
def test_a_description_that_is_not_understood_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"quantization\.json"):
        trained_in(write_quantization(tmp_path, **changes))


def test_convolutions_are_quantized_for_ctranslate2_alone() -> None:
    model = make_whisper()
    names = {form: choose_layers(model, Form(form, "int8"), None).keys() for form in ("onnx", "ctranslate2")}
    assert names["ctranslate2"] - names["onnx"] == {"model.encoder.conv1.weight", "model.encoder.conv2.weight"}
    assert not any("embed_positions" in name or "norm" in name for name in names["onnx"])


def test_a_program_of_ones_own_needs_onnxruntime_and_numpy_alone() -> None:
    """docs/conversion.md: the class that calls the graphs comes without torch."""
    script = "import sys, whisper_train.export.onnx_runtime; print({'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
