"""The loss of a quantized model: with the projection left to it, and with the unquantized base as a teacher."""

from typing import Any

import pytest
import torch

from tests.whisper import WHISPER_WORDS, make_batch, make_whisper
from whisper_train.data.dataset import IGNORED
from whisper_train.job_quantization import Distillation, Quantization
from whisper_train.quantization.attach import attach, check_attached
from whisper_train.quantization.layers import Switch
from whisper_train.training import distillation
from whisper_train.training.distillation import Teacher
from whisper_train.training.loss import is_deferred, make_loss, token_mean_loss

INT4 = Quantization(scheme="int4", target="onnx", group_size=16)
INT8 = Quantization(scheme="int8", target="onnx")
LABELS = torch.randint(0, 500, (3, 8), generator=torch.Generator().manual_seed(2))
LABELS[0, 3:] = LABELS[1] = LABELS[2, :2] = IGNORED  # padding, a window without a text, a prompt
TOKENS = int((LABELS != IGNORED).sum())


def step(model: Any, loss: Any, teacher: Teacher | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = make_batch()
    if teacher:
        teacher.hear(batch)
    total = loss(model(**batch), LABELS, TOKENS)
    total.backward()
    return total.detach(), {name: each.grad for name, each in model.named_parameters() if each.requires_grad}


def make_quantized(words: int, quantization: Quantization, switch: Switch | None = None) -> Any:
    model = make_whisper(words)
    attach(model, quantization, switch)
    return model


def check_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=5e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("quantization", [INT4, INT8], ids=["int4", "int8"])
def test_a_deferred_projection_is_rounded_with_its_input(quantization: Quantization) -> None:
    model, whole = (make_quantized(WHISPER_WORDS, quantization) for _ in range(2))
    loss = make_loss(model, 0.0, torch.float32)
    assert is_deferred(model)
    check_attached(model, quantization)
    found, gradients = step(model, loss)
    expected, all_gradients = step(whole, token_mean_loss(0.0))
    torch.testing.assert_close(found, expected, rtol=5e-6, atol=0)
    check_same(gradients, all_gradients)
    plain, _ = step(make_whisper(WHISPER_WORDS), token_mean_loss(0.0))
    assert abs(float(found - plain)) > 1e-4, "rounding shows in the loss"


def test_a_deferred_projection_waits_for_the_switch_and_evaluates_rounded() -> None:
    switch = Switch(on=False)
    model = make_quantized(WHISPER_WORDS, INT4, switch)
    loss = make_loss(model, 0.0, torch.float32)
    found, _ = step(model, loss)
    expected, _ = step(make_whisper(WHISPER_WORDS), token_mean_loss(0.0))
    torch.testing.assert_close(found, expected)
    rounded = make_quantized(WHISPER_WORDS, INT4).eval()
    assert torch.equal(model.eval()(**make_batch()).logits, rounded(**make_batch()).logits)


def make_teacher(words: int, weight: float, temperature: float = 2.0) -> Teacher:
    return Teacher(make_whisper(words), Distillation(weight=weight, temperature=temperature))


@pytest.mark.parametrize("words", [500, WHISPER_WORDS])
def test_a_model_that_is_its_teacher_learns_nothing_from_it(words: int) -> None:
    model, teacher = make_whisper(words), make_teacher(words, 1.0)
    model.config.dropout = 0.0
    total, gradients = step(model, make_loss(model, 0.0, torch.float32, teacher), teacher)
    assert float(total) == pytest.approx(0, abs=1e-5)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) < 1e-5
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


@pytest.mark.parametrize("words", [500, WHISPER_WORDS])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_loss_is_divided_between_transcript_and_teacher(
    words: int, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "POSITIONS_AT_ONCE", 2)  # several parts of so few positions
    model, teacher = make_quantized(words, INT4), make_teacher(words, weight, 3.0)
    found, gradients = step(model, make_loss(model, 0.0, torch.float32, teacher), teacher)

    student, base = make_quantized(words, INT4), make_whisper(words).eval()
    logits, labelled = student(**make_batch()).logits, LABELS != IGNORED
    with torch.no_grad():
        taught = torch.softmax(base(**make_batch()).logits[labelled].double() / 3, -1)
    learned = torch.softmax(logits[labelled].double() / 3, -1)
    divergence = (taught * (taught.log() - learned.log())).sum() * 9 / TOKENS
    transcripts = torch.nn.functional.cross_entropy(logits[labelled], LABELS[labelled])
    expected = (1 - weight) * transcripts + weight * divergence
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(
        found, expected.detach().float(), rtol=1e-3, atol=1e-6
    )  # float32 has added up 51,866 words
    check_same(gradients, {n: each.grad for n, each in student.named_parameters() if each.requires_grad})


def test_windows_without_any_label_leave_gradients_of_zero() -> None:
    """Every rank must have a gradient for every weight, or the others wait for it forever."""
    model, teacher = make_quantized(WHISPER_WORDS, INT4), make_teacher(WHISPER_WORDS, 0.5)
    loss = make_loss(model, 0.0, torch.float32, teacher)
    teacher.hear(make_batch())
    total = loss(model(**make_batch()), torch.full((3, 8), IGNORED), 0)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0
    assert not model.model.decoder.embed_tokens.weight.grad.any()


def test_a_teacher_hears_in_half_precision_and_through_a_short_window() -> None:
    model = make_whisper(500).to(torch.bfloat16)
    teacher = Teacher(model, Distillation(weight=1.0))
    for frames in (50, 20, 100):
        teacher.hear(make_batch(frames=frames))
        assert teacher.hidden is not None
        assert teacher.hidden.dtype == torch.bfloat16
        assert teacher.hidden.shape == (24, 32)
