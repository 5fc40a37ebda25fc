"""Which form and precision a model can be converted to, and what it will take on the disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError

FORMATS = ("onnx", "ctranslate2", "ggml", "safetensors")
PRECISIONS = ("fp32", "fp16", "int8", "int4")
INTEGERS = {"int8": 8, "int4": 4}  # bits of a weight
# What no runtime of that form computes with, and what to take instead.
IMPOSSIBLE = {
    ("ctranslate2", "int4"): "CTranslate2 has no such kernels; take --precision int8, or --to onnx --precision int4",
    ("ggml", "fp32"): "whisper.cpp's convolutions compute with float16 weights alone; take --precision fp16",
    ("safetensors", "int8"): "transformers reads floats there; take --precision fp16, or --to onnx",
    ("safetensors", "int4"): "transformers reads floats there; take --precision fp16, or --to onnx",
}
ROOM = 1.1  # of what was estimated: file systems need some, and so does what travels along


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
    """The size on the disk of `model` in `form`, to a few percent: weights, and a scale for each group of them."""
    floats = 2 if form.precision == "fp16" else 4
    matrices = sum(weight.numel() for name, weight in model.named_parameters() if is_matrix(name, weight))
    others = sum(weight.numel() for weight in model.parameters()) - matrices
    each = form.bits / 8 * (1 + 8 / 128) if form.bits else floats
    return int(matrices * each + others * (2 if form.format == "ggml" else floats))


def is_matrix(name: str, weight: Any) -> bool:
    """Whether a parameter is a matrix that is multiplied with, as against positions, norms and convolutions."""
    return weight.dim() == 2 and "embed_positions" not in name


def check_room(folder: Path, needed: int) -> None:
    """Raises UserError when the disk of `folder`, which is there, has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed * ROOM:
        raise UserError(
            f"convert: --output: {folder}: needs {as_size(needed * ROOM)}, and {as_size(free)} are free;"
            " make room or name a folder on another disk"
        )


def as_size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
