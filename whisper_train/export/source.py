"""The model that is converted: of a run, a folder or the hub; and on which grids it learned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.export.forms import Form
from whisper_train.model import load_model, load_processor
from whisper_train.paths import Directories
from whisper_train.quantization.grid import BITS, Grid

QUANTIZATION = "quantization.json"
VERSION = 1
EMBEDDING = "model.decoder.embed_tokens.weight"  # proj_out.weight is the same parameter


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantization:
    """What a quantization-aware training left in quantization.json: the grid of each tensor, by its name."""

    scheme: str
    target: str
    grids: Mapping[str, Grid]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A Whisper in float32 with its processor; `folder` is None for one of the hub."""

    name: str
    folder: Path | None
    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    quantization: Quantization | None = None


def find_place(name: str, directories: Directories) -> str:
    """The absolute folder or hub id that `name` stands for: a job, a job's file, a folder, or a name on the hub."""
    job = directories.models / Path(name.removeprefix("job:")).name.removesuffix(".yaml")
    if Path(name).is_dir():
        return str(Path(name).absolute())
    if (job / "config.json").is_file() and (name.startswith("job:") or name.count("/") == 0 or name.endswith(".yaml")):
        return str(job)
    if name.startswith(("job:", "/", "~", ".")) or name.endswith(".yaml"):
        raise UserError(f"convert: {name}: no model there ({job}); train the job first, or check the path")
    return name


def load_source(name: str, directories: Directories) -> Source:
    """The model that `name` stands for, in memory; raises UserError when there is none."""
    place = find_place(name, directories)
    folder = Path(place) if Path(place).is_absolute() else None
    quantization = read_quantization(folder) if folder else None
    model = load_model(place).eval()
    processor = load_processor(place, key="convert")
    if quantization:
        check_names(quantization, model, folder)
    return Source(name=name, folder=folder, model=model, processor=processor, quantization=quantization)


def read_quantization(folder: Path) -> Quantization | None:
    """On which grids the model in `folder` was trained; None where it was trained in floats.

    Raises UserError for a file that is not understood: a model would be rounded to other grids than it learned.
    """
    path = folder / QUANTIZATION
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version, scheme, target = facts["version"], facts["scheme"], facts["target"]
        tensors = facts["tensors"]
        grids = {as_parameter(name): as_grid(entry) for name, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{path}: cannot be understood ({error!r}); train the model again") from error
    if version != VERSION:
        raise UserError(f"{path}: version: {version}: is written by another whisper-train; take that one")
    return Quantization(scheme=scheme, target=target, grids=grids)


def as_parameter(name: str) -> str:
    """The parameter's name in a plain Whisper."""
    name = name if name.startswith(("model.", "proj_out.")) else f"model.{name}"
    name = name if name.endswith(".weight") else f"{name}.weight"
    return EMBEDDING if name == "proj_out.weight" else name


def as_grid(entry: Mapping[str, Any]) -> Grid:
    if entry["bits"] not in BITS:
        raise ValueError(f"bits: {entry['bits']}")
    return Grid(bits=entry["bits"], group=entry.get("group"))


def check_names(quantization: Quantization, model: Any, folder: Path | None) -> None:
    there = {name for name, _ in model.named_parameters()}
    if missing := sorted(quantization.grids.keys() - there):
        raise UserError(f"{folder}/{QUANTIZATION}: tensors: {missing[0]}: the model has no such weight; train it again")


def check_trained_for(quantization: Quantization | None, form: Form) -> None:
    """Raises UserError where a model that learned one grid would be rounded to another."""
    if quantization is None or form.bits is None or form.format == "ggml":
        return
    if quantization.scheme != form.precision:
        raise UserError(
            f"convert: --precision {form.precision}: the model was trained for {quantization.scheme}, and another grid"
            f" would undo that; take --precision {quantization.scheme}, or fp16"
        )
