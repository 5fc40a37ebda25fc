"""Model folders by strangers: numbers are read from them, code is not, and what is damaged is told."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from whisper_train.errors import UserError
from whisper_train.model import load_config, load_model, load_processor


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes: dict[str, Any] = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_model"), 16)
    sizes |= dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    sizes |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3, "vocab_size": 60}
    folder = tmp_path_factory.mktemp("base")
    config = WhisperConfig(**sizes, **tokens, max_source_positions=50, max_target_positions=20)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def base(good: Path, place: Path) -> Path:
    return Path(shutil.copytree(good, place / "base"))


class Runs:
    """What a pickle may hold: a command, which reading it carries out."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def pickle_weights(base: Path, content: Any) -> None:
    (base / "model.safetensors").unlink()
    torch.save(content, base / "pytorch_model.bin")


def test_pickled_weights_are_refused_unless_told(base: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_model(str(base)).state_dict()
    pickle_weights(base, weights)
    with pytest.raises(UserError, match=r"weights are pickled \(pytorch_model\.bin\).*PICKLED_WEIGHTS=1 in \.env"):
        load_model(str(base))
    monkeypatch.setenv("PICKLED_WEIGHTS", "1")
    assert torch.equal(load_model(str(base)).state_dict()["proj_out.weight"], weights["proj_out.weight"])


@pytest.mark.parametrize("told", ["", "1"])
def test_a_pickle_that_runs_a_command_never_does(
    base: Path, place: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    pickle_weights(base, {"proj_out.weight": Runs()})
    monkeypatch.setenv("PICKLED_WEIGHTS", told)
    with pytest.raises(UserError, match="pickled" if not told else "cannot be loaded"):
        load_model(str(base))
    assert not (place / "ran").exists()


def test_safetensors_are_taken_where_a_pickle_lies_beside_them(base: Path, place: Path) -> None:
    torch.save({"proj_out.weight": Runs()}, base / "pytorch_model.bin")
    load_model(str(base))
    assert not (place / "ran").exists()


CODE = "import os; os.system('touch ran')\nclass Evil:\n    pass\n"


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModelForSpeechSeq2Seq": "evil.Evil", "AutoConfig": "evil.Evil"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}),
        ("preprocessor_config.json", {"auto_map": {"AutoFeatureExtractor": "evil.Evil"}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "evil.Evil"}}),
        ("config.json", {"_attn_implementation": "stranger/kernel"}),
        ("config.json", {"attn_implementation": "stranger/kernel"}),
    ],
)
@pytest.mark.parametrize("load", [load_config, load_model, load_processor])
def test_code_of_a_model_is_refused(
    base: Path, place: Path, file: str, settings: dict[str, Any], load: Callable[[str], Any]
) -> None:
    (base / "evil.py").write_text(CODE)
    change(base / file, settings)
    with pytest.raises(UserError, match=rf"{file}: .* which is never run; remove the key"):
        load(str(base))
    assert not (place / "ran").exists()


def change(path: Path, settings: dict[str, Any]) -> None:
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 10**6}, "d_model: 1000000: must be a whole number from 1 to 16,384"),
        ({"encoder_layers": 10**6}, "encoder_layers: 1000000: must be"),
        ({"d_model": "a"}, "d_model: a: must be a whole number"),
        ({"d_model": -1}, "d_model: -1: must be a whole number"),
        ({"d_model": 32}, "cannot be loaded"),
        ({"quantization_config": 3}, "cannot be loaded"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "cannot be loaded"),
        ({"dtype": "os.system"}, "cannot be loaded"),
    ],
)
def test_settings_that_are_none_are_told(base: Path, settings: dict[str, Any], message: str) -> None:
    change(base / "config.json", settings)
    with pytest.raises(UserError, match=message):
        load_model(str(base))


def damaged_weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(base: Path) -> None:
        path = base / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def instead(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Puts `content` in the place of a file, or a pipe that nobody writes to."""

    def damage(base: Path) -> None:
        (base / name).unlink()
        if content is None:
            os.mkfifo(base / name)
        else:
            (base / name).write_bytes(content)

    return damage


def index(base: Path) -> None:
    (base / "model.safetensors").unlink()
    parts = {"metadata": {}, "weight_map": {"proj_out.weight": "../../../../etc/passwd"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(parts))


@pytest.mark.parametrize(
    "damage",
    [
        damaged_weights(lambda content: content[: len(content) // 2]),
        damaged_weights(lambda content: b"\xff" * 100),
        damaged_weights(lambda content: b""),
        instead("model.safetensors", None),
        instead("config.json", None),
        instead("config.json", b"[" * 100_000),
        instead("config.json", b"[1]"),
        instead("config.json", b" " * 2**25),
        index,
    ],
    ids=["half", "no header", "empty", "pipe", "settings pipe", "nested", "list", "large", "index that leads out"],
)
def test_a_damaged_folder_is_told(base: Path, damage: Callable[[Path], None]) -> None:
    damage(base)
    with pytest.raises(UserError, match=r"cannot be loaded|is not the configuration|holds list"):
        load_model(str(base))
