"""Publishing a converted model: what was verified goes under a card that says so, anything else is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_model.test_figures import make_results
from tests.conftest import RunCli
from tests.hub import Hub
from tests.report.results import not_promoted
from tests.test_publish import finished, folder, hub
from whisper_train.benchmark_model.table import make_table
from whisper_train.model import files_digest
from whisper_train.paths import file_digest, write_json
from whisper_train.run_folder import RunFolder

__all__ = ["finished", "folder", "hub"]  # fixtures of publishing

PROOF: dict[str, Any] = {
    "version": 1,
    "form": "onnx-int8",
    "integers": {"tensors": 17, "integers": 376512, "differing": 0},
    "clips": ["anna at home.wav", "babble 1"],
    "decoder_with_float_activations": {"fraction": 6.6e-7, "bound": 0.001},
    "logits": {"fraction": 0.017, "bound": 0.03},
    "greedy": {"clips": 2, "equal": 1, "differing": [{"clip": "anna at home.wav", "token": 3}]},
    "words": {"clips": 2, "normalizer": "whisper-basic", "wer": 0.0776, "wer_of_model": 0.0754},
}


@pytest.fixture
def export(folder: RunFolder, finished: Path) -> Path:
    """exports/onnx-int8 of the finished run, as `convert` leaves one."""
    root = folder.path / "exports" / "onnx-int8"
    root.mkdir(parents=True)
    for name, text in (("encoder_model.onnx", "graph"), ("config.json", "{}"), ("tokenizer.json", "{}")):
        (root / name).write_text(text)
    write_json(root / "verification.json", PROOF)
    describe(root, folder)
    return root


def describe(root: Path, folder: RunFolder, **changes: Any) -> None:
    weights = {f"layer.{number}.weight": {"bits": 8, "group": None} for number in range(3)}
    facts = {
        "version": 1,
        "format": "onnx",
        "precision": "int8",
        "source": str(folder.path),
        "source_digest": files_digest(folder.path),
        "trained_for": None,
        "tensors": weights,
        "not_trained_on_their_grid": list(weights),
        "files": {path.name: file_digest(path) for path in root.iterdir() if path.name != "export.json"},
        "made": "2026-02-01T12:00:00+00:00",
        "made_with": {"whisper-train": "0.1", "torch": "2.0", "ctranslate2": None},
    }
    write_json(root / "export.json", facts | changes)


def test_an_export_that_is_not_there_is_refused_with_those_that_are(hub: Hub, run_cli: RunCli, finished: Path) -> None:
    none = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert none.exit_code == 2
    assert "--export: onnx-int8: is not in tiny/exports; there are none (whisper-train convert tiny" in none.output
    assert hub.committed == []


@pytest.mark.parametrize("name", ["../../x", "", ".", "onnx-int4"])
def test_only_a_folder_of_exports_can_be_named(run_cli: RunCli, finished: Path, export: Path, name: str) -> None:
    refused = run_cli("publish", finished, "--export", name, "--yes")
    assert refused.exit_code == 2
    assert "there are onnx-int8 (whisper-train convert" in refused.output


def test_what_was_changed_after_its_verification_is_refused(
    hub: Hub, run_cli: RunCli, finished: Path, export: Path
) -> None:
    (export / "encoder_model.onnx").write_text("another graph")
    refused = run_cli("publish", finished, "--export", "onnx-int8", "--yes", "--force")
    assert refused.exit_code == 2
    assert "encoder_model.onnx: is not the file that was verified; remove the folder and convert" in refused.output
    assert hub.committed == []


def test_an_export_of_an_earlier_model_is_refused(
    hub: Hub, run_cli: RunCli, finished: Path, export: Path, folder: RunFolder
) -> None:
    (folder.path / "model.safetensors").write_text("trained again")
    refused = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert refused.exit_code == 2
    assert "was made of another model than tiny holds now" in refused.output
    assert hub.committed == []


@pytest.mark.parametrize("name", ["export.json", "verification.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"version": 9, "files": {}}'])
def test_a_folder_without_its_proof_is_refused(
    run_cli: RunCli, finished: Path, export: Path, name: str, text: str
) -> None:
    (export / name).write_text(text)
    refused = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert refused.exit_code == 2
    assert "convert the model again" in refused.output


def test_a_model_that_missed_a_gate_is_refused_in_any_form(
    hub: Hub, run_cli: RunCli, finished: Path, export: Path, folder: RunFolder
) -> None:
    write_json(folder.evaluation / "results.json", not_promoted())
    refused = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert refused.exit_code == 2
    assert "tiny: is not promoted" in refused.output
    assert hub.committed == []
    assert run_cli("publish", finished, "--export", "onnx-int8", "--yes", "--force").exit_code == 0
    assert "Not promoted" in hub.contents["README.md"]


def test_by_itself_it_shows_what_would_go(hub: Hub, run_cli: RunCli, finished: Path, export: Path) -> None:
    (export / "notes.txt").write_text("mine")
    (export / ".env").write_text("mine")
    shown = run_cli("publish", finished, "--export", "onnx-int8", "--set", "training.hub_model_id=a/b")
    assert shown.exit_code == 0
    assert "to the hub as a/b-onnx-int8\n" in shown.output
    goes, stays = shown.output.split("what stays here:")
    assert re.search(r"^ +5 B  encoder_model\.onnx$", goes, re.MULTILINE)
    assert re.search(r"^ +4 B  notes\.txt  \(convert did not make it\)$", stays, re.MULTILINE)
    assert "nothing was uploaded; --yes" in shown.output
    assert hub.tokens == set()


def test_the_files_that_were_verified_go_with_a_card_and_without_names_of_recordings(
    hub: Hub, run_cli: RunCli, finished: Path, export: Path, folder: RunFolder
) -> None:
    (export / "notes.txt").write_text("mine")
    done = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert done.exit_code == 0, done.output
    names = ["README.md", "config.json", "encoder_model.onnx", "export.json", "tokenizer.json", "verification.json"]
    assert sorted(hub.committed) == names
    assert hub.contents["README.md"] == (export / "README.md").read_text(encoding="utf-8")
    sent = json.loads(hub.contents["verification.json"])
    assert sent["clips"] == ["recording 1", "babble 1"]
    assert sent["greedy"]["differing"] == [{"clip": "recording 1", "token": 3}]
    facts = json.loads(hub.contents["export.json"])
    assert facts["source"] == "tiny"
    for name, was in facts["files"].items():
        import hashlib

        assert hashlib.sha256(hub.contents[name].encode()).hexdigest() == was, name
    assert "anna" not in "".join(hub.contents.values())
    assert folder.read()["pushed_exports"]["onnx-int8"].endswith("someone/tiny")
    again = run_cli("publish", finished, "--export", "onnx-int8")
    assert again.exit_code == 0, "its own card is no change"


def test_the_card_says_what_it_is_what_was_verified_and_what_was_measured(
    run_cli: RunCli, finished: Path, export: Path, folder: RunFolder, tmp_path: Path
) -> None:
    folder.update(pushed="https://huggingface.co/someone/tiny")
    assert run_cli("publish", finished, "--export", "onnx-int8").exit_code == 0
    card = (export / "README.md").read_text(encoding="utf-8")
    assert "Speed, memory and WER of this file through its runtime were not measured." in card
    measured = make_results() | {"date": "2026-03-01T12:00:00+00:00"}
    write_json_in(folder.path / "benchmark" / "results.json", measured)
    assert run_cli("publish", finished, "--export", "onnx-int8").exit_code == 0
    card = (export / "README.md").read_text(encoding="utf-8")
    for said in (
        "base_model: someone/tiny",
        "base_model_relation: quantized",
        "- onnx\n- int8",
        "- 3 tensors in int8, a scale for each row",
        "- All of these were rounded after training",
        "- 376,512 integers of 17 tensors were read back from the file; 0 differ",
        "- Decoder with float activations: logits 6.6e-07 of their range away.",
        "- Tokens, greedy: 1 of 2 clips equal the model's.",
        "- WER of these clips through the runtime: 7.76 % (whisper-basic); the model's is 7.54 %.",
        make_table(measured),
        "Measured before the conversion, in torch.",
        "whisper-train transcribe tiny-onnx-int8 recording.wav",
        "Its makers named none. The licences of the base",
        "- Converted with torch 2.0.",
    ):
        assert said in card, said
    assert "model-index" not in card, "the figures of results.json are of another file"
    describe(export, folder, made="2026-04-01T12:00:00+00:00")
    assert run_cli("publish", finished, "--export", "onnx-int8").exit_code == 0
    later = (export / "README.md").read_text(encoding="utf-8")
    assert "were not measured" in later, "converted again since the benchmark"


def test_trained_integers_are_told_from_rounded_ones(
    run_cli: RunCli, finished: Path, export: Path, folder: RunFolder
) -> None:
    describe(export, folder, trained_for={"scheme": "int8", "target": "onnx"}, not_trained_on_their_grid=[])
    assert run_cli("publish", finished, "--export", "onnx-int8").exit_code == 0
    card = (export / "README.md").read_text(encoding="utf-8")
    assert "Quantization-aware training for int8 in onnx" in card
    assert "- Every one of these stands on the grid it was trained on." in card


@pytest.mark.parametrize("text", ["{", "[]", '{"date": "yesterday"}', '{"date": "2026-03-01T12:00:00+00:00"}'])
def test_a_benchmark_that_is_none_is_refused(
    run_cli: RunCli, finished: Path, export: Path, folder: RunFolder, text: str
) -> None:
    path = folder.path / "benchmark" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    refused = run_cli("publish", finished, "--export", "onnx-int8")
    assert refused.exit_code == 2
    assert "results.json: cannot be understood" in refused.output


def test_a_secret_in_an_export_stops_it(
    hub: Hub, run_cli: RunCli, finished: Path, export: Path, folder: RunFolder
) -> None:
    (export / "tokenizer.json").write_text('{"token": "hf_canary-of-tests"}')
    describe(export, folder)
    refused = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert refused.exit_code == 2
    assert "tokenizer.json: holds the value of HF_TOKEN" in refused.output
    assert hub.committed == []


def test_a_card_of_ones_own_goes(hub: Hub, run_cli: RunCli, finished: Path, export: Path) -> None:
    (export / "README.md").write_text("My own words.\n")
    done = run_cli("publish", finished, "--export", "onnx-int8", "--yes")
    assert "README.md is your own and stays as it is" in done.output
    assert hub.contents["README.md"] == "My own words.\n"
    assert "README.generated.md" not in hub.committed


def write_json_in(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)


@pytest.mark.slow
def test_what_convert_makes_can_be_published(
    hub: Hub, run_cli: RunCli, trained_and_evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    place = shutil.copytree(trained_and_evaluated, tmp_path / "place")
    monkeypatch.setenv("BASE_DIR", str(place))
    converted = run_cli("convert", "first", "--to", "safetensors", "--precision", "fp16")
    assert converted.exit_code == 0, converted.output
    shown = run_cli("publish", place / "first.yaml", "--export", "safetensors-fp16", "--force")
    assert shown.exit_code == 0, shown.output
    card = (place / "models" / "first" / "exports" / "safetensors-fp16" / "README.md").read_text(encoding="utf-8")
    assert "All weights are floats: fp16." in card
    assert "- Logits as the file is used: " in card
    assert "what stays here" not in shown.output
    again = run_cli("publish", place / "first.yaml", "--export", "safetensors-fp16", "--force")
    assert again.exit_code == 0, again.output
