"""How large a base is, without fetching it."""

import json
from pathlib import Path

import pytest

from whisper_train.errors import UserError
from whisper_train.job import Architecture
from whisper_train.paths import Directories
from whisper_train.planning.bases import SIZES, dimensions_by_name, find_dimensions


def places(base: Path) -> Directories:
    return Directories(cache=base / "cache", models=base / "models", logs=base / "logs")


@pytest.mark.parametrize(
    ("name", "parameters"),  # as transformers counts them in the models on the hub
    [
        ("openai/whisper-tiny", 37_760_640),
        ("openai/whisper-large-v3", 1_543_490_560),
        ("openai/whisper-large-v3-turbo", 808_878_080),
        ("distil-whisper/distil-large-v3", 756_405_760),
    ],
)
def test_names_tell_the_parameters(name: str, parameters: int) -> None:
    found = dimensions_by_name(name)
    assert found is not None
    assert found.parameters == parameters


def test_a_model_made_of_another_has_its_size() -> None:
    assert dimensions_by_name("primeline/whisper-large-v3-turbo-german") == dimensions_by_name(
        "x/whisper-large-v3-turbo"
    )
    french = dimensions_by_name("bofenghuang/whisper-large-v3-french-distil-dec16")
    assert french is not None
    assert french.decoder_layers == 16


def test_a_name_that_says_nothing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base: someone/ears: .*no size of Whisper.*config\.json"):
        find_dimensions("someone/ears", None, places(tmp_path))


@pytest.mark.parametrize("content", [None, "{}", "[]", "not json"])
def test_a_folder_that_holds_no_whisper_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"base: .*config\.json: is not the configuration of a Whisper"):
        find_dimensions(str(tmp_path), None, places(tmp_path))


def test_a_folder_tells_its_own_dimensions(tmp_path: Path) -> None:
    tiny = SIZES["tiny"]
    values = {"d_model": tiny.width, "encoder_attention_heads": 6, "encoder_layers": 4, "decoder_layers": 4}
    values |= {"num_mel_bins": 80, "vocab_size": 51_865, "max_source_positions": 1_500, "max_target_positions": 448}
    (tmp_path / "models" / "first").mkdir(parents=True)
    (tmp_path / "models" / "first" / "config.json").write_text(json.dumps({**values, "encoder_ffn_dim": 1_536}))
    (tmp_path / "models" / "first" / "preprocessor_config.json").write_text('{"hop_length": 320}')
    found, where = find_dimensions("job:first", None, places(tmp_path))
    assert found.parameters == tiny.parameters
    assert found.hop == 320
    assert where.endswith("first/config.json")


def test_a_new_base_is_as_large_as_it_is_made(tmp_path: Path) -> None:
    architecture = Architecture(width=32, encoder_layers=1, decoder_layers=1, attention_heads=2, window_seconds=4)
    found, _ = find_dimensions("new", architecture, places(tmp_path))
    assert found.window_seconds == 4
    assert found.positions == 200
