"""The inputs of quantized matrices, rounded as the target runtimes round them: each to its own range, while it runs.

Always float32. The gradient passes as if nothing had been rounded: the range is that of the input itself, so that
nothing is cut off.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from whisper_train.quantization.grid import Grid, in_groups

Kind = Literal["window-uint8", "row-int8", "block-int8"]
SMALLEST = 1e-30  # below it 127 / absmax is not far from overflowing float32
KINDS: tuple[Kind, ...] = ("window-uint8", "row-int8", "block-int8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """How an input is rounded.

    window-uint8: ONNX Runtime's DynamicQuantizeLinear on one window: from its least to its largest element, 0 between
    them, asymmetric. row-int8: CTranslate2, each vector by its absmax / 127. block-int8: ONNX Runtime's MatMulNBits
    with accuracy_level 4, each `block` neighbouring elements of a vector by their absmax / 127.
    """

    kind: Kind
    block: int | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        assert (self.kind == "block-int8") == (self.block is not None), "only block-int8 has blocks"


def round_input(values: torch.Tensor, activation: Activation) -> torch.Tensor:
    """`values` (windows, …, columns) as the runtime multiplies them, of their shape and in float32."""
    values = values.detach().float()
    if activation.kind == "window-uint8":
        return round_windows(values)
    if activation.kind == "row-int8":
        return round_symmetric(values)
    assert activation.block is not None
    blocks = in_groups(values.flatten(0, -2), Grid(bits=8, group=activation.block))
    return round_symmetric(blocks).flatten(1)[:, : values.shape[-1]].reshape(values.shape)


def round_symmetric(values: torch.Tensor) -> torch.Tensor:
    """Each vector along the last dimension on 255 steps around 0."""
    largest = values.abs().amax(dim=-1, keepdim=True)
    largest = torch.where(largest > SMALLEST, largest, torch.full_like(largest, 127.0))  # a scale of 1: all become 0
    return torch.round(values * (127 / largest)) * (largest / 127)


def round_windows(values: torch.Tensor) -> torch.Tensor:
    """Each window (the first dimension) on 256 steps between its least and its largest element, or 0.

    A runtime that gets several windows at once takes one range for all of them; here each has its own, as when it is
    alone, so that neither the device batch nor the number of ranks changes what is learned.
    """
    flat = values.flatten(1)
    low, high = flat.amin(1, keepdim=True).clamp(max=0), flat.amax(1, keepdim=True).clamp(min=0)
    scale = torch.where(high > low, (high - low) / 255, torch.ones_like(low))
    zero = torch.round(-low / scale).clamp(0, 255)
    codes = (torch.round(flat / scale) + zero).clamp(0, 255)
    return ((codes - zero) * scale).reshape(values.shape)


class InputRounding(torch.autograd.Function):
    """round_input with the gradient passed straight through (Bengio et al. 2013, arXiv:1308.3432)."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, activation: Activation) -> torch.Tensor:
        return round_input(values, activation).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None
