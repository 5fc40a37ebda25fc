"""The loss: a mean over the label tokens of the global batch, without logits where nobody has a label."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from whisper_train.data.dataset import IGNORED

LARGE_VOCABULARY = 16_384  # words; with fewer the logits are small, and the ordinary way is as good
POSITIONS_AT_ONCE = 512  # whose logits are held at a time: 106 MB in float32 for Whisper's 51,866 words

Loss = Callable[..., torch.Tensor]


class DeferredProjection(nn.Linear):
    """The output projection, which hands hidden states through while training: the loss applies it itself."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.training else super().forward(hidden)


def make_loss(model: Any, label_smoothing: float, dtype: torch.dtype) -> Loss:
    """The loss that suits `model`, a Whisper or one with adapters; with a large vocabulary its projection is deferred.

    `dtype` is the one that matrices are multiplied in. Label smoothing needs every logit, and so do adapters on the
    projection.
    """
    whisper = model.get_base_model() if hasattr(model, "get_base_model") else model  # behind adapters
    projection = whisper.proj_out
    if projection.out_features < LARGE_VOCABULARY or label_smoothing or type(projection) is not nn.Linear:
        return token_mean_loss(label_smoothing)
    deferred = DeferredProjection(projection.in_features, projection.out_features, bias=False, device="meta")
    deferred.weight = projection.weight  # still the embedding's
    deferred.train(projection.training)
    whisper.proj_out = deferred
    return projected_loss(deferred, dtype)


def is_deferred(model: Any) -> bool:
    """Whether `make_loss` left the projection of `model` to the loss."""
    return isinstance(model.get_output_embeddings(), DeferredProjection)


def token_mean_loss(label_smoothing: float) -> Loss:
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
        return total / max(float(num_items_in_batch), 1.0)

    return loss


def projected_loss(projection: nn.Linear, dtype: torch.dtype) -> Loss:
    """The same of hidden states, a few positions at a time and only where there is a label.

    In half precision torch adds up the losses of positions in half precision too, so they are added up here.
    """
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=POSITIONS_AT_ONCE, chunking_method=None)
    reduction = "sum" if dtype == torch.float32 else "none"

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int) -> torch.Tensor:
        hidden, weight = outputs.logits.flatten(0, 1), projection.weight
        labelled = (labels.flatten() != IGNORED).nonzero().squeeze(1)
        losses = nn.functional.linear_cross_entropy(
            hidden[labelled].to(dtype),
            weight.to(dtype),
            labels.flatten()[labelled],
            reduction=reduction,
            options=options,
        )
        return losses.float().sum() / max(float(num_items_in_batch), 1.0)

    return loss
