"""Fake quantizers are where the runtime has integers, and a model without them is not trained."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.whisper import make_batch, make_whisper
from whisper_train.errors import RunFailed, UserError
from whisper_train.job_quantization import Quantization
from whisper_train.quantization.attach import attach, block_for, check_attached
from whisper_train.quantization.grid import Grid, on_grid
from whisper_train.quantization.layers import Quantized, Switch

WORDS = 500
INT4 = Quantization(scheme="int4", target="onnx", group_size=16)
INT8 = Quantization(scheme="int8", target="onnx")
CTRANSLATE2 = Quantization(scheme="int8", target="ctranslate2")
SCHEMES = [INT4, INT8, CTRANSLATE2, Quantization(scheme="int8", target="onnx", group_size=32)]


def keeping(*patterns: str) -> Quantization:
    return Quantization(scheme="int4", target="onnx", group_size=16, keep_float=list(patterns))


def test_names_that_fit_nothing_are_refused_with_the_nearest() -> None:
    for pattern, near in (("encoder.layer.0", "encoder.layers.0"), ("prj_out", "proj_out"), ("*.fc3", "")):
        with pytest.raises(UserError, match=f"keep_float: {pattern.replace('*', '.')}: fits no matrix.*{near}"):
            attach(make_whisper(WORDS), keeping("decoder", pattern))


def test_a_model_of_which_everything_stays_float_is_refused() -> None:
    with pytest.raises(UserError, match="leaves nothing to quantize"):
        attach(make_whisper(WORDS), keeping("encoder", "decoder"))


def test_a_model_without_fake_quantizers_is_not_trained() -> None:
    with pytest.raises(RunFailed, match="has no fake quantizer: it would be trained as float"):
        check_attached(make_whisper(WORDS), INT4)


def test_one_matrix_without_is_enough() -> None:
    model = make_whisper(WORDS)
    attach(model, INT4)
    model.model.decoder.layers[0].fc1 = nn.Linear(32, 64)
    with pytest.raises(RunFailed, match=r"decoder\.layers\.0\.fc1 has no fake quantizer"):
        check_attached(model, INT4)


def test_int4_that_became_int8_is_not_trained() -> None:
    model = make_whisper(WORDS)
    attach(model, INT8)
    with pytest.raises(RunFailed, match="rounds to 8 bits in groups of None, and 4 bits in groups of 16"):
        check_attached(model, INT4)


def test_a_fake_quantizer_that_does_not_round_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_whisper(WORDS)
    attach(model, INT4)
    layer = model.model.encoder.layers[0].fc2
    monkeypatch.setattr(type(layer), "rounded_weight", lambda self: self.weight)
    with pytest.raises(RunFailed, match="computes with weights that are not on its grid"):
        check_attached(model, INT4)


def test_a_coarser_grid_is_found_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to int8, and called int4: 255 values are on no grid of 16."""
    from whisper_train.quantization import layers

    model = make_whisper(WORDS)
    attach(model, INT4)
    monkeypatch.setattr(layers, "round_weight", lambda weight, grid: on_grid(weight, Grid(bits=8)))
    with pytest.raises(RunFailed, match="not on its grid"):
        check_attached(model, INT4)


@pytest.mark.parametrize("quantization", SCHEMES, ids=lambda one: f"{one.scheme}-{one.target}-{one.group_size}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_matrix_is_attached_in_every_scheme(quantization: Quantization, dtype: torch.dtype) -> None:
    model = make_whisper(WORDS).to(dtype)
    attached = {each.name: each for each in attach(model, quantization)}
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    convolutions = {"model.encoder.conv1", "model.encoder.conv2"}
    others = convolutions if quantization.target == "ctranslate2" else set()
    assert attached.keys() == linear | others | {"model.decoder.embed_tokens"}
    assert all(each.grid == Grid(bits=quantization.bits, group=quantization.group_size) for each in attached.values())
    assert not isinstance(model.model.encoder.embed_positions, Quantized)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("model.encoder.layers.0.fc1", ("window-uint8", "row-int8", "block-int8")),
        ("model.decoder.layers.0.encoder_attn.k_proj", ("window-uint8", "row-int8", "block-int8")),
        ("model.decoder.layers.0.encoder_attn.q_proj", ("block-int8", "row-int8", "block-int8")),
        ("proj_out", ("block-int8", "row-int8", "block-int8")),
        ("model.decoder.embed_tokens", (None, None, None)),
    ],
)
def test_inputs_are_rounded_by_what_runs_the_matrix(name: str, kinds: tuple[str | None, ...]) -> None:
    """ONNX: dynamically once a window, by blocks at every token, and by blocks wherever the weights have groups."""
    for quantization, kind in zip((INT8, CTRANSLATE2, SCHEMES[3]), kinds, strict=True):
        activation = {each.name: each for each in attach(make_whisper(WORDS), quantization)}[name].activation
        assert (activation.kind if activation else None) == kind
    weights_alone = Quantization(scheme="int4", target="onnx", activations=False)
    assert all(each.activation is None for each in attach(make_whisper(WORDS), weights_alone))


