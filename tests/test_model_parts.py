"""Parts of a model by their names: kept as they are, or learning more slowly than those above."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import TINY_ARCHITECTURE, RunCli
from tests.tiny import tiny_job
from whisper_train.create import create_base
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.model import load_model, load_processor, prepare_for_training
from whisper_train.model_parts import check_parts, layers_below_top, part_of, units
from whisper_train.training.layer_rates import split_by_layer

ARCHITECTURE = {**TINY_ARCHITECTURE, "encoder_layers": 3, "decoder_layers": 2}
ENCODER, DECODER = "model.encoder.", "model.decoder."


def make_job(**model: Any) -> Job:
    return Job.model_validate({"name": "tiny", **tiny_job(architecture=ARCHITECTURE, model=model)})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three encoder and two decoder layers."""
    architecture = make_job().architecture
    assert architecture is not None
    folder = tmp_path_factory.mktemp("parts") / "base"
    create_base(architecture, ["der Mann sucht den Apfel"], 1, folder)
    return folder


def prepared(base: Path, **model: Any) -> Any:
    return prepare_for_training(load_model(str(base)), load_processor(str(base)).tokenizer, make_job(**model))


def trained(model: Any) -> set[str]:
    """The pieces that learn, without the names within a layer."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return {
        ".".join(str(word) for word in (part.side, part.piece, part.first) if word is not None)
        for part in map(part_of, names)
    }


# What is wrong is told, with the names there are.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("encodr", "encodr: no such part, did you mean encoder?; there are encoder, encoder.conv"),
        ("encoder.layer.3", "encoder.layer.3: no such part"),
        ("encoder.embeddings", "no such part"),
        ("decoder.conv", "no such part"),
        ("encoder.conv.0", "no such part"),
        ("encoder.layers.", "no such part"),
        ("encoder.layers.1-", "no such part"),
        ("proj_out", "no such part"),
        ("decoder.layers.3-1", "write the lower layer first: decoder.layers.1-3"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_read(place: Path, run_cli: RunCli, name: str, words: str) -> None:
    path = place / "job.yaml"
    path.write_text(
        f"language: de\nbase: openai/whisper-tiny\nmodel: {{freeze: [{name}]}}\n"
        "data: {eval: {x: [{manifest: x.csv}]}}\n"
    )
    result = run_cli("check", path)
    assert result.exit_code == 2
    assert "job.yaml: model.freeze: " in result.output
    assert words in result.output


@pytest.mark.parametrize("name", ["encoder.layers.3", "encoder.layers.1-31", "decoder.layers.2"])
def test_layers_that_the_base_has_not_are_told_with_those_it_has(base: Path, name: str) -> None:
    config = load_model(str(base)).config
    last = config.encoder_layers - 1 if name.startswith("encoder") else config.decoder_layers - 1
    with pytest.raises(UserError, match=f"model.freeze: {name}: the base's .* has layers 0 to {last}"):
        check_parts([name], config)


@pytest.mark.parametrize(
    "names",
    [
        ["encoder", "decoder"],
        ["encoder", "decoder.embeddings", "decoder.positions", "decoder.layers.0-1", "decoder.norm"],
    ],
)
def test_a_model_of_which_nothing_learns_is_refused(base: Path, names: list[str]) -> None:
    with pytest.raises(UserError, match="leaves nothing to train"):
        check_parts(names, load_model(str(base)).config)
    check_parts(names[:-1], load_model(str(base)).config)


def test_adapters_that_are_all_frozen_are_refused(base: Path) -> None:
    with pytest.raises(UserError, match="leaves no adapter to train"):
        prepared(base, lora={"rank": 2}, freeze=["encoder.layers", "decoder.layers"])


# What is frozen.

EVERYTHING = {
    "encoder.conv",
    "encoder.positions",
    "encoder.norm",
    "decoder.embeddings",
    "decoder.positions",
    "decoder.norm",
}
EVERYTHING |= {f"encoder.layers.{number}" for number in range(3)} | {f"decoder.layers.{number}" for number in range(2)}


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        ([], set()),
        (["encoder"], {name for name in EVERYTHING if name.startswith("encoder")}),
        (["decoder"], {name for name in EVERYTHING if name.startswith("decoder")}),
        (["encoder.layers"], {"encoder.layers.0", "encoder.layers.1", "encoder.layers.2"}),
        (["encoder.layers.1-2", "encoder.conv"], {"encoder.layers.1", "encoder.layers.2", "encoder.conv"}),
        (["decoder.layers.0"], {"decoder.layers.0"}),
        (["decoder.embeddings", "decoder.positions"], {"decoder.embeddings", "decoder.positions"}),
        (["encoder.norm", "decoder.norm"], {"encoder.norm", "decoder.norm"}),
    ],
)
def test_what_is_named_stays_and_the_rest_learns(base: Path, names: list[str], frozen: set[str]) -> None:
    assert trained(prepared(base, freeze=names)) == EVERYTHING - frozen


def test_frozen_embeddings_are_a_frozen_output_too(base: Path) -> None:
    model = prepared(base, freeze=["decoder.embeddings"])
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight
    assert not model.proj_out.weight.requires_grad


def test_adapters_of_frozen_layers_stay(base: Path) -> None:
    assert trained(prepared(base, lora={"rank": 2}, freeze=["encoder", "decoder.layers.0"])) == {"decoder.layers.1"}


# How fast the rest learns.


def rates(model: Any, decay: float, **options: Any) -> tuple[list[float], dict[str, float]]:
    """The rates of the groups, and that of each piece, from an optimizer with a rate of 1."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in named if "bias" not in name], "weight_decay": 0.1},
        {"params": [parameter for name, parameter in named if "bias" in name], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1.0)
    split_by_layer(optimizer, model, decay)
    names = {id(parameter): name for name, parameter in named}
    found: dict[str, float] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            assert group["weight_decay"] == (0.0 if "bias" in name else 0.1)
            part = part_of(name)
            found[".".join(str(word) for word in (part.side, part.piece, part.first) if word is not None)] = group["lr"]
    assert not names  # each weight in one group
    return [group["lr"] for group in optimizer.param_groups], found


