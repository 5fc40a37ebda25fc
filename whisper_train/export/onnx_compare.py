"""A file and its model norm by norm: the first layer from which on they differ."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_train.export.forms import DECODER, ENCODER
from whisper_train.export.onnx_layers import FLOAT_ACTIVATIONS
from whisper_train.export.onnx_runtime import OnnxWhisper, as_value, open_session


def open_changed(folder: Path, file: str, *, exact: bool, norms: bool = False) -> Any:
    """The session of a graph of `folder`: with `exact` float activations, with `norms` as outputs, in their order."""
    import onnx

    model = onnx.load(folder / file, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute if exact and node.op_type == "MatMulNBits" else ():
            if attribute.name == "accuracy_level":
                attribute.i = FLOAT_ACTIVATIONS
    if norms:
        names = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    beside = folder / f".changed-{file}"  # beside the weights, which are found by their place
    try:
        onnx.save(model, beside)
        return open_session(beside)
    finally:
        beside.unlink(missing_ok=True)


def find_layer(
    runtime: OnnxWhisper, model: Any, features: NDArray[np.float32], ids: Sequence[int], bound: float, *, exact: bool
) -> str | None:
    """Names the norm of `model` where it first differs by more than `bound` of its range, and the one before it.

    None where no norm does: then it is the output's own layer.
    """
    wanted = torch_norms(model, features, ids)
    found = onnx_norms(runtime, features, ids, exact=exact)
    before = "the input"
    for (name, value), other in zip(wanted, found, strict=True):
        if not np.abs(value - other).max() <= bound * np.ptp(value):
            return f"between {before} and {name}"
        before = name
    return f"after {before}"


@torch.inference_mode()
def torch_norms(model: Any, features: NDArray[np.float32], ids: Sequence[int]) -> list[tuple[str, NDArray[np.float32]]]:
    """What each norm gives, by name, in the order of the computation."""
    found: list[tuple[str, NDArray[np.float32]]] = []
    with watching(model, found):
        model(input_features=torch.from_numpy(features)[None], decoder_input_ids=torch.tensor([list(ids)]))
    return found


@contextmanager
def watching(model: Any, found: list[tuple[str, NDArray[np.float32]]]) -> Any:
    def keep(name: str) -> Any:
        return lambda module, given, result: found.append((name, result.float().numpy()))

    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    handles = [module.register_forward_hook(keep(name)) for name, module in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def onnx_norms(
    runtime: OnnxWhisper, features: NDArray[np.float32], ids: Sequence[int], *, exact: bool
) -> list[NDArray[np.float32]]:
    encoder = open_changed(runtime.folder, ENCODER, exact=exact, norms=True)
    decoder = open_changed(runtime.folder, DECODER, exact=exact, norms=True)
    keys = len(runtime.cross)
    encoded = encoder.run(None, {"input_features": features[None]})
    empty = np.zeros((1, runtime.heads, 0, runtime.size), runtime.dtype)
    feeds = dict.fromkeys(runtime.past, empty) | dict(zip(runtime.cross, encoded[:keys], strict=True))
    decoded = decoder.run(None, {**feeds, "input_ids": np.array([list(ids)], np.int64)})
    return [*encoded[keys:], *decoded[len(runtime.outputs) :]]


class GivenCross:
    """The runtime's decoder upon keys and values of cross-attention that torch computed."""

    def __init__(self, runtime: OnnxWhisper, model: Any) -> None:
        from whisper_train.export.onnx_graphs import EncoderGraph

        self.runtime, self.rules = runtime, runtime.rules
        self.graph = EncoderGraph(model, {}).eval()

    def trace(self, features: NDArray[np.float32], prompt: Sequence[int], count: int) -> Any:
        with torch.inference_mode():
            cross = [as_value(one.numpy().copy()) for one in self.graph(torch.from_numpy(features)[None])]
        return self.runtime.trace_cross(cross, prompt, count)
