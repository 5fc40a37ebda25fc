"""`quantization.json`: what of a saved model is quantized, and how; and the model as its runtime will compute it.

It lies beside model.safetensors, in a run folder and in every checkpoint of a quantization-aware training:

    {
      "version": 1,
      "scheme": "int8",              int8 or int4
      "target": "onnx",              onnx or ctranslate2
      "rounded": true,               whether the weights beside it are on their grids already; those of a checkpoint
                                     are not: they are what training goes on from
      "tensors": {                   every quantized tensor, by its name in the state dict
        "model.encoder.layers.0.fc1.weight": {
          "bits": 8,
          "group": null,             columns that share a scale; null: the whole row
          "activation": {"kind": "window-uint8", "block": null}    of the matrix's input; null: it stays float
        }, …
      },
      "float": ["model.encoder.conv1.weight", …]     matrices and convolutions that stay float, by name
    }

Scales and codes are not in it: grid.find_scales and grid.find_codes give them from the weights beside it, rounded or
not. A convolution (filters, channels, width) is a matrix (filters, channels · width). `proj_out.weight` and
`model.decoder.embed_tokens.weight` are one tensor, which model.safetensors holds under the second name; both are
listed, since the projection has an input to round and the embedding has none. activations.Activation says what the
kinds are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job_quantization import Quantization
from whisper_train.model import QUANTIZATION_FILE, hub_problem, load_model
from whisper_train.paths import read_json
from whisper_train.quantization.activations import Activation
from whisper_train.quantization.attach import EMBEDDING, Attached, put_in
from whisper_train.quantization.grid import Grid, on_grid
from whisper_train.quantization.layers import Quantized, Switch, as_matrix

VERSION = 1


def describe(model: Any, quantization: Quantization, attached: Sequence[Attached], *, rounded: bool) -> dict[str, Any]:
    """What quantization.json says of `model`, which has these fake quantizers."""
    from torch import nn

    tensors = {
        f"{each.name}.weight": {
            "bits": each.grid.bits,
            "group": each.grid.group,
            "activation": {"kind": each.activation.kind, "block": each.activation.block} if each.activation else None,
        }
        for each in attached
    }
    stays = [
        f"{name}.weight"
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear | nn.Conv1d) or name == EMBEDDING) and not isinstance(module, Quantized)
    ]
    return {
        "version": VERSION,
        "scheme": quantization.scheme,
        "target": quantization.target,
        "rounded": rounded,
        "tensors": tensors,
        "float": stays,
    }


def round_weights(model: Any) -> None:
    """Puts every weight that has a fake quantizer onto its grid, in float32, for good."""
    import torch

    done: set[int] = set()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Quantized) and id(module.weight) not in done:  # tied ones once
                assert module.weight.dtype == torch.float32, "scale times code needs float32"
                module.weight.copy_(on_grid(as_matrix(module.weight), module.grid).view_as(module.weight))
                done.add(id(module.weight))


def load_as_measured(place: str, *, revision: str | None = None) -> Any:
    """The model of a folder or hub id as its runtime computes it: with fake quantizers where it is a quantized one."""
    model = load_model(place, revision=revision)
    facts = read_facts(place, revision=revision)
    if facts:
        put_in(model, read_attached(model, facts, place), Switch())
    return model


def read_facts(place: str, *, revision: str | None = None) -> dict[str, Any] | None:
    """What `quantization.json` of a folder or hub id says; None where there is none.

    Raises UserError for a file that this version cannot read: the model would be measured as something else.
    """
    path = find_file(place, revision)
    if path is None:
        return None
    try:
        facts = dict(read_json(path))
        known = facts["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no description of a quantized model; save or train the model again") from error
    if known != VERSION:
        raise UserError(f"{path}: version {known}: this program reads {VERSION}; use the one that wrote it")
    return facts


def find_file(place: str, revision: str | None) -> Path | None:
    if Path(place).is_absolute():
        path = Path(place) / QUANTIZATION_FILE
        return path if path.is_file() else None
    from transformers.utils import cached_file

    options: dict[str, Any] = {"revision": revision} if revision else {}
    if hub_problem():
        options["local_files_only"] = True
    try:
        found = cached_file(place, QUANTIZATION_FILE, _raise_exceptions_for_missing_entries=False, **options)
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{place}: {QUANTIZATION_FILE}: nobody can say whether there is one: {reason}") from error
    return Path(found) if found else None


def read_attached(model: Any, facts: dict[str, Any], place: str) -> list[Attached]:
    """The fake quantizers that `facts` name; raises UserError where `model` has no such module."""
    modules = dict(model.named_modules())
    attached = []
    try:
        for tensor, how in facts["tensors"].items():
            name, inputs = tensor.removesuffix(".weight"), how["activation"]
            if name not in modules:
                raise UserError(f"{place}: {QUANTIZATION_FILE}: {tensor}: the model has none; copy both from one place")
            activation = Activation(kind=inputs["kind"], block=inputs["block"]) if inputs else None
            attached.append(Attached(name=name, grid=Grid(bits=how["bits"], group=how["group"]), activation=activation))
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{place}: {QUANTIZATION_FILE}: is damaged ({error}); copy or train the model again") from error
    if not attached:
        raise UserError(f"{place}: {QUANTIZATION_FILE}: names no tensor; copy or train the model again")
    return attached
