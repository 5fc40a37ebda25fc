"""The loss is the mean over the label tokens of the global batch, whatever the layout."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import TRAIN_CLIPS, run_here, write_job
from tests.whisper import WHISPER_WORDS, make_batch, make_whisper
from whisper_train.data.dataset import IGNORED
from whisper_train.training.loss import LARGE_VOCABULARY, is_deferred, make_loss, token_mean_loss


class Outputs:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_shares_of_a_batch_add_up_to_the_mean_over_all_its_tokens(smoothing: float) -> None:
    logits, labels = torch.randn(4, 5, 11), torch.randint(0, 11, (4, 5))
    labels[0, 2:] = IGNORED  # clips differ in length: a mean of means would differ
    tokens = int((labels != IGNORED).sum())
    loss = token_mean_loss(smoothing)
    whole = loss(Outputs(logits), labels, tokens)
    shares = sum(loss(Outputs(logits[row : row + 1]), labels[row : row + 1], tokens) for row in range(4))
    torch.testing.assert_close(whole, shares)
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(whole, mean)


def test_a_share_without_labels_adds_nothing() -> None:
    logits = torch.randn(1, 2, 7, requires_grad=True)
    loss = token_mean_loss(0.0)(Outputs(logits), torch.full((1, 2), IGNORED), 0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# A large vocabulary: the projection is left to the loss.

LABELS = torch.randint(0, WHISPER_WORDS, (3, 8), generator=torch.Generator().manual_seed(2))
LABELS[0, 3:] = LABELS[1] = LABELS[2, :2] = IGNORED  # padding, a window without a text, a prompt
TOKENS = int((LABELS != IGNORED).sum())


def step(model: Any, loss: Any, dtype: torch.dtype) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one batch and the gradients it leaves, in the precision of a training in `dtype`."""
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        outputs = model(**make_batch())
    total = loss(outputs, LABELS, TOKENS)
    total.backward()
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return total.detach(), {name: parameter.grad for name, parameter in learning.items()}


