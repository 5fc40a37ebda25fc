"""ONNX: two graphs for plain onnxruntime (onnx_graphs.py)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.export.forms import Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import read_onnx as read
from whisper_train.export.onnx_compare import GivenCross, open_changed
from whisper_train.export.onnx_layers import is_dynamic
from whisper_train.export.onnx_runtime import OnnxWhisper
from whisper_train.export.onnx_write import DECODER, ENCODER, write_onnx
from whisper_train.export.reference import Reference
from whisper_train.export.sounds import Clip
from whisper_train.export.source import Source
from whisper_train.export.verify import EXACT, speakable, verify_logits
from whisper_train.job_quantization import GROUP_SIZES

__all__ = ["absent", "check", "open", "prove", "read", "write"]

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


def prove(
    source: Source,
    placed: Mapping[str, OnGrid],
    form: Form,
    folder: Path,
    clips: Sequence[Clip],
    language: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The logits once more with float activations, where nothing but the weights can make a difference.

    Where the encoder multiplies integers (MatMulInteger), the decoder alone: torch's own encoder stands in for it.
    """
    if not placed:
        return {}
    runtime = OnnxWhisper(folder)
    runtime.exact = True
    runtime.decoder = open_changed(folder, DECODER, exact=True)
    what = "decoder" if any(is_dynamic(weight) for weight in placed.values()) else "model"
    if what == "model":
        runtime.encoder = open_changed(folder, ENCODER, exact=True)
    given = GivenCross(runtime, source.model) if what == "decoder" else runtime
    language = language or speakable(runtime.rules)
    facts = verify_logits(given, Reference(source.model), clips, language, EXACT, f"{form.folder}: {what}")
    say(f"{what} with float activations: {facts['fraction']:.1e} of the range from the model's, {EXACT:g} allowed")
    return {f"{what}_with_float_activations": facts}


def open(folder: Path) -> OnnxWhisper:
    return OnnxWhisper(folder)
