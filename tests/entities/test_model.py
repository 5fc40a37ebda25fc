"""Encoders by strangers: numbers are read from them, code is not, as from a Whisper."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from whisper_train.entities.generate import Generator
from whisper_train.entities.model import create_encoder, load_encoder, load_tokenizer
from whisper_train.errors import UserError
from whisper_train.job_entities import Encoder, Travel

WORDS = [
    ["je", "vais", "de", "Lyon", "à", "Nice", *(chr(97 + one % 26) * 2 for one in range(number))]
    for number in range(60)
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "base"
    settings = Encoder(vocabulary_size=200, width=8, layers=1, attention_heads=2, feed_forward=8)
    create_encoder(settings, 32, WORDS, 1, folder)
    return folder


def test_a_new_base_is_the_same_each_time(tmp_path: Path) -> None:
    """Scores of pieces are sums, which the library adds up in another order in each process and call."""
    words = [sentence.tokens for sentence in Generator(Travel(sentences=300, seed=1))]
    settings = Encoder(vocabulary_size=300, width=8, layers=1, attention_heads=2, feed_forward=8)
    for number in range(3):
        create_encoder(settings, 32, words, 1, tmp_path / str(number))
    for path in (tmp_path / "0").iterdir():
        assert {(tmp_path / str(number) / path.name).read_bytes() for number in range(3)} == {path.read_bytes()}


@pytest.fixture
def base(good: Path, place: Path) -> Path:
    return Path(shutil.copytree(good, place / "base"))


class Runs:
    """What a pickle may hold: a command, which reading it carries out."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("told", ["", "1"])
def test_pickled_weights_are_refused_and_never_run(
    base: Path, place: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    (base / "model.safetensors").unlink()
    torch.save({"classifier.weight": Runs()}, base / "pytorch_model.bin")
    monkeypatch.setenv("PICKLED_WEIGHTS", told)
    with pytest.raises(UserError, match="cannot be loaded" if told else r"weights are pickled \(pytorch_model\.bin\)"):
        load_encoder(str(base))
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModelForTokenClassification": "evil.Evil"}}, "auto_map: asks for code"),
        ({"hidden_size": 2**30}, "hidden_size: 1073741824: must be a whole number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: -1: must be a whole number"),
        ({"model_type": "whisper"}, "is a whisper model"),
    ],
)
def test_settings_that_ask_for_more_than_to_be_read(base: Path, changes: dict[str, Any], message: str) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    for load in (load_encoder, load_tokenizer):
        with pytest.raises(UserError, match=message):
            load(str(base))
