"""The two graphs of onnx_graphs.py as files, with their weights beside them where they are large."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whisper_train.export.forms import DECODER, ENCODER, Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.onnx_graphs import DecoderGraph, EncoderGraph, cache_names

OPSET = 20  # the first with Gelu
INLINE_BYTES = 1_500_000_000  # of weights; protobuf ends at 2 GB


def write_onnx(model: Any, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None:
    """Writes encoder and decoder of `model`, whose weights are on their grids, to `folder`."""
    if form.precision == "fp16":
        model = deepcopy(model).half()  # what is proven is held against the model as it was
    layers = model.config.decoder_layers
    with torch.no_grad():
        encoder = EncoderGraph(model, placed).eval()
        write_graph(encoder, encoder_example(model), encoder_shapes(), folder / ENCODER,
                    ["input_features"], cache_names(layers, "present", "encoder"))  # fmt: skip
        decoder = DecoderGraph(model, placed).eval()
        inputs = ["input_ids", *cache_names(layers, "past_key_values", "decoder")]
        inputs += cache_names(layers, "past_key_values", "encoder")
        outputs = ["logits", *cache_names(layers, "present", "decoder")]
        write_graph(decoder, decoder_example(model), decoder_shapes(layers), folder / DECODER, inputs, outputs)


def write_graph(
    graph: nn.Module,
    example: tuple[Any, ...],
    shapes: tuple[Any, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
) -> None:
    """Exports `graph` as it runs on `example`; `shapes` name the dimensions that may have other sizes."""
    with quiet():
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    weights = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    program.save(path, external_data=weights > INLINE_BYTES)
    name_dimensions(path)


def name_dimensions(path: Path) -> None:
    """Gives the dimensions that may vary a name for who reads the graph, instead of the exporter's s57."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    names: dict[str, str] = {}
    for value in [*model.graph.input, *model.graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        if value.name in ("input_ids", "input_features"):
            names |= {dimensions[0].dim_param: "rows" if value.name == "input_ids" else "clips"}
            names |= {dimensions[1].dim_param: "tokens"}
        elif value.name.startswith("past"):
            names.setdefault(dimensions[2].dim_param, "past")
            names.setdefault(dimensions[0].dim_param, "clips" if ".encoder." in value.name else "rows")
        elif ".decoder." in value.name:
            names.setdefault(dimensions[2].dim_param, "past + tokens")
        for dimension in dimensions:
            if dimension.dim_param in names and dimension.dim_param:
                dimension.dim_param = names[dimension.dim_param]
    del model.graph.value_info[:]
    onnx.save(model, path)


def encoder_example(model: Any) -> tuple[Any, ...]:
    frames = 2 * model.config.max_source_positions
    return (torch.zeros(2, model.config.num_mel_bins, frames),)


def encoder_shapes() -> tuple[Any, ...]:
    return ({0: torch.export.Dim.DYNAMIC},)


def decoder_example(model: Any) -> tuple[Any, ...]:
    """Six rows of three tokens after five, for two clips."""
    config, dtype = model.config, model.dtype
    heads = config.decoder_attention_heads
    size = config.d_model // heads
    past = [torch.zeros(6, heads, 5, size, dtype=dtype) for _ in range(2 * config.decoder_layers)]
    places = config.max_source_positions
    cross = [torch.zeros(2, heads, places, size, dtype=dtype) for _ in range(2 * config.decoder_layers)]
    return (torch.ones(6, 3, dtype=torch.long), past, cross)


def decoder_shapes(layers: int) -> tuple[Any, ...]:
    some = torch.export.Dim.DYNAMIC
    return ({0: some, 1: some}, [{0: some, 2: some}] * (2 * layers), [{0: some}] * (2 * layers))


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block the exporter tells nothing of its ways."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
