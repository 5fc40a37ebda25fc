"""The numbers that a quantized weight can have: scales and codes, exactly as the target runtime computes them.

Always float32, round half to even, zero point 0. int8 is that of ONNX Runtime (QInt8) and CTranslate2: a scale a row,
absmax / 127, codes from -127. int4 is that of ONNX Runtime's MatMulNBits and of GGML's Q4_0: a scale for each group of
neighbouring columns, the element of largest magnitude, with its sign, / -8, so that this one is hit exactly.
"""

from dataclasses import dataclass

import torch

BITS = (8, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How finely a weight of shape (rows, columns) is divided, and over which of its elements a scale is shared."""

    bits: int
    group: int | None = None  # columns that share a scale; None: the whole row

    def __post_init__(self) -> None:
        assert self.bits in BITS, self.bits
        assert self.bits == 8 or self.group, "int4 over whole rows is no runtime's grid"

    @property
    def lowest(self) -> int:
        return -127 if self.bits == 8 else -8

    @property
    def highest(self) -> int:
        return 127 if self.bits == 8 else 7


def find_scales(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The scales of `weight` (rows, columns) as float32 (rows, groups); 1 where a group holds zeros only.

    The last group of a row is shorter where the columns are no multiple of it.
    """
    grouped = in_groups(weight.detach().float(), grid)
    largest = grouped.abs().amax(dim=-1, keepdim=True)
    if grid.bits == 8:
        scales = largest[..., 0] / 127
    else:
        place = grouped.abs().argmax(dim=-1, keepdim=True)
        scales = grouped.gather(-1, place)[..., 0] / -8
    return torch.where(scales == 0, torch.ones_like(scales), scales)


def find_codes(weight: torch.Tensor, scales: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The codes of `weight` (rows, columns) as int8 of its shape, between grid.lowest and grid.highest."""
    grouped = in_groups(weight.detach().float(), grid)
    codes = torch.round(grouped / scales[..., None]).clamp(grid.lowest, grid.highest)
    return codes.to(torch.int8).flatten(1)[:, : weight.shape[1]].contiguous()


def decode(codes: torch.Tensor, scales: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The float32 weight (rows, columns) that a runtime computes with."""
    return (in_groups(codes.float(), grid) * scales[..., None]).flatten(1)[:, : codes.shape[1]].contiguous()


def on_grid(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """`weight` (rows, columns) rounded to its grid, in float32."""
    scales = find_scales(weight, grid)
    return decode(find_codes(weight, scales, grid), scales, grid)


def in_groups(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(rows, columns) as (rows, groups, group), the last one filled up with zeros."""
    size = grid.group or weight.shape[1]
    groups = -(-weight.shape[1] // size)
    padding = groups * size - weight.shape[1]
    return torch.nn.functional.pad(weight, (0, padding)).reshape(len(weight), groups, size)
