"""Weights put on their grids before a conversion, so that model, file and what was trained hold the same numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from whisper_train.export.forms import Form, is_matrix
from whisper_train.export.ggml_blocks import GROUP as GGML_GROUP
from whisper_train.export.ggml_blocks import quantize as quantize_ggml
from whisper_train.export.source import Quantization
from whisper_train.quantization.grid import Grid, decode, find_codes, find_scales

INT4_GROUP = 128  # columns that share a scale, where no training chose it
CONVOLUTIONS = ("model.encoder.conv1.weight", "model.encoder.conv2.weight")  # CTranslate2 quantizes them, too


@dataclass(frozen=True, slots=True)
class OnGrid:
    """A weight as integers: codes int8 (rows, columns), scales float32 (rows, groups)."""

    codes: torch.Tensor
    scales: torch.Tensor
    grid: Grid

    def decoded(self) -> torch.Tensor:
        """The float32 weight (rows, columns) that a runtime computes with."""
        return decode(self.codes, self.scales, self.grid)


def choose_grids(model: Any, form: Form, quantization: Quantization | None) -> dict[str, Grid]:
    """The grid of each weight that is quantized in `form`, by its parameter's name.

    A model that was trained on grids keeps them, and in floats what it had in floats; any other gets those of the form.
    """
    if form.bits is None:
        return dict(quantization.grids) if quantization else {}
    group = {8: None, 4: INT4_GROUP}[form.bits] if form.format != "ggml" else GGML_GROUP
    usual = Grid(bits=form.bits, group=group)
    matrices = {name: usual for name, weight in model.named_parameters() if is_matrix(name, weight)}
    if form.format == "ctranslate2":  # its converter quantizes all of them, whatever was trained
        return {**matrices, **dict.fromkeys(CONVOLUTIONS, usual)}
    if quantization and form.format == "onnx":
        return {name: grid for name, grid in quantization.grids.items() if name in matrices}
    return matrices


@torch.no_grad()
def put_on_grids(model: Any, grids: Mapping[str, Grid], form: Form) -> dict[str, OnGrid]:
    """Rounds the weights of `model` in place and returns them as integers, by name."""
    weights = dict(model.named_parameters())
    placed = {}
    for name, grid in grids.items():
        flat = weights[name].detach().float().flatten(1)
        if form.format == "ggml" and form.bits:
            codes, scales = quantize_ggml(flat, form.bits)
        else:
            scales = find_scales(flat, grid)
            codes = find_codes(flat, scales, grid)
        placed[name] = OnGrid(codes, scales, grid)
        weights[name].copy_(placed[name].decoded().view_as(weights[name]))
    return placed
