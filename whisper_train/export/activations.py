"""Activations as the runtimes round them, on a torch model whose weights are on their grids: for comparison."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from whisper_train.export.grids import OnGrid
from whisper_train.export.source import EMBEDDING
from whisper_train.quantization.activations import Activation, round_input


@contextmanager
def rounded_activations(model: Any, placed: Mapping[str, OnGrid]) -> Iterator[None]:
    """Within the block every layer of `model` whose weight is in `placed` rounds its input as its runtime does."""
    modules = dict(model.named_modules())
    handles = []
    for name, weight in placed.items():
        module = model.proj_out if name == EMBEDDING else modules[name.removesuffix(".weight")]
        if weight.activation:
            handles.append(module.register_forward_pre_hook(partial(round_first, weight.activation)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def round_first(activation: Activation, module: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (round_input(given[0], activation), *given[1:])
