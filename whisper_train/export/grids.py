"""Weights put on their grids before a conversion, so that model, file and what was trained hold the same numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from whisper_train.export.forms import Form
from whisper_train.export.ggml_blocks import GROUP as GGML_GROUP
from whisper_train.export.ggml_blocks import quantize as quantize_ggml
from whisper_train.export.source import Trained, by_parameter
from whisper_train.job_quantization import Quantization
from whisper_train.quantization.activations import Activation
from whisper_train.quantization.attach import Attached, choose
from whisper_train.quantization.grid import Grid, decode, find_codes, find_scales


@dataclass(frozen=True, slots=True)
class OnGrid:
    """A weight as integers: codes int8 (rows, columns), scales float32 (rows, groups); and how its input is rounded."""

    codes: torch.Tensor
    scales: torch.Tensor
    grid: Grid
    activation: Activation | None

    def decoded(self) -> torch.Tensor:
        """The float32 weight (rows, columns) that a runtime computes with."""
        return decode(self.codes, self.scales, self.grid)


def choose_layers(model: Any, form: Form, trained: Trained | None) -> dict[str, Attached]:
    """How each weight that is an integer in `form` is rounded, and its input, by the parameter's name.

    A model that was trained on grids keeps them, and in floats what it had in floats; any other gets those of the form.
    """
    if form.bits is None:
        return dict(trained.layers) if trained else {}
    if form.format == "ggml":
        block = Activation(kind="block-int8", block=GGML_GROUP)
        layers = choose(model, Quantization.model_validate({"scheme": form.precision, "target": "onnx"}))
        grid = Grid(bits=form.bits, group=GGML_GROUP)
        return by_parameter(Attached(name=each.name, grid=grid, activation=block) for each in layers)
    usual = by_parameter(choose(model, Quantization.model_validate({"scheme": form.precision, "target": form.format})))
    if trained is None or form.format == "ctranslate2":  # whose converter quantizes all, whatever was trained
        return usual
    if trained.target == form.format:
        return dict(trained.layers)
    return {name: replace(usual[name], grid=one.grid) for name, one in trained.layers.items() if name in usual}


@torch.no_grad()
def put_on_grids(model: Any, layers: Mapping[str, Attached], form: Form) -> dict[str, OnGrid]:
    """Rounds the weights of `model` in place and returns them as integers, by name."""
    weights = dict(model.named_parameters())
    placed = {}
    for name, layer in layers.items():
        grid = layer.grid
        flat = weights[name].detach().float().flatten(1)
        if form.format == "ggml" and form.bits:
            codes, scales = quantize_ggml(flat, form.bits)
        else:
            scales = find_scales(flat, grid)
            codes = find_codes(flat, scales, grid)
        placed[name] = OnGrid(codes, scales, grid, layer.activation)
        weights[name].copy_(placed[name].decoded().view_as(weights[name]))
    return placed
