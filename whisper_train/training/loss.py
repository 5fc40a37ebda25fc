"""The loss: a mean over the label tokens of the global batch, without logits where nobody has a label."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from whisper_train.data.dataset import IGNORED
from whisper_train.quantization.layers import QuantizedLinear
from whisper_train.training.distillation import POSITIONS_AT_ONCE, Teacher

LARGE_VOCABULARY = 16_384  # words; with fewer the logits are small, and the ordinary way is as good

Loss = Callable[..., torch.Tensor]


class Deferred:
    """An output projection that hands hidden states through while training: the loss applies it itself."""

    training: bool

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.training:
            return hidden
        logits: torch.Tensor = super().forward(hidden)  # type: ignore[misc]
        return logits


class DeferredProjection(Deferred, nn.Linear):
    def operands(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is multiplied for the logits of `hidden` (positions, width), and with which weight (words, width)."""
        return hidden, self.weight


class DeferredQuantizedProjection(Deferred, QuantizedLinear):
    def operands(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rounded_input(hidden), self.rounded_weight()


DEFERRED: dict[type, type] = {nn.Linear: DeferredProjection, QuantizedLinear: DeferredQuantizedProjection}


def make_loss(model: Any, label_smoothing: float, dtype: torch.dtype, teacher: Teacher | None = None) -> Loss:
    """The loss that suits `model`, a Whisper or one with adapters; with a large vocabulary its projection is deferred.

    `dtype` is the one that matrices are multiplied in. Label smoothing needs every logit, and so do adapters on the
    projection. A `teacher` has a share in it.
    """
    whisper = model.get_base_model() if hasattr(model, "get_base_model") else model  # behind adapters
    projection = whisper.proj_out
    if projection.out_features < LARGE_VOCABULARY or label_smoothing or type(projection) not in DEFERRED:
        return token_mean_loss(label_smoothing, teacher)
    projection.__class__ = DEFERRED[type(projection)]  # still the embedding's weight, and its fake quantizer
    return projected_loss(projection, dtype, teacher)


def is_deferred(model: Any) -> bool:
    """Whether `make_loss` left the projection of `model` to the loss."""
    return isinstance(model.get_output_embeddings(), Deferred)


def token_mean_loss(label_smoothing: float, teacher: Teacher | None = None) -> Loss:
    """Cross entropy summed over the label tokens, divided by their number in the whole global batch.

    Transformers takes Whisper's own mean over a micro-batch for one over the global batch, which multiplies loss and
    gradient by the accumulation steps (transformers#46068).
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int) -> torch.Tensor:
        total = nn.functional.cross_entropy(
            outputs.logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        if teacher:
            logits, labelled = outputs.logits.flatten(0, 1), find_labelled(labels)
            total = teacher.blend(total, labelled, lambda part: logits[labelled[part]])
        return total / max(float(num_items_in_batch), 1.0)

    return loss


def projected_loss(projection: Any, dtype: torch.dtype, teacher: Teacher | None = None) -> Loss:
    """The same of hidden states, a few positions at a time and only where there is a label.

    In half precision torch adds up the losses of positions in half precision too, so they are added up here. There
    "accurate" takes the least memory as well; "auto" takes more than three times as much on a processor (torch 2.13).
    """
    whole = dtype == torch.float32
    options = nn.LinearCrossEntropyOptions(
        batch_chunk_size=POSITIONS_AT_ONCE, chunking_method=None, acc_policy="compact" if whole else "accurate"
    )
    reduction = "sum" if whole else "none"

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int) -> torch.Tensor:
        labelled = find_labelled(labels)
        hidden, weight = projection.operands(outputs.logits.flatten(0, 1)[labelled])
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        losses = nn.functional.linear_cross_entropy(
            hidden, weight, labels.flatten()[labelled], reduction=reduction, options=options
        )
        total = losses.float().sum()
        if teacher:
            total = teacher.blend(total, labelled, lambda part: hidden[part] @ weight.T)
        return total / max(float(num_items_in_batch), 1.0)

    return loss


def find_labelled(labels: torch.Tensor) -> torch.Tensor:
    """The positions of a batch that have a label, all windows one after the other."""
    return (labels.flatten() != IGNORED).nonzero().squeeze(1)
