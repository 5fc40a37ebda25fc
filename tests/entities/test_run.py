"""A job of task: entities from its file to its report: trained, resumed, evaluated again, used."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.entities.conftest import write_job as write
from tests.tiny import call, command, environment
from whisper_train.paths import read_json

pytestmark = pytest.mark.slow


@pytest.fixture
def here(trained: Path, place: Path) -> Path:
    """A copy of it, as the current folder."""
    shutil.copytree(trained, place, dirs_exist_ok=True)
    return place


def test_the_run_folder_is_like_any_other(trained: Path) -> None:
    run = read_json(trained / "models/tiny/run.json")
    assert run["status"] == "done"
    assert run["promoted"] is True
    assert run["steps"] == 8
    results = read_json(trained / "models/tiny/evaluation/results.json")
    assert list(results["models"]) == ["tuned", "baseline", "rules"]
    hard = results["sets"]["hard"]
    assert {row["kind"] for row in hard["kinds"]} == {"person", "no-order"}
    assert hard["contamination"]["same_text"] == 0
    assert results["sets"]["common"]["contamination"]["same_pattern"] == 0
    assert results["sets"]["common"]["contamination"]["same_place"] == 0
    page = (trained / "models/tiny/evaluation/report.html").read_text(encoding="utf-8")
    assert all(word in page for word in ("Kinds of sentences", "person", "no-order", "zero-shot", "Macro F1"))
    card = (trained / "models/tiny/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: token-classification" in card
    assert list((trained / "logs/tiny").glob("events*.evaluation-8"))


def test_a_resumed_run_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    """The second half of a run that is started again from its checkpoint is that of an unbroken one."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "models/tiny"
    unbroken = (folder / "checkpoints/checkpoint-8/model.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoints/checkpoint-8")
    state = read_json(folder / "run.json") | {"status": "stopped", "kept": None}
    (folder / "run.json").write_text(json.dumps(state))
    told = call(command(tmp_path / "tiny.yaml"), environment(tmp_path), expect=0)
    assert "resuming from checkpoint-4" in told
    assert (folder / "checkpoints/checkpoint-8/model.safetensors").read_bytes() == unbroken


def test_it_is_evaluated_again_and_on_its_sets_alone(here: Path, run_cli: RunCli) -> None:
    done = run_cli("eval", "tiny.yaml")
    assert done.exit_code == 0, done.output
    results = here / "models/tiny/evaluation/results.json"
    before = read_json(results)
    results.write_text(json.dumps(before | {"sets": {}}))
    done = run_cli("score", "models/tiny")
    assert done.exit_code == 0, done.output
    assert read_json(results)["sets"] == before["sets"]
    done = run_cli("eval", "tiny.yaml", "--sets", "hard", "--max-samples", "5")
    assert done.exit_code == 0, done.output
    assert list((here / "models/tiny/evaluations").glob("*/report.html"))


def test_order_answers_in_every_form(here: Path, run_cli: RunCli) -> None:
    text = "je vais de Lyon à Nice"
    found = json.loads(run_cli("order", "--entities", "job:tiny", "--text", text).output)
    assert set(found) == {"audio", "order", "departure", "arrival", "via", "text", "times"}
    assert found["text"] == text
    table = run_cli("order", "--entities", "models/tiny", "--text", text, "--format", "csv").output
    assert table.startswith("audio,order,departure,arrival,via,text")
    assert text in run_cli("order", "--entities", "models/tiny", "--text", text, "--format", "text").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "order: name recordings, or give sentences with --text"),
        (("x.wav",), "order: --asr: is missing"),
        (("--text", "x", "--entities", "job:none"), "--entities: job:none: no model there"),
    ],
)
def test_order_says_what_is_missing(here: Path, run_cli: RunCli, words: tuple[str, ...], message: str) -> None:
    named = () if "--entities" in words else ("--entities", "job:tiny")
    done = run_cli("order", *words, *named)
    assert done.exit_code == 2
    assert message in done.output


def test_what_is_of_speech_alone_says_so(here: Path, run_cli: RunCli) -> None:
    for verb in ("plan", "hear", "chain", "qat", "benchmark-model"):
        done = run_cli(verb, "tiny.yaml")
        assert done.exit_code == 2, done.output
        assert f"{verb}: is of speech" in done.output
    done = run_cli("publish", "tiny.yaml", "--export", "onnx-int8")
    assert done.exit_code == 2, done.output
    assert "publish --export: is of speech" in done.output


def test_publish_knows_what_goes(here: Path, run_cli: RunCli) -> None:
    done = run_cli("publish", "tiny.yaml")
    assert done.exit_code == 0, done.output
    goes = done.output.partition("what goes")[2].partition("what stays")[0]
    assert all(name in goes for name in ("model.safetensors", "tokenizer.json", "config.json", "results.json"))
    assert "predictions" not in goes


def test_a_local_folder_stands_in_for_the_base(here: Path) -> None:
    """As for `travel` without a hub: a folder without a head of ours gets a new one."""
    base = here / "stand-in"
    shutil.copytree(here / "models/tiny/base", base)
    config = read_json(base / "config.json")
    config |= {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (base / "config.json").write_text(json.dumps(config))
    job = write(here, "fine", base="./stand-in", entities={"beside": ["job:tiny", "job:none"]})
    told = call(command(job), environment(here), expect=0)
    assert "beside: job:none: is not trained yet" in told
    assert list(read_json(here / "models/fine/evaluation/results.json")["models"]) == [
        "tuned",
        "baseline",
        "rules",
        "tiny",
    ]