@pytest.mark.parametrize(("width", "block"), [(1280, 128), (384, 128), (96, 32), (64, 64), (40, 16)])
def test_blocks_fill_a_row(width: int, block: int) -> None:
    assert block_for(width) == block


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("encoder.layers.0", "model.encoder.layers.0.fc1"),
        ("model.encoder.layers.0.fc1", "model.encoder.layers.0.fc1"),
        ("*.encoder_attn.*", "model.decoder.layers.0.encoder_attn.q_proj"),
        ("proj_out", "model.decoder.embed_tokens"),
        ("decoder.embed_tokens", "proj_out"),
    ],
)
def test_what_stays_float_is_left_as_it_was(pattern: str, kept: str) -> None:
    model = make_whisper(WORDS)
    names = {each.name for each in attach(model, keeping(pattern))}
    assert names
    assert kept not in names
    assert type(model.get_submodule(kept)) in (nn.Linear, nn.Embedding)


def test_names_ties_and_state_dict_stay() -> None:
    model, plain = make_whisper(WORDS), make_whisper(WORDS)
    attach(model, INT4)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    ours, theirs = model.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight


def rounded_copy(quantization: Quantization) -> Any:
    """A plain Whisper whose weights are on the grid."""
    model = make_whisper(WORDS)
    plain = make_whisper(WORDS)
    for each in attach(model, quantization):
        module = plain.get_submodule(each.name)
        if each.name != "proj_out":
            weight = module.weight.detach()
            module.weight.data = on_grid(weight.flatten(1), each.grid).view_as(weight)
    plain.tie_weights()
    return plain


@pytest.mark.parametrize("target", ["onnx", "ctranslate2"])
def test_the_forward_pass_is_that_of_weights_on_the_grid(target: Any) -> None:
    if target == "onnx":
        quantization = Quantization(scheme="int8", target="onnx", activations=False)
        model = make_whisper(WORDS)
        attach(model, quantization)
        assert torch.equal(model(**make_batch()).logits, rounded_copy(quantization)(**make_batch()).logits)
    else:
        model, plain = make_whisper(WORDS), rounded_copy(CTRANSLATE2)
        attach(model, CTRANSLATE2)
        features = make_batch()["input_features"]
        assert torch.equal(model.model.encoder.conv1(features), plain.model.encoder.conv1(features))


def test_every_weight_gets_the_gradient_of_its_rounded_self() -> None:
    quantization = Quantization(scheme="int4", target="onnx", group_size=16, activations=False)
    model, plain = make_whisper(WORDS), rounded_copy(quantization)
    attach(model, quantization)
    for each in (model, plain):
        each(**make_batch()).logits.square().mean().backward()
    expected = dict(plain.named_parameters())
    learned = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in learned.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6)


def test_checkpointed_activations_leave_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_whisper(WORDS, use_cache=False)
        attach(model, INT8)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(**make_batch()).logits.square().mean().backward()
        gradients.append([each.grad for each in model.parameters() if each.requires_grad])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_grid_is_float32_under_bf16() -> None:
    """Scales computed in bf16 change every ninth code."""
    model = make_whisper(WORDS)
    attach(model, INT8)
    layer, expected = model.model.encoder.layers[0].fc1, on_grid(model.model.encoder.layers[0].fc1.weight, Grid(bits=8))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.rounded_weight(), expected)
    layer.bfloat16()
    assert torch.equal(layer.rounded_weight(), on_grid(layer.weight, Grid(bits=8)).bfloat16())


def test_the_switch_is_for_training_alone() -> None:
    model, plain, switch = make_whisper(WORDS), make_whisper(WORDS), Switch(on=False)
    attach(model, INT4, switch)
    assert torch.equal(model(**make_batch()).logits, plain(**make_batch()).logits)
    model.eval()
    evaluated = model(**make_batch()).logits
    assert not torch.equal(evaluated, plain.eval()(**make_batch()).logits)
    model.train()
    switch.on = True
    torch.testing.assert_close(model(**make_batch()).logits, evaluated)


def test_an_evaluation_sees_the_weights_of_now() -> None:
    """They are rounded once for all tokens, and anew when they have changed."""
    model = make_whisper(WORDS).eval()
    attach(model, INT4)
    with torch.no_grad():
        before = model(**make_batch()).logits
        assert torch.equal(model(**make_batch()).logits, before)
        for parameter in model.parameters():
            parameter.mul_(-1)
        assert not torch.equal(model(**make_batch()).logits, before)
    model.train()
    assert all(module.known is None for module in model.modules() if isinstance(module, Quantized))
