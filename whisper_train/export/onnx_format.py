"""ONNX: two graphs for plain onnxruntime (onnx_graphs.py)."""

from collections.abc import Mapping
from pathlib import Path

from whisper_train.errors import UserError
from whisper_train.export.forms import DECODER, ENCODER, Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import read_onnx as read
from whisper_train.export.onnx_compare import GivenCross, open_changed
from whisper_train.export.onnx_layers import is_dynamic
from whisper_train.export.onnx_runtime import OnnxWhisper
from whisper_train.export.onnx_write import write_onnx
from whisper_train.export.source import Source
from whisper_train.export.verify import Traced
from whisper_train.job_quantization import GROUP_SIZES

__all__ = ["absent", "check", "open", "open_exact", "read", "write"]

absent = ""


def check(source: Source, form: Form) -> None:
    """Raises UserError for a trained group that MatMulNBits does not take."""
    for name, layer in (source.trained.layers if source.trained and form.bits else {}).items():
        if layer.grid.group not in (None, *GROUP_SIZES):
            raise UserError(
                f"convert: {name}: group: {layer.grid.group}: ONNX Runtime takes {', '.join(map(str, GROUP_SIZES))};"
                " take --precision fp16"
            )


def write(source: Source, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None:
    write_onnx(source.model, placed if form.bits else {}, form, folder)


def open_exact(source: Source, placed: Mapping[str, OnGrid], folder: Path) -> tuple[str, Traced]:
    """The model with float activations, where nothing but the weights can make a difference.

    Where the encoder multiplies integers (MatMulInteger), the decoder alone: torch's own encoder stands in for it.
    """
    runtime = OnnxWhisper(folder)
    runtime.exact = True
    runtime.decoder = open_changed(folder, DECODER, exact=True)
    if any(is_dynamic(weight) for weight in placed.values()):
        return "decoder", GivenCross(runtime, source.model)
    runtime.encoder = open_changed(folder, ENCODER, exact=True)
    return "model", runtime


def open(folder: Path) -> OnnxWhisper:
    return OnnxWhisper(folder)
