"""Fake quantizers: layers of torch that compute with weights and inputs as the target runtime will have them.

A layer becomes one by changing its class (`swap`): its parameters, their names, what is tied and the state dict stay.
"""

from typing import Any

import torch
from torch import nn

from whisper_train.quantization.activations import Activation, InputRounding
from whisper_train.quantization.grid import Grid, on_grid


class Switch:
    """Whether the layers that share it round while they train; while they evaluate they always do."""

    def __init__(self, *, on: bool = True) -> None:
        self.on = on


def swap(module: Any, grid: Grid, activation: Activation | None, switch: Switch) -> None:
    """Makes `module`, a plain torch layer, round its weights to `grid` and its inputs as `activation` says."""
    module.__class__ = QUANTIZED[type(module)]
    module.grid, module.activation, module.switch, module.known = grid, activation, switch, None


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """A weight as (rows, columns): of a convolution each filter is a row, (channels, width) one after the other."""
    return weight.flatten(1)


class WeightRounding(torch.autograd.Function):
    """on_grid with the gradient passed straight through, also where a weight lies beyond the grid's end.

    Computed in float32 and returned in the type of the weight.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, grid: Grid) -> torch.Tensor:
        return on_grid(as_matrix(weight), grid).view_as(weight).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class Quantized:
    """What the quantized layers share. `known` is the rounded weight of an evaluation, with what it was made of."""

    grid: Grid
    activation: Activation | None
    switch: Switch
    known: tuple[Any, torch.Tensor] | None
    weight: torch.Tensor
    training: bool

    @property
    def rounds(self) -> bool:
        return self.switch.on or not self.training

    def train(self, mode: bool = True) -> Any:
        """As torch's; the weights may change now."""
        self.known = None
        return super().train(mode)  # type: ignore[misc]

    def rounded_weight(self) -> torch.Tensor:
        """The weight that the layer computes with. Generation asks for it at every token: it is made once."""
        if not self.rounds:
            return self.weight
        if self.training or torch.is_grad_enabled():
            return round_weight(self.weight, self.grid)
        source = (self.weight.data_ptr(), self.weight._version)
        if self.known is None or self.known[0] != source:
            self.known = (source, round_weight(self.weight, self.grid))
        return self.known[1]

    def rounded_input(self, values: torch.Tensor) -> torch.Tensor:
        if not self.rounds or self.activation is None:
            return values
        rounded: torch.Tensor = InputRounding.apply(values, self.activation)  # type: ignore[no-untyped-call]
        return rounded


def round_weight(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    rounded: torch.Tensor = WeightRounding.apply(weight, grid)  # type: ignore[no-untyped-call]
    return rounded


class QuantizedLinear(Quantized, nn.Linear):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.rounded_input(values), self.rounded_weight(), self.bias)


class QuantizedConv1d(Quantized, nn.Conv1d):
    """Rounds its weights alone: CTranslate2 stores convolutions in int8, and computes them in float."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self._conv_forward(values, self.rounded_weight(), self.bias)
        return result


class QuantizedEmbedding(Quantized, nn.Embedding):
    """Rounds the rows that are looked up: a row's grid does not depend on the others."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().forward(ids)
        return round_weight(rows.flatten(0, -2), self.grid).view_as(rows) if self.rounds else rows


QUANTIZED: dict[type, type] = {
    nn.Linear: QuantizedLinear,
    nn.Conv1d: QuantizedConv1d,
    nn.Embedding: QuantizedEmbedding,
}
