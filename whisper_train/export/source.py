"""The model that is converted: of a run, a folder or the hub; and on which grids it learned."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.export.forms import Form
from whisper_train.job_file import find_file
from whisper_train.model import load_model, load_processor
from whisper_train.paths import Directories, find_config_dir
from whisper_train.quantization.attach import PROJECTION, Attached
from whisper_train.quantization.saved import read_attached, read_facts

EMBEDDING = "model.decoder.embed_tokens.weight"  # proj_out.weight is the same parameter


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a quantization-aware training left in quantization.json: how each weight is rounded, by its name."""

    scheme: str
    target: str
    layers: Mapping[str, Attached]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A Whisper in float32 with its processor; `folder` is None for one of the hub."""

    name: str
    folder: Path | None
    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    trained: Trained | None = None


def find_place(name: str, directories: Directories) -> str:
    """The absolute folder or hub id that `name` stands for: a job, a job's file, a folder, or a name on the hub."""
    job = directories.models / Path(name.removeprefix("job:")).name.removesuffix(".yaml")
    if Path(name).is_dir():
        return str(Path(name).absolute())
    if (job / "config.json").is_file() and (name.startswith("job:") or name.count("/") == 0 or name.endswith(".yaml")):
        return str(job)
    if name.startswith(("/", "~", ".")) and not name.endswith(".yaml"):
        raise UserError(f"convert: {name}: no model there; check the path")
    if name.startswith("job:") or name.endswith(".yaml") or is_job(name):
        raise UserError(f"convert: {name}: no model there ({job}); train the job first, or check the path")
    return name


def is_job(name: str) -> bool:
    """Whether the jobs folder has a job of that name; then it is not looked for on the hub."""
    return find_file(name, [find_config_dir(os.environ)], ".yaml") is not None


def load_source(name: str, directories: Directories) -> Source:
    """The model that `name` stands for, in memory; raises UserError when there is none."""
    place = find_place(name, directories)
    folder = Path(place) if Path(place).is_absolute() else None
    model = load_model(place, key="convert").eval()
    processor = load_processor(place, key="convert")
    return Source(name=name, folder=folder, model=model, processor=processor, trained=read_trained(model, place))


def read_trained(model: Any, place: str) -> Trained | None:
    """On which grids the model of `place` was trained; None where it was trained in floats.

    Raises UserError for a quantization.json that is not understood: the model would be rounded to other grids.
    """
    facts = read_facts(place)
    if facts is None:
        return None
    layers = by_parameter(read_attached(model, facts, place))
    return Trained(scheme=facts["scheme"], target=facts["target"], layers=layers)


def by_parameter(attached: Iterable[Attached]) -> dict[str, Attached]:
    """By the name of the weight: embedding and output projection are one, and the projection has an input to round."""
    found: dict[str, Attached] = {}
    for each in attached:
        name = EMBEDDING if each.name in (PROJECTION, EMBEDDING.removesuffix(".weight")) else f"{each.name}.weight"
        if name not in found or each.activation:
            found[name] = each
    return found


def check_trained_for(trained: Trained | None, form: Form) -> None:
    """Raises UserError where a model that learned one grid would be rounded to another."""
    if trained is None or form.bits is None or form.format == "ggml":
        return
    if trained.scheme != form.precision:
        raise UserError(
            f"convert: --precision {form.precision}: the model was trained for {trained.scheme}, and another grid"
            f" would undo that; take --precision {trained.scheme}, or fp16"
        )
