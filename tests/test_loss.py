"""The loss is the mean over the label tokens of the global batch, whatever the layout."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import run, write_job
from whisper_train.data.dataset import IGNORED
from whisper_train.training.trainer import token_mean_loss


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


LAYOUTS: dict[str, dict[str, Any]] = {
    "1 rank, 8": {"per_device_train_batch_size": 8},
    "1 rank, 1 × 8 accumulated": {"per_device_train_batch_size": 1},
    "2 ranks, 2 × 2": {"per_device_train_batch_size": 2, "processes": 2},
    "2 ranks ZeRO-2, 1 × 4": {"per_device_train_batch_size": 1, "processes": 2, "deepspeed": "zero2"},
}


@pytest.mark.slow
def test_loss_and_gradient_norm_are_those_of_one_rank_in_every_layout(tmp_path: Path) -> None:
    """Stock transformers multiplies both by the accumulation steps and ranks (transformers#46068)."""
    curves = {}
    for number, (name, machine) in enumerate(LAYOUTS.items()):
        changes = {"training": {"max_steps": 6}, "machine": {"threads": 1, **machine}}
        run(write_job(tmp_path, f"layout-{number}", **changes), tmp_path)
        log = (tmp_path / "logs" / f"layout-{number}" / "training.log").read_text()
        found = re.findall(r"step \d+/6  loss (\S+)  grad (\S+)", log)
        assert len(found) == 6, log
        curves[name] = torch.tensor([[float(loss), float(norm)] for loss, norm in found])
    reference = curves["1 rank, 8"]
    for name, curve in curves.items():
        # The log shows four decimals of the loss and two of the norm.
        assert torch.allclose(curve, reference, rtol=2e-3, atol=1.1e-2), f"{name}: {curve} against {reference}"
