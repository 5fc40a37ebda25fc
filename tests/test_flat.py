"""The flat form: a config.yaml of plain keys, with short flags over it, runs as it is."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import TINY_ARCHITECTURE, MakeWav, RunCli
from whisper_train.create import create_base
from whisper_train.errors import UserError
from whisper_train.flat import apply_environment, flat_sources, flat_to_job, read_flat
from whisper_train.job import Architecture
from whisper_train.job_errors import Layer
from whisper_train.job_file import build_job
from whisper_train.paths import read_json

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz"

# As such files are, with every key that they are known to hold.
WHOLE = """
lang: de
dataset_name: {data}
dataset_cache: null
model_name: whisper-tiny
model_cache: null
gpu_device: 0
whisper_pretrained: null
checkpoint_name: null
checkpoint_dir: null
hf_token: null

per_device_train_batch_size: 16
gradient_accumulation_steps: 2
learning_rate: 1e-5
warmup_steps: 500
max_steps: 5000
gradient_checkpointing: true
fp16: true
eval_strategy: steps
per_device_eval_batch_size: 8
predict_with_generate: true
generation_max_length: 225
save_steps: 1000
eval_steps: 1000
logging_steps: 25
report_to: [tensorboard]
load_best_model_at_end: true
metric_for_best_model: wer
greater_is_better: false
push_to_hub: false
"""


@pytest.fixture
def manifest(place: Path, make_manifest: Callable[..., Path]) -> Path:
    return make_manifest(place / "clips.jsonl", clips=20)


def write(place: Path, text: str, **changes: Any) -> Path:
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(text), **changes}), encoding="utf-8")
    return path


def to_job(path: Path, **flags: Any) -> dict[str, Any]:
    """The resolved job of a flat file, as a mapping."""
    values = flat_to_job(read_flat(path, flags, {}))
    job = build_job([Layer("config.yaml", values)], machine_path=None, environment={})
    return job.model_dump(mode="json")


def test_the_whole_file_as_people_bring_it(place: Path, manifest: Path) -> None:
    path = place / "config.yaml"
    path.write_text(WHOLE.format(data=manifest))

    job = to_job(path)

    assert (job["name"], job["language"], job["base"]) == ("whisper-tiny-de", "de", "openai/whisper-tiny")
    assert job["data"]["train"][0]["manifest"] == str(manifest)
    expected: dict[str, Any] = {
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-5,
    }
    expected |= {"warmup_steps": 500, "max_steps": 5000, "gradient_checkpointing": True, "fp16": True}
    expected |= {"eval_strategy": "steps", "predict_with_generate": True, "generation_max_length": 225}
    expected |= {"save_steps": 1000, "eval_steps": 1000, "logging_steps": 25, "report_to": ["tensorboard"]}
    expected |= {"load_best_model_at_end": True, "metric_for_best_model": "wer", "greater_is_better": False}
    expected |= {"push_to_hub": False, "per_device_eval_batch_size": 8}
    assert {key: job["training"][key] for key in expected} == expected
    assert "global_batch_size" not in job["training"]


def test_what_is_null_or_left_out_has_its_default(place: Path, manifest: Path) -> None:
    path = write(place, f"lang: fr\ndataset_name: {manifest}\nmodel_name: whisper-small\n")

    job = to_job(path)

    assert (job["name"], job["base"]) == ("whisper-small-fr", "openai/whisper-small")
    assert job["training"]["global_batch_size"] == 32


def test_names_and_bases_of_ones_own(place: Path, manifest: Path) -> None:
    path = write(place, WHOLE.format(data=manifest), checkpoint_name="mine", whisper_pretrained="me/whisper-de")
    assert (to_job(path)["name"], to_job(path)["base"]) == ("mine", "me/whisper-de")

    (place / "tuned").mkdir()
    path = write(place, WHOLE.format(data=manifest), whisper_pretrained="tuned")
    assert to_job(path)["base"] == str(place / "tuned")

    path = write(place, WHOLE.format(data=manifest), model_name="distil-whisper/distil-small.en")
    assert (to_job(path)["name"], to_job(path)["base"]) == ("distil-small.en-de", "distil-whisper/distil-small.en")


# Flags.


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (("-g", "--gpu"), "gpu_device", "1"),
        (("-l", "--lang"), "lang", "fr"),
        (("-dn", "--name"), "dataset_name", "other.jsonl"),
        (("-dc", "--cache"), "dataset_cache", "there"),
        (("-mn", "--model-name"), "model_name", "whisper-base"),
        (("-mc", "--model-cache"), "model_cache", "models-here"),
        (("-wp", "--whisper-pretrained"), "whisper_pretrained", "me/mine"),
        (("-ck", "--checkpoint-name"), "checkpoint_name", "second"),
        (("-cd", "--checkpoint-dir"), "checkpoint_dir", "runs/second"),
        (("-t", "--max-steps"), "max_steps", "7"),
    ],
)
def test_every_flag_lies_over_its_key(
    place: Path,
    manifest: Path,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, str],
    key: str,
    value: str,
) -> None:
    seen: list[dict[str, Any]] = []

    def stop(*given: Any) -> dict[str, Any]:
        """Looks at what the command line made of its flags, and goes no further."""
        seen.append(read_flat(*given))
        raise UserError("seen")

    monkeypatch.setattr("whisper_train.flat.read_flat", stop)
    path = write(place, WHOLE.format(data=manifest), checkpoint_name="first", checkpoint_dir="runs/first")

    for flag in flags:
        assert run_cli("train", "--config", path, flag, value).output == "error: seen\n"

    for values in seen:
        assert values[key] == (7 if key == "max_steps" else value)
        others = yaml.safe_load(path.read_text())
        changed = {name for name in others if values.get(name) != others[name]} - {"hf_token"}
        assert changed == {key} | ({"checkpoint_dir"} if key == "checkpoint_name" else set())


def test_a_flag_of_another_type_is_refused(place: Path, manifest: Path, run_cli: RunCli) -> None:
    result = run_cli("train", "--config", write(place, WHOLE.format(data=manifest)), "-t", "many")

    assert result.exit_code == 2
    assert "'many' is not a valid integer" in result.output


# The environment.


def test_gpu_caches_and_token_go_into_the_environment(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"gpu_device": 1, "dataset_cache": "data", "model_cache": "models", "hf_token": TOKEN}

    environment = apply_environment(values, place / "config.yaml", {"LANG": "C"})

    expected = {"CUDA_VISIBLE_DEVICES": "1", "CACHE_DIR": "data", "HF_HUB_CACHE": str(place / "models")}
    expected["HF_TOKEN"] = TOKEN
    assert environment == {"LANG": "C"} | expected
    assert {key: os.environ[key] for key in expected} == expected
    said = capsys.readouterr().out
    assert "warning: config.yaml: hf_token: a token does not belong in a file; put HF_TOKEN in .env" in said
    assert TOKEN not in said


def test_nothing_given_changes_nothing(place: Path) -> None:
    before = dict(os.environ)

    assert apply_environment({"gpu_device": None, "hf_token": None}, place / "config.yaml", {}) == {}
    assert dict(os.environ) == before


# The sets.


def write_rows(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(rows)
    return path


@pytest.mark.parametrize(
    ("splits", "train", "evaluated"),
    [
        (("train", "test"), "train", "test"),
        (("train", "validation", "test"), "train", "test"),
        (("train", "dev"), "train", "dev"),
        (("train", "val"), "train", "val"),
        (("train",), "train[:95%]", "train[95%:]"),
        ((), "[:95%]", "[95%:]"),
    ],
)
@pytest.mark.parametrize("kind", ["manifest", "folder", "hub"])
def test_a_set_is_divided_as_it_says_or_by_twentieths(
    place: Path, kind: str, splits: tuple[str, ...], train: str, evaluated: str
) -> None:
    if kind == "hub":
        for split in splits or ("train",):
            (place / "x").mkdir(exist_ok=True)
            pq.write_table(pa.table({"audio": [b""], "text": ["a"]}), place / "x" / f"{split}-0.parquet")
        name, source = "x", {"hub": str(place / "x")}
        evaluated = {"dev": "validation", "val": "validation"}.get(evaluated, evaluated)  # as datasets calls them
        train, evaluated = (train, evaluated) if splits else ("train[:95%]", "train[95%:]")
    else:
        header: tuple[str, ...] = ("audio", "text", "split") if splits else ("audio", "text")
        rows: list[tuple[str, ...]] = [("a.wav", "a", split) for split in splits]
        rows = rows or [("a.wav", "a")]
        table = write_rows(place / "x" / "metadata.csv", [header, *rows])
        name = str(table if kind == "manifest" else place / "x")
        source = {kind: name}

    assert flat_sources(name, "de") == ({**source, "split": train}, {**source, "split": evaluated})


def test_a_common_voice_download_has_its_own_splits(place: Path) -> None:
    (place / "cv" / "clips").mkdir(parents=True)
    for split in ("train", "dev", "test", "validated", "other"):
        write_rows(place / "cv" / f"{split}.tsv", [("path", "sentence")])
    source = {"common_voice": str(place / "cv")}

    assert flat_sources("cv", "de") == ({**source, "split": "train"}, {**source, "split": "test"})


def test_a_folder_with_sidecars_is_divided(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "x" / "a.wav")
    source = {"folder": str(place / "x")}

    assert flat_sources("x", "de") == ({**source, "split": "[:95%]"}, {**source, "split": "[95%:]"})


# A run, from the command line to the folder it leaves.


@pytest.fixture
def base(place: Path) -> Path:
    create_base(Architecture.model_validate(TINY_ARCHITECTURE), ["clip 1", "clip 2"], 1, place / "base")
    return place / "base"


def short(place: Path, manifest: Path, base: Path, **changes: Any) -> Path:
    text = f"lang: en\ndataset_name: {manifest}\nmodel_name: tiny\nwhisper_pretrained: {base}\n"
    training = {"per_device_train_batch_size": 2, "max_steps": 2, "eval_strategy": "no", "save_steps": 1}
    return write(place, text, **training, **changes)


@pytest.mark.slow
def test_a_run_leaves_no_token_resumes_and_starts_afresh_under_a_new_name(
    place: Path, manifest: Path, base: Path, run_cli: RunCli
) -> None:
    path = short(place, manifest, base, hf_token=TOKEN)

    first = run_cli("train", "--config", path)

    assert first.exit_code == 0, first.output
    assert "hf_token: a token does not belong in a file" in first.output
    folder = place / "checkpoints" / "tiny-en"
    assert {"model.safetensors", "job.yaml", "run.json", "evaluation"} <= {entry.name for entry in folder.iterdir()}
    for written in place.rglob("*"):
        if written.is_file() and written != path:
            assert TOKEN.encode() not in written.read_bytes(), written
    assert TOKEN not in first.output

    again = run_cli("train", "--config", path, "-t", "4")

    assert again.exit_code == 0, again.output
    assert "resuming from checkpoint-2" in again.output
    assert read_json(folder / "run.json")["steps"] == 4

    afresh = run_cli("train", "--config", path, "-ck", "second")

    assert afresh.exit_code == 0, afresh.output
    assert "resuming" not in afresh.output
    assert (place / "checkpoints" / "second" / "model.safetensors").is_file()


def test_a_folder_that_holds_something_else_is_left_alone(
    place: Path, manifest: Path, base: Path, run_cli: RunCli
) -> None:
    """checkpoint_dir may be any folder; one that holds something else is left alone."""
    (place / "mine").mkdir()
    (place / "mine" / "config.json").write_text("{}")

    result = run_cli("train", "--config", short(place, manifest, base), "-cd", "mine")

    assert result.exit_code == 2
    assert "mine: holds a model that no job of ours made" in result.output
