"""Which module writes, reads and runs a format; each has the same five functions and is imported when it is needed."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from whisper_train.errors import UserError
from whisper_train.export.forms import Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import Read
from whisper_train.export.source import Source
from whisper_train.export.verify import Traced

# By format: the module, and the packages it needs.
MODULES = {
    "onnx": ("onnx_format", ("onnx", "onnxscript", "onnxruntime")),
    "ctranslate2": ("ctranslate2_format", ("ctranslate2",)),
    "ggml": ("ggml_format", ()),
    "safetensors": ("safetensors_format", ()),
}


class Format(Protocol):
    """What a module of MODULES has."""

    absent: str  # why open() may return None

    def check(self, source: Source, form: Form) -> None:
        """Raises UserError for a model that the format or its runtime cannot hold."""

    def write(self, source: Source, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None: ...

    def read(self, folder: Path, placed: Mapping[str, OnGrid]) -> Iterable[tuple[str, Read | None]]:
        """The integers of each weight of `placed` as they stand in the files."""

    def open_exact(self, source: Source, placed: Mapping[str, OnGrid], folder: Path) -> tuple[str, Traced] | None:
        """What of a quantized folder can compute with float activations, and it; None where nothing can."""

    def open(self, folder: Path) -> Any:
        """A verify.Runtime, or None where there is none."""


def ready(form: Form) -> Format:
    """The module of `form`; raises UserError when a package that it needs is missing."""
    from importlib.util import find_spec

    module, needs = MODULES[form.format]
    if missing := [name for name in needs if find_spec(name) is None]:
        raise UserError(f"convert: --to {form.format}: needs {' and '.join(missing)}: pip install 'whisper-train[qat]'")
    return import_module(f"whisper_train.export.{module}")
