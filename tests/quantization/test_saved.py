"""quantization.json, the weights beside it, and the model that an evaluation makes of both."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import tiny_job
from whisper_train.create import create_base
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_quantization import Quantization
from whisper_train.model import files_digest, load_model, load_processor, save_model
from whisper_train.quantization.attach import attach
from whisper_train.quantization.grid import find_codes, find_scales, on_grid
from whisper_train.quantization.layers import Quantized, as_matrix
from whisper_train.quantization.saved import describe, load_as_measured, read_facts, round_weights

SCHEMES = {
    "int8": Quantization(scheme="int8", target="onnx", keep_float=["*.out_proj"]),
    "kept": Quantization(scheme="int4", target="onnx", group_size=16, keep_float=["proj_out"]),
    "int4": Quantization(scheme="int4", target="onnx", group_size=16),
    "ctranslate2": Quantization(scheme="int8", target="ctranslate2"),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    architecture = Job.model_validate({"name": "tiny", **tiny_job()}).architecture
    assert architecture is not None
    create_base(architecture, ["der Mann sucht den Apfel", "die Frau kauft ein Buch"], 1, tmp_path / "base")
    return tmp_path / "base"


def save(base: Path, folder: Path, quantization: Quantization) -> Any:
    """The model of `base`, rounded and saved in `folder`; returns it before it was rounded."""
    model = load_model(str(base))
    attached = attach(model, quantization)
    round_weights(model)
    folder.mkdir(exist_ok=True)
    facts = describe(model, quantization, attached, rounded=True)
    save_model(model, load_processor(str(base)), folder, facts)
    return load_model(str(base))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2: this program reads 1"),
        ({"tensors": {"model.nothing.weight": {"bits": 8, "group": None, "activation": None}}}, "the model has none"),
        ({"tensors": {"proj_out.weight": {"bits": 4, "group": None, "activation": None}}}, "is damaged"),
        ({"tensors": {"proj_out.weight": {"bits": 8}}}, "is damaged"),
        ({"tensors": {}}, "names no tensor"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_measured_as_float(
    base: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save(base, tmp_path / "saved", SCHEMES["int8"])
    path = tmp_path / "saved" / "quantization.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_as_measured(str(tmp_path / "saved"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_damaged_file_is_refused(base: Path, tmp_path: Path, text: str) -> None:
    save(base, tmp_path / "saved", SCHEMES["int8"])
    (tmp_path / "saved" / "quantization.json").write_text(text)
    with pytest.raises(UserError, match="is no description of a quantized model"):
        read_facts(str(tmp_path / "saved"))


def test_a_hub_that_does_not_answer_has_no_such_file() -> None:
    """A base that was fetched before is measured without the network."""
    assert read_facts("somebody/whisper") is None


@pytest.mark.parametrize("name", SCHEMES)
def test_the_file_names_every_tensor_with_its_grid(base: Path, tmp_path: Path, name: str) -> None:
    quantization = SCHEMES[name]
    save(base, tmp_path / "saved", quantization)
    facts = json.loads((tmp_path / "saved" / "quantization.json").read_text())
    assert (facts["version"], facts["scheme"], facts["target"]) == (1, quantization.scheme, quantization.target)
    assert facts["rounded"] is True
    tensors, state = facts["tensors"], load_model(str(base)).state_dict()
    matrices = {tensor for tensor, weight in state.items() if weight.dim() > 1 and "positions" not in tensor}
    assert tensors.keys() | set(facts["float"]) == matrices
    assert not tensors.keys() & set(facts["float"])
    kept = {"int8": ("out_proj",), "kept": ("proj_out", "embed_tokens")}.get(name, ())
    stays = {tensor for tensor in matrices if any(word in tensor for word in kept)}
    assert set(facts["float"]) == stays | ({tensor for tensor in matrices if "conv" in tensor} - tensors.keys())
    assert all(each["bits"] == quantization.bits for each in tensors.values())
    assert all(each["group"] == quantization.group_size for each in tensors.values())


@pytest.mark.parametrize("name", SCHEMES)
def test_the_saved_weights_are_on_the_grid_with_the_codes_of_the_trained_ones(
    base: Path, tmp_path: Path, name: str
) -> None:
    trained = save(base, tmp_path / "saved", SCHEMES[name])
    saved = load_model(str(tmp_path / "saved"))
    checked = 0
    for each in attach(load_model(str(base)), SCHEMES[name]):
        before = as_matrix(trained.get_submodule(each.name).weight)
        after = as_matrix(saved.get_submodule(each.name).weight)
        assert torch.equal(after, on_grid(before, each.grid))
        codes = find_codes(before, find_scales(before, each.grid), each.grid)
        assert torch.equal(find_codes(after, find_scales(after, each.grid), each.grid), codes)
        checked += 1
    assert checked > 10
    assert saved.proj_out.weight is saved.model.decoder.embed_tokens.weight


def test_a_folder_is_measured_as_what_it_says(base: Path, tmp_path: Path) -> None:
    save(base, tmp_path / "saved", SCHEMES["int8"])
    measured = load_as_measured(str(tmp_path / "saved")).eval()
    assert sum(isinstance(module, Quantized) for module in measured.modules()) > 10
    assert not [module for module in load_as_measured(str(base)).modules() if isinstance(module, Quantized)]
    trained = load_model(str(base))
    attach(trained, SCHEMES["int8"])
    ids = torch.ones(1, 3, dtype=torch.long)
    features = torch.randn(1, 80, 2 * trained.config.max_source_positions, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = measured(input_features=features, decoder_input_ids=ids).logits
        theirs = trained.eval()(input_features=features, decoder_input_ids=ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_description_belongs_to_what_decides_on_the_text(base: Path, tmp_path: Path) -> None:
    """Transcriptions of a float model must not stand for those of the same weights with rounded inputs."""
    save(base, tmp_path / "saved", SCHEMES["int8"])
    before = files_digest(tmp_path / "saved")
    (tmp_path / "saved" / "quantization.json").unlink()
    assert files_digest(tmp_path / "saved") != before


def test_half_precision_checkpoints_are_rounded_in_float32(base: Path, tmp_path: Path) -> None:
    """What ZeRO-2 leaves is bf16: the forward pass computed its grid from that, in float32."""
    model = load_model(str(base)).bfloat16()
    attach(model, SCHEMES["int4"])
    layer = model.model.encoder.layers[0].fc1
    scales = find_scales(layer.weight, layer.grid)
    seen = find_codes(layer.rounded_weight(), scales, layer.grid)
    model.save_pretrained(tmp_path / "checkpoint")
    kept = load_model(str(tmp_path / "checkpoint"))
    attach(kept, SCHEMES["int4"])
    round_weights(kept)
    weight = kept.model.encoder.layers[0].fc1.weight
    assert torch.equal(find_codes(weight, find_scales(weight, layer.grid), layer.grid), seen)


def test_ctranslate2_computes_what_the_fake_quantizers_do(base: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("ctranslate2")
    trained = save(base, tmp_path / "saved", SCHEMES["ctranslate2"])
    converter = runtime.converters.TransformersConverter(str(tmp_path / "saved"))
    converter.convert(str(tmp_path / "converted"), quantization="int8")
    features = torch.randn(1, 80, 2 * trained.config.max_source_positions, generator=torch.Generator().manual_seed(0))
    whisper = runtime.models.Whisper(str(tmp_path / "converted"), device="cpu", compute_type="int8")
    found = torch.tensor(np.array(whisper.encode(runtime.StorageView.from_array(features.numpy()))))

    def heard(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return torch.as_tensor(model.eval().model.encoder(features).last_hidden_state)

    torch.testing.assert_close(found, heard(load_as_measured(str(tmp_path / "saved"))), rtol=1e-4, atol=1e-5)
    assert float((found - heard(load_model(str(tmp_path / "saved")))).abs().max()) > 1e-4, "inputs are rounded too"
