"""Linear layers and embeddings as they are written into an ONNX graph: floats, blocks of integers, or dynamic int8."""

from typing import Any

import torch
from torch import nn

from whisper_train.export.grids import OnGrid
from whisper_train.quantization.attach import block_for

FLOAT_ACTIVATIONS = 1  # accuracy_level of MatMulNBits; with 8 bits it is slow
INT8_ACTIVATIONS = 4  # activations as int8, a scale for each row and block


class BlockLinear(nn.Module):
    """MatMulNBits of ONNX Runtime on the codes of `weight`; unsigned, shifted by half the range, low nibble first."""

    packed: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: OnGrid, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.bits = weight.grid.bits
        self.rows, self.columns = weight.codes.shape
        self.block = weight.grid.group or block_for(self.columns)
        self.level = INT8_ACTIVATIONS if weight.activation else FLOAT_ACTIVATIONS
        packed, scales = pack_blocks(weight, self.block)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, columns) to (batch, tokens, rows)."""
        product: torch.Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (value, self.packed, self.scales),
            {
                "K": self.columns,
                "N": self.rows,
                "bits": self.bits,
                "block_size": self.block,
                "accuracy_level": self.level,
            },
            dtype=value.dtype,
            shape=(*value.shape[:-1], self.rows),
            version=1,
        )
        return product if self.bias is None else product + self.bias


class BlockEmbedding(nn.Module):
    """Rows of the matrix that `projection` multiplies with: one copy of the vocabulary serves both."""

    def __init__(self, projection: BlockLinear) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) to (batch, tokens, columns)."""
        layer, flat = self.projection, ids.flatten()
        rows = torch.index_select(layer.packed, 0, flat)
        codes = rows.float()
        if layer.bits == 4:
            high = torch.floor(codes / 16)  # no shifts: exporter and runtime disagree on those of unsigned numbers
            codes = torch.stack((codes - 16 * high, high), dim=-1).flatten(-2)
        codes = codes - 2 ** (layer.bits - 1)
        scales = torch.index_select(layer.scales, 0, flat)
        rows = (codes * scales.unsqueeze(-1)).flatten(1)[:, : layer.columns]
        return torch.unflatten(rows, 0, ids.shape)


class DynamicLinear(nn.Module):
    """Activations quantized as they come (DynamicQuantizeLinear: uint8, one scale for all), then MatMulInteger."""

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: OnGrid, bias: torch.Tensor | None) -> None:
        super().__init__()
        assert weight.grid.group is None, "MatMulInteger has one scale a row"
        self.register_buffer("codes", weight.codes.T.contiguous())
        self.register_buffer("scales", weight.scales[:, 0].contiguous())
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, columns) to (batch, tokens, rows)."""
        quantized, scale, zero = torch.onnx.ops.symbolic_multi_out(
            "DynamicQuantizeLinear",
            (value,),
            dtypes=(torch.uint8, torch.float32, torch.uint8),
            shapes=(value.shape, (), ()),
            version=11,
        )
        whole = torch.onnx.ops.symbolic(
            "MatMulInteger",
            (quantized, self.codes, zero),
            dtype=torch.int32,
            shape=(*value.shape[:-1], self.codes.shape[1]),
            version=10,
        )
        product: torch.Tensor = whole.float() * (scale * self.scales)
        return product if self.bias is None else product + self.bias


def pack_blocks(weight: OnGrid, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 (rows, blocks, bytes) and float32 scales (rows, blocks) as MatMulNBits wants them."""
    shifted = (weight.codes.short() + 2 ** (weight.grid.bits - 1)).to(torch.uint8)
    filling = 2 ** (weight.grid.bits - 1)  # code 0
    missing = -shifted.shape[1] % block
    blocks = torch.unflatten(nn.functional.pad(shifted, (0, missing), value=filling), 1, (-1, block))
    if weight.grid.bits == 4:
        blocks = blocks[..., 0::2] | (blocks[..., 1::2] << 4)
    scales = weight.scales.expand(-1, blocks.shape[1]) if weight.grid.group is None else weight.scales
    return blocks.contiguous(), scales.contiguous()


def unpack_blocks(packed: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    """The codes int8 (rows, columns) that pack_blocks() packed."""
    if bits == 4:
        packed = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    codes: torch.Tensor = (packed.short() - 2 ** (bits - 1)).to(torch.int8)
    return codes.flatten(1)[:, :columns]


def make_linear(module: Any, weight: OnGrid | None) -> nn.Module:
    """What stands in the graph for the nn.Linear `module`: itself, or its integers."""
    if weight is None:
        return module  # type: ignore[no-any-return]
    return (DynamicLinear if is_dynamic(weight) else BlockLinear)(weight, module.bias)


def is_dynamic(weight: OnGrid) -> bool:
    """Whether `weight` is multiplied by MatMulInteger, upon inputs with one range a window."""
    return weight.activation is not None and weight.activation.kind == "window-uint8"
