"""Which form and precision a model can be converted to, and what it will take on the disk."""

from dataclasses import dataclass
from typing import Any

from whisper_train.errors import UserError

FORMATS = ("onnx", "ctranslate2", "ggml", "safetensors")
PRECISIONS = ("fp32", "fp16", "int8", "int4")
ENCODER, DECODER = "encoder_model.onnx", "decoder_model.onnx"  # optimum's names
INTEGERS = {"int8": 8, "int4": 4}  # bits of a weight
# What no runtime of that form computes with, and what to take instead.
IMPOSSIBLE = {
    ("ctranslate2", "int4"): "CTranslate2 has no such kernels; take --precision int8, or --to onnx --precision int4",
    ("ggml", "fp32"): "whisper.cpp's convolutions compute with float16 weights alone; take --precision fp16",
    ("safetensors", "int8"): "transformers reads floats there; take --precision fp16, or --to onnx",
    ("safetensors", "int4"): "transformers reads floats there; take --precision fp16, or --to onnx",
}
ROOM = 1.1  # of what the weights take: graphs and what travels along need some too


@dataclass(frozen=True, slots=True)
class Form:
    """What a folder is to hold: the format, and the precision of its weights."""

    format: str
    precision: str

    @property
    def folder(self) -> str:
        return f"{self.format}-{self.precision}"

    @property
    def bits(self) -> int | None:
        """Of a quantized weight; None where all are floats."""
        return INTEGERS.get(self.precision)


def check_form(form: Form) -> None:
    """Raises UserError with the way out for what cannot be had."""
    for key, value, there in (("--to", form.format, FORMATS), ("--precision", form.precision, PRECISIONS)):
        if value not in there:
            raise UserError(f"convert: {key}: {value}: no such one; there are {', '.join(there)}")
    if way_out := IMPOSSIBLE.get((form.format, form.precision)):
        raise UserError(f"convert: --to {form.format} --precision {form.precision}: {way_out}")


def estimate_bytes(model: Any, form: Form) -> int:
    """The size on the disk of `model` in `form`, a little too much: weights, a scale for each group, companions."""
    floats = 2 if form.precision == "fp16" else 4
    matrices = sum(weight.numel() for name, weight in model.named_parameters() if is_matrix(name, weight))
    others = sum(weight.numel() for weight in model.parameters()) - matrices
    each = form.bits / 8 * (1 + 8 / 128) if form.bits else floats
    return int(ROOM * (matrices * each + others * (2 if form.format == "ggml" else floats)))


def is_matrix(name: str, weight: Any) -> bool:
    """Whether a parameter is a matrix that is multiplied with, as against positions, norms and convolutions."""
    return weight.dim() == 2 and "embed_positions" not in name
