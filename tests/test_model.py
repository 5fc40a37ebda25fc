"""Models: tied weights, tokens, and saved folders that load again."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny import call, tiny_job
from whisper_train.create import create_base
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.model import files_digest, load_model, load_processor, prepare_for_training, save_model

TEXTS = ["der Mann sucht den Apfel", "die Frau kauft ein Buch"]


def make_job(**changes: Any) -> Job:
    return Job.model_validate({"name": "tiny", **tiny_job(**changes)})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    architecture = make_job().architecture
    assert architecture is not None
    create_base(architecture, TEXTS, 1, tmp_path / "base")
    return tmp_path / "base"


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is a bert model, not Whisper"):
        load_model(str(tmp_path))


def test_a_hub_that_does_not_answer_is_told_within_seconds(tmp_path: Path) -> None:
    """Its client asks for each file again and again, for three minutes."""
    words = [sys.executable, "-c", "from whisper_train.model import load_processor; load_processor('nobody/nothing')"]
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}

    said = call(words, os.environ | variables, expect=1, timeout=60)

    assert "base: nobody/nothing: cannot be loaded: it was not fetched before, and the hub does not answer (" in said
    assert "check the name, the network" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody/nothing", "it was not fetched before, and the hub does not answer (no network)"),
        ("nobody/half", "half does not appear to have a file named"),
        ("no/such/name", "no/such/name"),
    ],
)
def test_only_what_was_not_fetched_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    from huggingface_hub import constants

    fetched = tmp_path / "models--nobody--half"
    (fetched / "refs").mkdir(parents=True)
    (fetched / "refs" / "main").write_text("a" * 40)
    (fetched / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (fetched / "snapshots" / ("a" * 40) / "config.json").write_text('{"model_type": "whisper"}')
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("whisper_train.model.hub_problem", lambda: "no network")
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_model(name)
    assert ("not fetched before" in str(caught.value)) == (name == "nobody/nothing")


def test_new_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    architecture = make_job().architecture
    assert architecture is not None
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        create_base(architecture, TEXTS, seed, tmp_path / name)
    one, again, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "two"))
    assert one == again != two


def test_a_made_tokenizer_round_trips_and_has_openais_order(base: Path) -> None:
    tokenizer = load_processor(str(base)).tokenizer
    for text in (*TEXTS, "Größe, «naïve» 漢字 🙂"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|translate|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ]
    ids = tokenizer.convert_tokens_to_ids(special)
    assert ids == sorted(ids)
    assert tokenizer.convert_tokens_to_ids("<|30.00|>") == len(tokenizer) - 1


def test_the_output_projection_is_tied_after_load_save_and_load(base: Path, tmp_path: Path) -> None:
    model, processor = load_model(str(base)), load_processor(str(base))
    save_model(model, processor, tmp_path)
    again = load_model(str(tmp_path))
    assert again.proj_out.weight is again.get_input_embeddings().weight
    assert not list(tmp_path.glob(".*incomplete"))


def test_forced_and_suppressed_tokens_do_not_come_back(base: Path, tmp_path: Path) -> None:
    """Left in place they make generate() of the saved folder fail (transformers#37172)."""
    model, processor = load_model(str(base)), load_processor(str(base))
    model.generation_config.forced_decoder_ids = [[1, 5]]
    model.generation_config.suppress_tokens = [1, 2]
    model.generation_config.eos_token_id = [model.config.eos_token_id]
    save_model(model, processor, tmp_path)
    settings = yaml.safe_load((tmp_path / "generation_config.json").read_text())
    assert not settings.get("forced_decoder_ids")
    assert not settings.get("suppress_tokens")
    assert isinstance(settings["eos_token_id"], int)
    features = torch.zeros(1, 80, 2 * model.config.max_source_positions)
    load_model(str(tmp_path)).generate(features, language="de", task="transcribe", max_new_tokens=3)


def test_training_settings_reach_the_model(base: Path) -> None:
    processor = load_processor(str(base))
    settings = {"dropout": 0.2, "freeze": ["encoder"], "spec_augment": {"mask_time_prob": 0.3}}
    model = prepare_for_training(load_model(str(base)), processor.tokenizer, make_job(model=settings))
    assert {layer.dropout for layer in model.model.decoder.layers} == {0.2}
    assert not any(weight.requires_grad for weight in model.model.encoder.parameters())
    assert model.config.apply_spec_augment
    assert model.config.mask_time_prob == 0.3
    assert model.generation_config.language == "de"


def test_lora_trains_adapters_only_and_names_modules_it_cannot_find(base: Path) -> None:
    processor = load_processor(str(base))
    adapted = prepare_for_training(load_model(str(base)), processor.tokenizer, make_job(model={"lora": {"rank": 2}}))
    learning = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)
    frozen = make_job(model={"lora": {"rank": 2}, "freeze": ["encoder"]})
    adapted = prepare_for_training(load_model(str(base)), processor.tokenizer, frozen)
    learning = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert learning
    assert not any(".encoder." in name for name in learning)
    job = make_job(model={"lora": {"target_modules": ["no_such"]}})
    with pytest.raises(UserError, match="no_such"):
        prepare_for_training(load_model(str(base)), processor.tokenizer, job)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "generation_config.json", "vocab.json"])
def test_a_model_is_another_when_one_of_its_files_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"before")
    before = files_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    assert files_digest(tmp_path) == before
    (tmp_path / name).write_bytes(b"afterwards")
    assert files_digest(tmp_path) != before
