"""The integers that stand in a file, read back and counted against the grid that they should be on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whisper_train.errors import RunFailed
from whisper_train.export.forms import DECODER, ENCODER
from whisper_train.export.grids import OnGrid
from whisper_train.export.onnx_layers import unpack_blocks
from whisper_train.export.source import EMBEDDING
from whisper_train.quantization.attach import is_run_once

SCALE_ERROR = 1e-6  # relative: a runtime that keeps the inverse of a scale rounds it once more


@dataclass(frozen=True, slots=True)
class Read:
    """A weight as a file holds it: codes int8 (rows, columns), scales float32 (rows, groups)."""

    codes: torch.Tensor
    scales: torch.Tensor


def count_integers(placed: Mapping[str, OnGrid], found: Iterable[tuple[str, Read | None]]) -> dict[str, Any]:
    """How many integers of how many tensors were compared; RunFailed naming the layers where one differs."""
    tensors = codes = 0
    wrong = []
    for name, read in found:
        if read is None:
            wrong.append(f"{name}: is not in the file as integers")
            continue
        wanted = placed[name]
        if read.codes.shape != wanted.codes.shape:
            wrong.append(f"{name}: has shape {tuple(read.codes.shape)}, not {tuple(wanted.codes.shape)}")
            continue
        differing = int((read.codes != wanted.codes).sum())
        smallest = torch.finfo(torch.float32).tiny  # GGML gives a block of zeros the scale 0
        error = float(((read.scales - wanted.scales).abs() / wanted.scales.abs().clamp(min=smallest)).max())
        if differing or not error <= SCALE_ERROR:
            wrong.append(f"{name}: {differing:,} of {wanted.codes.numel():,} integers differ, scales by {error:.1e}")
        tensors += 1
        codes += wanted.codes.numel()
    if wrong:
        more = f" (and {len(wrong) - 1} more layers)" if len(wrong) > 1 else ""
        raise RunFailed(f"the file does not hold the grid of the model: {wrong[0]}{more}; nothing was kept")
    assert tensors == len(placed), "a tensor was read twice, or not at all"
    return {"tensors": tensors, "integers": codes, "differing": 0}


def read_onnx(folder: Path, placed: Mapping[str, OnGrid]) -> Iterator[tuple[str, Read | None]]:
    """Each weight of `placed` as it stands in the two graphs of `folder`, and is multiplied with there."""
    import onnx

    for file, inside in ((ENCODER, True), (DECODER, False)):
        graph = onnx.load(folder / file, load_external_data=False).graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        used = {name for node in graph.node for name in quantized_inputs(node)}
        for name, weight in placed.items():
            if is_run_once(name.removesuffix(".weight")) == inside:
                yield name, read_layer(name, weight, stored, used, folder)


def quantized_inputs(node: Any) -> list[str]:
    """The names of the integers that a node multiplies with."""
    return [node.input[1]] if node.op_type in ("MatMulNBits", "MatMulInteger") else []


def read_layer(name: str, weight: OnGrid, stored: Mapping[str, Any], used: set[str], folder: Path) -> Read | None:
    """One layer's integers; None when there are none, or no node multiplies with them."""
    layer = layer_in_graph(name)
    kind = next((kind for kind in ("packed", "codes") if f"{layer}.{kind}" in used), None)
    if kind is None or f"{layer}.{kind}" not in stored or f"{layer}.scales" not in stored:
        return None
    values, scales = as_tensor(stored[f"{layer}.{kind}"], folder), as_tensor(stored[f"{layer}.scales"], folder)
    if kind == "codes":
        return Read(values.T, scales[:, None])
    rows, columns = weight.codes.shape
    codes = unpack_blocks(values.view(rows, -1, values.shape[-1]), weight.grid.bits, columns)
    scales = scales.view(rows, -1)
    if weight.grid.group is None:  # the row's scale is repeated; were it not, the lowest and highest would differ
        scales = torch.where(scales.amin(1) == scales.amax(1), scales[:, 0], torch.nan)[:, None]
    return Read(codes, scales)


def layer_in_graph(name: str) -> str:
    """What onnx_graphs.py calls the layer whose weight is the parameter `name`."""
    if name == EMBEDDING:
        return "project"
    layer = name.removesuffix(".weight").removeprefix("model.encoder.").removeprefix("model.decoder.")
    if is_run_once(name.removesuffix(".weight")) and ".encoder_attn." in name:
        _, number, _, part = layer.split(".")
        return f"cross.{number}.{part}"
    return layer


def as_tensor(stored: Any, folder: Path) -> torch.Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(stored, str(folder)).copy())