def test_each_layer_learns_at_a_part_of_the_rate_of_the_one_above(base: Path) -> None:
    groups, found = rates(prepared(base), 0.5)
    assert found == {
        "decoder.norm": 1.0,
        "decoder.layers.1": 1.0,
        "decoder.layers.0": 0.5,
        "encoder.norm": 0.25,
        "encoder.layers.2": 0.25,
        "encoder.layers.1": 0.125,
        "encoder.layers.0": 0.0625,
        "encoder.conv": 0.03125,
        "encoder.positions": 0.03125,
        "decoder.embeddings": 0.03125,
        "decoder.positions": 0.03125,
    }
    assert groups == sorted(groups, reverse=True)  # the first one's rate is logged


def test_the_highest_layer_that_learns_has_the_whole_rate(base: Path) -> None:
    groups, found = rates(prepared(base, freeze=["decoder"]), 0.5)
    assert groups[0] == found["encoder.layers.2"] == 1.0
    assert found["encoder.conv"] == 0.125


def test_adapters_learn_at_the_rate_of_their_layer(base: Path) -> None:
    _, found = rates(prepared(base, lora={"rank": 2}), 0.5)
    assert found == {f"decoder.layers.{n}": 0.5 ** (1 - n) for n in range(2)} | {
        f"encoder.layers.{n}": 0.5 ** (4 - n) for n in range(3)
    }


def test_every_piece_has_its_height(base: Path) -> None:
    config = load_model(str(base)).config
    assert {layers_below_top(unit, config) for unit in units(config)} == set(range(6))


@pytest.mark.parametrize("optimizer", ["lomo", "adalomo", "galore_adamw_layerwise"])
def test_an_optimizer_with_one_rate_for_all_is_refused(place: Path, run_cli: RunCli, optimizer: str) -> None:
    path = place / "job.yaml"
    path.write_text(
        "language: de\nbase: openai/whisper-tiny\nmodel: {layer_decay: 0.9}\ndata: {eval: {x: [{manifest: x.csv}]}}\n"
        f"training: {{optim: {optimizer}}}\n"
    )
    result = run_cli("check", path)
    assert result.exit_code == 2
    assert f"model.layer_decay: needs an optimizer that takes a rate a layer, and training.optim: {optimizer}" in (
        result.output
    )


@pytest.mark.parametrize("decay", [0, 1.5, -1])
def test_a_decay_that_is_none_is_refused(place: Path, run_cli: RunCli, decay: float) -> None:
    path = place / "job.yaml"
    path.write_text(
        f"language: de\nbase: openai/whisper-tiny\nmodel: {{layer_decay: {decay}}}\n"
        "data: {eval: {x: [{manifest: x.csv}]}}\n"
    )
    result = run_cli("check", path)
    assert result.exit_code == 2
    assert "model.layer_decay" in result.output
