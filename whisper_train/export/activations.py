"""Activations as the runtimes round them, on a torch model whose weights are on their grids: for comparison.

ONNX Runtime: DynamicQuantizeLinear (uint8, one scale for the whole tensor) before MatMulInteger, and int8 with a scale
for each row and block within MatMulNBits. CTranslate2: int8 with a scale for each row. whisper.cpp: blocks of 32.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from whisper_train.export.forms import Form
from whisper_train.export.ggml_blocks import GROUP
from whisper_train.export.grids import CONVOLUTIONS, OnGrid
from whisper_train.export.onnx_layers import block_for
from whisper_train.export.source import EMBEDDING

Rounding = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def rounded_activations(model: Any, placed: Mapping[str, OnGrid], form: Form) -> Iterator[None]:
    """Within the block every layer of `model` whose weight is in `placed` computes as the runtime of `form` does."""
    modules = dict(model.named_modules())
    handles = []
    for name, weight in placed.items() if form.bits else ():
        module = model.proj_out if name == EMBEDDING else modules[name.removesuffix(".weight")]
        hook = round_convolution if name in CONVOLUTIONS else partial(round_input, choose(name, weight, form))
        place = module.register_forward_hook if name in CONVOLUTIONS else module.register_forward_pre_hook
        handles.append(place(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def choose(name: str, weight: OnGrid, form: Form) -> Rounding:
    """How the runtime of `form` rounds what the layer called `name` multiplies with."""
    columns = weight.codes.shape[1]
    if form.format == "ctranslate2":
        return partial(by_block, block=columns)
    if form.format == "ggml":
        return partial(by_block, block=GROUP)
    if is_encoded(name) and form.precision == "int8":
        return by_tensor
    return partial(by_block, block=weight.grid.group or block_for(columns))


def is_encoded(name: str) -> bool:
    """Whether a layer is in the encoder's graph, which computes the keys and values of cross-attention, too."""
    return name.startswith("model.encoder.") or ".encoder_attn.k_proj" in name or ".encoder_attn.v_proj" in name


def round_input(rounding: Rounding, module: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (rounding(given[0]), *given[1:])


def round_convolution(module: Any, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
    """A convolution as CTranslate2 computes it: a product over all inputs that one place of the result sees."""
    seen = torch.nn.functional.unfold(
        given[0].unsqueeze(2), (1, module.kernel_size[0]), padding=(0, module.padding[0]), stride=(1, module.stride[0])
    )
    rounded = by_block(seen.transpose(1, 2), block=seen.shape[1])
    product = torch.nn.functional.linear(rounded, module.weight.flatten(1), module.bias)
    return product.transpose(1, 2)


def by_tensor(value: torch.Tensor) -> torch.Tensor:
    """uint8 with a zero point, one scale (ONNX, DynamicQuantizeLinear)."""
    lowest, highest = value.amin().clamp(max=0), value.amax().clamp(min=0)
    scale = (highest - lowest) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-lowest / scale).clamp(0, 255)
    return ((torch.round(value / scale) + zero).clamp(0, 255) - zero) * scale


def by_block(value: torch.Tensor, block: int) -> torch.Tensor:
    """int8 without a zero point, a scale for each `block` of the last dimension."""
    columns = value.shape[-1]
    grouped = torch.unflatten(torch.nn.functional.pad(value, (0, -columns % block)), -1, (-1, block))
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (torch.round(grouped / scale) * scale).flatten(-2)[..., :columns]
