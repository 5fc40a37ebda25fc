"""Encoders by strangers: numbers are read from them, code is not, as from a Whisper."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from whisper_train.entities.model import create_encoder, load_encoder, load_tokenizer
from whisper_train.errors import UserError
from whisper_train.job_entities import Encoder

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