def check_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rounding: float) -> None:
    """Each as close as its largest element rounds: how a sum's small ones round differs between processors."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=rounding * scale)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_loss_and_gradients_are_those_of_all_logits(dtype: torch.dtype, rounding: float) -> None:
    model, plain = make_whisper(), make_whisper()
    loss = make_loss(model, 0.0, dtype)
    assert is_deferred(model)
    found, gradients = step(model, loss, dtype)
    expected, true_gradients = step(plain, token_mean_loss(0.0), torch.float32)
    torch.testing.assert_close(found, expected, rtol=rounding / 10, atol=0)
    check_gradients(gradients, true_gradients, rounding)


def test_windows_without_any_label_leave_gradients_of_zero() -> None:
    """Every rank must have a gradient for every weight, or the others wait for it forever."""
    model = make_whisper()
    loss = make_loss(model, 0.0, torch.float32)(model(**make_batch()), torch.full((3, 8), IGNORED), 0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert not model.model.decoder.embed_tokens.weight.grad.any()


def test_nothing_as_large_as_the_logits_is_kept_for_the_backward_pass() -> None:
    def kept(defer: bool) -> int:
        """Bytes of the largest tensor that is saved."""
        model, largest = make_whisper(), 0
        loss = make_loss(model, 0.0, torch.float32) if defer else token_mean_loss(0.0)
        weight = model.proj_out.weight.data_ptr()

        def save(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal largest
            if tensor.data_ptr() != weight:
                largest = max(largest, tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            loss(model(**make_batch()), LABELS, TOKENS)
        return largest

    assert kept(defer=False) >= LABELS.numel() * WHISPER_WORDS * 4
    assert kept(defer=True) < LABELS.numel() * WHISPER_WORDS * 4 / 20


def test_a_deferred_projection_is_there_for_evaluation_saving_and_generation(tmp_path: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    model, plain = make_whisper(), make_whisper()
    make_loss(model, 0.0, torch.float32)
    assert model(**make_batch()).logits.shape[-1] == model.config.d_model, "hidden states, while it trains"
    model.eval()
    plain.eval()
    assert torch.equal(model(**make_batch()).logits, plain(**make_batch()).logits)
    features = make_batch()["input_features"]
    assert torch.equal(
        model.generate(features, max_new_tokens=5, do_sample=False),
        plain.generate(features, max_new_tokens=5, do_sample=False),
    )
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.save_pretrained(tmp_path)
    loaded, report = WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(loaded.proj_out) is torch.nn.Linear
    assert loaded.proj_out.weight is loaded.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("target", ["q_proj", "proj_out"])
def test_adapters_learn_the_same_from_a_deferred_projection(target: str) -> None:
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        torch.manual_seed(0)
        model = get_peft_model(make_whisper(), LoraConfig(target_modules=[target], init_lora_weights=False))
        model.enable_input_require_grads()
        return model

    model = adapted()
    loss = make_loss(model, 0.0, torch.float32)
    assert is_deferred(model) == (target == "q_proj"), "adapters on the projection need it where it is"
    found, gradients = step(model, loss, torch.float32)
    expected, all_gradients = step(adapted(), token_mean_loss(0.0), torch.float32)
    torch.testing.assert_close(found, expected)
    check_gradients(gradients, all_gradients, 1e-5)


def test_frozen_embeddings_stay_and_the_rest_learns_the_same() -> None:
    models = [make_whisper(), make_whisper()]
    losses = [make_loss(models[0], 0.0, torch.float32), token_mean_loss(0.0)]
    for model in models:
        model.proj_out.weight.requires_grad_(False)
    (found, gradients), (expected, all_gradients) = (
        step(*both, torch.float32) for both in zip(models, losses, strict=True)
    )
    torch.testing.assert_close(found, expected)
    check_gradients(gradients, all_gradients, 1e-5)


@pytest.mark.parametrize(("words", "smoothing"), [(LARGE_VOCABULARY - 1, 0.0), (WHISPER_WORDS, 0.1)])
def test_small_vocabularies_and_smoothed_labels_keep_all_logits(words: int, smoothing: float) -> None:
    model = make_whisper(words)
    make_loss(model, smoothing, torch.float32)
    assert not is_deferred(model)


LAYOUTS: dict[str, dict[str, Any]] = {
    "1 rank, 8": {"per_device_train_batch_size": 8},
    "1 rank, 1 × 8 accumulated": {"per_device_train_batch_size": 1},
    "2 ranks, 2 × 2": {"per_device_train_batch_size": 2, "processes": 2},
    "2 ranks ZeRO-2, 1 × 4": {"per_device_train_batch_size": 1, "processes": 2, "deepspeed": "zero2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", ["small", "Whisper's"])
def test_loss_and_gradient_norm_are_those_of_one_rank_in_every_layout(
    tmp_path: Path, processor_dir: Path, vocabulary: str
) -> None:
    """Stock transformers multiplies both by the accumulation steps and ranks (transformers#46068)."""
    curves = {}
    architecture = {} if vocabulary == "small" else {"processor": str(processor_dir)}
    for number, (name, machine) in enumerate(LAYOUTS.items()):
        changes: dict[str, Any] = {"training": {"max_steps": 6, "eval_strategy": "no", "load_best_model_at_end": False}}
        changes |= {"architecture": architecture, "machine": {"threads": 1, **machine}}
        run_here(write_job(tmp_path, f"layout-{number}", **changes), tmp_path)
        log = (tmp_path / "logs" / f"layout-{number}" / "training.log").read_text()
        found = re.findall(r"step \d+/6  loss (\S+)  grad (\S+)", log)
        assert len(found) == 6, log
        facts = json.loads((tmp_path / "models" / f"layout-{number}" / "run.json").read_text())
        assert facts["throughput"]["totals"]["clips"] == TRAIN_CLIPS, "of all ranks, each once"
        curves[name] = torch.tensor([[float(loss), float(norm)] for loss, norm in found])
    reference = curves["1 rank, 8"]
    for name, curve in curves.items():
        # The log shows four decimals of the loss and two of the norm.
        assert torch.allclose(curve, reference, rtol=2e-3, atol=1.1e-2), f"{name}: {curve} against {reference}"
