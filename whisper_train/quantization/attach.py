"""Puts fake quantizers into a Whisper, as its target needs them, and proves that they are there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from whisper_train.errors import RunFailed, UserError
from whisper_train.job_quantization import Quantization
from whisper_train.quantization.activations import Activation
from whisper_train.quantization.grid import Grid, find_codes, find_scales
from whisper_train.quantization.layers import Quantized, Switch, as_matrix, swap

PROJECTION, EMBEDDING = "proj_out", "model.decoder.embed_tokens"  # one tensor
BLOCK, SMALLEST_BLOCK = 128, 16  # of MatMulNBits where a row has one scale, which is then repeated for each block
ROWS_LOOKED_AT = 64  # of each matrix, when it is proved that it is rounded


@dataclass(frozen=True, kw_only=True, slots=True)
class Attached:
    """A module whose weights are rounded to `grid`, and its inputs as `activation` says; null: they are not."""

    name: str
    grid: Grid
    activation: Activation | None


def attach(model: Any, quantization: Quantization, switch: Switch | None = None) -> list[Attached]:
    """Makes every matrix of `model`, a Whisper without adapters, that `quantization` means round itself.

    Raises UserError for names in keep_float that the model lacks, and where nothing would be rounded.
    """
    attached = choose(model, quantization)
    put_in(model, attached, switch or Switch())
    check_attached(model, quantization)
    return attached


def choose(model: Any, quantization: Quantization) -> list[Attached]:
    """How each matrix of `model` that `quantization` means is rounded; raises UserError as attach() does."""
    names = list(quantizable(model, quantization.target))
    check_patterns(quantization.keep_float, names)
    chosen = [name for name in names if not is_kept(name, quantization.keep_float)]
    if not chosen:
        raise UserError(
            f"quantization.keep_float: {', '.join(quantization.keep_float)}: leaves nothing to quantize; take one out"
        )
    return [
        Attached(name=name, grid=grid_of(quantization), activation=input_of(name, width_of(model, name), quantization))
        for name in chosen
    ]


def put_in(model: Any, attached: Sequence[Attached], switch: Switch) -> None:
    for each in attached:
        swap(model.get_submodule(each.name), each.grid, each.activation, switch)


def quantizable(model: Any, target: str) -> Iterator[str]:
    """The names of the modules that a runtime could store as integers.

    Every linear layer, and the embedding, which is the output projection's own tensor. CTranslate2 stores the
    convolutions too. Positions, norms and biases stay float everywhere.
    """
    for name, module in model.named_modules():
        convolution = isinstance(module, nn.Conv1d) and target == "ctranslate2"
        if isinstance(module, nn.Linear) or name == EMBEDDING or convolution:
            yield name


def grid_of(quantization: Quantization) -> Grid:
    return Grid(bits=quantization.bits, group=quantization.group_size)


def width_of(model: Any, name: str) -> int:
    return int(model.get_submodule(name).weight.shape[1])


def input_of(name: str, columns: int, quantization: Quantization) -> Activation | None:
    """How the runtime rounds the input, of so many columns, of the module `name`."""
    if not quantization.activations or name == EMBEDDING or is_convolution(name):
        return None
    if quantization.target == "ctranslate2":
        return Activation(kind="row-int8")
    if quantization.group_size is None and is_run_once(name):
        return Activation(kind="window-uint8")
    return Activation(kind="block-int8", block=quantization.group_size or block_for(columns))


def block_for(columns: int) -> int:
    """The widest block up to BLOCK that fills a row of so many columns."""
    size = BLOCK
    while size > SMALLEST_BLOCK and columns % size:
        size //= 2
    return size


def is_convolution(name: str) -> bool:
    return name.endswith((".conv1", ".conv2"))


def is_run_once(name: str) -> bool:
    """Whether the module is computed once a window: the encoder, and the decoder's keys and values of what it heard."""
    return name.startswith("model.encoder.") or name.endswith((".encoder_attn.k_proj", ".encoder_attn.v_proj"))


def is_kept(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` keeps the module in float. The embedding and the projection are one tensor."""
    names = (PROJECTION, EMBEDDING) if name in (PROJECTION, EMBEDDING) else (name,)
    return any(fits(one, pattern) for one in names for pattern in patterns)


def fits(name: str, pattern: str) -> bool:
    """Whether `pattern` names the module or one it is in, with or without the `model.` before all but proj_out."""
    pattern = pattern.removeprefix("model.")
    short = name.removeprefix("model.")
    return fnmatchcase(short, pattern) or fnmatchcase(short, f"{pattern}.*")


def check_patterns(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError for a pattern that fits no module: a typing mistake would quantize what is to stay float."""
    for pattern in patterns:
        if any(fits(name, pattern) for name in names):
            continue
        known = {name.removeprefix("model.") for name in names}
        known |= {
            ".".join(parts[:end]) for parts in (name.split(".") for name in known) for end in range(1, len(parts))
        }
        near = get_close_matches(pattern.removeprefix("model."), sorted(known), n=3, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "there are encoder.layers.0.fc1, decoder.layers.0, proj_out …"
        )
        raise UserError(f"quantization.keep_float: {pattern}: fits no matrix of the base; {hint}")


def check_attached(model: Any, quantization: Quantization) -> None:
    """Raises RunFailed unless every matrix rounds itself to the grid that was asked for, or was to stay float.

    Looks at the model as it is about to train, not at what attaching it said: an unnoticed failure there is what makes
    a quantization-aware training one of floats (or of int8 where int4 was asked for).
    """
    grid = grid_of(quantization)
    modules = dict(model.named_modules())
    found = 0
    for name in quantizable(model, quantization.target):
        module = modules[name]
        if is_kept(name, quantization.keep_float):
            continue
        if not isinstance(module, Quantized):
            raise RunFailed(
                f"quantization: {name} has no fake quantizer: it would be trained as float; nothing was trained"
            )
        if module.grid != grid:
            raise RunFailed(
                f"quantization: {name} rounds to {module.grid.bits} bits in groups of {module.grid.group}, and"
                f" {grid.bits} bits in groups of {grid.group} were asked for; nothing was trained"
            )
        if not module.weight.is_meta and not is_rounded(module):
            raise RunFailed(f"quantization: {name} computes with weights that are not on its grid; nothing was trained")
        found += 1
    if not found:
        raise RunFailed("quantization: no fake quantizer is in the model; nothing was trained")


@torch.no_grad()
def is_rounded(module: Any) -> bool:
    """Whether the first rows of the weight that `module` computes with are on its grid, up to the weight's own type."""
    was_on, module.switch.on = module.switch.on, True
    try:
        seen = as_matrix(module.rounded_weight())[:ROWS_LOOKED_AT].float()
    finally:
        module.switch.on = was_on
        module.known = None
    scales = find_scales(as_matrix(module.weight)[:ROWS_LOOKED_AT], module.grid)
    codes = find_codes(seen, scales, module.grid)
    width = module.grid.group or seen.shape[1]
    steps = scales.repeat_interleave(width, dim=1)[:, : seen.shape[1]]
    nearest = codes.float() * steps
    return bool(((seen - nearest).abs() <= nearest.abs() * torch.finfo(module.weight.dtype).eps).all())
