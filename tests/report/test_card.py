"""The model card: metadata that the hub can read, figures that are measured, and a user's own card left alone."""

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.report.fixtures import make_averaging
from tests.report.results import make_results, not_promoted, one_set
from tests.tiny import tiny_job, write_job
from whisper_train.job import Job
from whisper_train.paths import write_json
from whisper_train.report.card import make_card, write_card
from whisper_train.run_folder import RunFolder

RUN = {"status": "done", "steps": 12, "kept": "checkpoint-12", "version": "0.1.0", "commit": "c0ffee", "versions": {}}
FLEURS = {"hub": "google/fleurs", "config": "de_de", "split": "test"}


def tiny(**changes: Any) -> Job:
    return Job.model_validate({"name": "tiny", **tiny_job(**changes)})


def fine_tuned(base: str = "openai/whisper-small", **changes: Any) -> Job:
    return tiny(base=base, architecture=None, **changes)


def metadata(card: str) -> dict[str, Any]:
    """The metadata as the hub's own client reads it."""
    from huggingface_hub import ModelCard

    data: Any = ModelCard(card).data
    return dict(data.to_dict())


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("given", "near"), [("apache2", "apache-2.0"), ("CC BY 4.0", "cc-by-4.0"), ("mine", "")])
def test_a_license_that_the_hub_does_not_know_is_refused(given: str, near: str, run_cli: RunCli) -> None:
    job = write_job(Path(), card={"license": given})
    refused = run_cli("check", job)
    assert refused.exit_code == 2
    assert f"card.license: {given}: " in refused.output
    assert f"did you mean {near}?" in refused.output or not near
    assert "write other" in refused.output


def test_the_metadata_hold_what_the_hub_asks_for() -> None:
    source = {**FLEURS, "split": "train"}
    job = fine_tuned(card={"license": "Apache-2.0"}, data={"train": [source], "eval": {"test": [FLEURS]}})
    found = metadata(make_card(job, make_results(sets={"test": one_set(revisions=["a1b2c3"])}), RUN))
    index = found.pop("model-index")
    assert found == {
        "language": ["de"],
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "base_model": "openai/whisper-small",
        "base_model_relation": "finetune",
        "datasets": ["google/fleurs"],
        "metrics": ["wer", "cer"],
        "tags": ["whisper", "whisper-train"],
    }
    (model,) = index
    (result,) = model["results"]
    assert model["name"] == "tiny"
    assert result["task"]["type"] == "automatic-speech-recognition"
    assert result["dataset"] == {
        "type": "google/fleurs",
        "name": "test (google/fleurs)",
        "config": "de_de",
        "split": "test",
        "revision": "a1b2c3",
    }
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("wer", 1.37), ("cer", 0.44)]
    assert {metric["args"]["normalizer"] for metric in result["metrics"]} == {"whisper-basic 1"}


def test_two_sets_of_one_data_set_stay_two() -> None:
    job = fine_tuned(data={"eval": {"whole": [FLEURS], "again": [FLEURS], "mixed": [FLEURS, {"folder": "/x/y"}]}})
    results = make_results(sets={"whole": one_set(), "again": one_set(wer=0.5), "mixed": one_set(wer=0.25)})
    (model,) = metadata(make_card(job, results, RUN))["model-index"]
    values = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in model["results"]}
    assert values == {"whole (google/fleurs)": 1.37, "again": 50.0, "mixed": 25.0}


@pytest.mark.parametrize("base", ["job:german", "/home/anna/secret-project/whisper-x", "new"])
def test_what_is_not_known_is_left_out(base: str) -> None:
    job = tiny() if base == "new" else fine_tuned(base)
    results = make_results(sets={"held-out": one_set(baseline=None, comparison=None)}, silence=None)
    card = make_card(job, results, {})
    found = metadata(card)
    assert found.keys() & {"license", "base_model", "base_model_relation", "datasets"} == set()
    assert not re.search(r"\b(None|null|nan)\b", card)
    assert "secret-project" not in card
    assert "how often this model does was not measured" in card
    assert "Its makers named none" in section(card, "Licence")


def test_a_set_without_a_figure_gives_no_result() -> None:
    empty = one_set(wer=float("nan"), cer=None, wer_interval=None, cer_interval=None, baseline=None, comparison=None)
    card = make_card(tiny(), make_results(sets={"empty": empty}), RUN)
    assert metadata(card).keys() & {"model-index", "metrics"} == set()
    assert "| empty | 240 | – | – | – | – |" in card
    both = metadata(make_card(tiny(), make_results(sets={"empty": empty, "held-out": one_set()}), RUN))
    assert [result["dataset"]["name"] for result in both["model-index"][0]["results"]] == ["held-out"]


def test_the_table_shows_before_after_intervals_and_the_comparison() -> None:
    before = {"wer": 0.7369, "wer_interval": [0.69, 0.78], "cer": 0.5, "cer_interval": [0.4, 0.6]}
    measured = one_set(baseline=before, wer_interval=[0.0071, 0.0214])
    table = section(make_card(tiny(), make_results(sets={"held-out": measured}), RUN), "Results")
    assert "| 73.69 % (69.00–78.00) | 1.37 % (0.71–2.14) | 50.00 % (40.00–60.00) |" in table
    assert "WER 73.7 → 1.4, 98 % fewer errors, certain at 95 % (24 speakers)" in table
    assert "whisper-basic 1" in table


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (["speaker", "speaker"], "take the clips of one speaker together."),
        (["clip", "clip"], "take each clip by itself."),
        (["speaker", "clip"], "take the clips of one speaker together, where that is known."),
    ],
)
def test_the_card_says_what_its_intervals_are_over(units: list[str], said: str) -> None:
    sets = {f"set-{number}": copy.deepcopy(one_set()) for number in range(len(units))}
    for measured, unit in zip(sets.values(), units, strict=True):
        measured["comparison"]["wer"]["unit"] = unit
    assert f"- Intervals (95 %) and comparisons {said}" in make_card(tiny(), make_results(sets=sets), RUN)


def test_a_model_that_is_not_promoted_says_so_at_the_top() -> None:
    card = make_card(tiny(), not_promoted(), RUN)
    top = card.partition("\n## ")[0]
    assert "> **Not promoted: " in top
    assert "WER on held-out is 31.00 %" in top
    assert "- **missed**: WER on held-out" in section(card, "Gates")
    promoted = make_card(tiny(), make_results(), RUN)
    assert "Not promoted" not in promoted
    assert "is promoted" in promoted
    assert "no gates" in section(make_card(tiny(), make_results(gates=[]), RUN), "Gates")


def test_odd_names_are_shown_as_they_are_and_hide_nothing() -> None:
    name = "a | b `c` <script>alert(1)</script> [x](y)\n## d"
    train = [{"manifest": "/home/anna/my data/<b>|x`.jsonl", "split": "train"}]
    job = tiny(data={"train": train})
    card = make_card(job, make_results(sets={name: one_set()}), RUN)
    assert metadata(card)["model-index"][0]["results"][0]["dataset"]["name"] == name
    text = card.split("\n---\n", 1)[1]
    assert "<script" not in text
    assert "<b>" not in text
    assert "\n## d" not in text
    row = next(line for line in text.splitlines() if line.startswith("| a "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9
    assert "manifest: &lt;b&gt;\\|x\\`.jsonl train" in text
    assert "anna" not in text
    assert "my data" not in text


def test_the_release_of_common_voice_stays_readable() -> None:
    train = [{"common_voice": "/home/anna/cv-corpus-21.0/de", "split": "train", "weight": 0.5, "language": "fr"}]
    audit = {"sets": {"train": {"clips": 1200, "kept": 1100, "hours": 1.5}}, "revisions": {"train": [None]}}
    text = section(make_card(tiny(data={"train": train}), make_results(), RUN, audit), "Training data")
    assert "- common_voice: cv-corpus-21.0/de train (French, shown 0.5 times an epoch)" in text.replace("\\_", "_")
    assert "1,100 of 1,200 clips were used, 1.50 hours." in text


def test_what_the_makers_say_stands_in_the_card() -> None:
    said = {"license": "other", "intended_use": "Notes of **one** clinic.", "limitations": "Not for diagnoses."}
    card = make_card(tiny(card=said), make_results(), RUN)
    found = metadata(card)
    assert (found["license"], found["license_link"]) == ("other", "LICENSE")
    assert "Notes of **one** clinic." in section(card, "Intended use")
    assert "Not for diagnoses." in section(card, "Limits")
    assert "in 72 seconds without speech this model wrote 3 words (2.5 a minute)" in section(card, "Limits")


@pytest.mark.parametrize(("language", "asked"), [("de", True), ("en", False)])
def test_the_snippet_is_python_and_asks_for_the_language(language: str, asked: bool) -> None:
    job = fine_tuned(language=language, training={"hub_model_id": "anna/tiny"})
    snippet = section(make_card(job, make_results(), RUN), "How to use it").split("```")[1].removeprefix("python\n")
    ast.parse(snippet)
    assert '"anna/tiny"' in snippet
    assert (f'generate_kwargs={{"language": "{language}", "task": "transcribe"}}' in snippet) == asked


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "tiny", tmp_path / "logs")
    run.evaluation.mkdir(parents=True)
    write_json(run.evaluation / "results.json", make_results())
    write_json(run.path / "run.json", RUN)
    return run


def test_our_own_card_is_written_again(folder: RunFolder) -> None:
    path = write_card(tiny(), folder)
    assert path.name == "README.md"
    write_json(folder.evaluation / "results.json", not_promoted())
    assert write_card(tiny(), folder) == path
    assert "Not promoted" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("edit", ["my own words\n", "", "changed", "appended"])
def test_a_card_that_a_user_wrote_or_edited_is_never_overwritten(folder: RunFolder, edit: str) -> None:
    path = write_card(tiny(), folder)
    ours = path.read_text(encoding="utf-8")
    own = {"changed": ours.replace("# tiny", "# Tiny, the great"), "appended": ours + "\nBuy it.\n"}.get(edit, edit)
    path.write_text(own, encoding="utf-8")
    for _ in range(2):
        beside = write_card(tiny(), folder)
        assert beside.name == "README.generated.md"
        assert beside.read_text(encoding="utf-8") == ours
        assert path.read_text(encoding="utf-8") == own
    path.unlink()
    assert write_card(tiny(), folder) == path
    assert not beside.exists()


def test_an_averaged_model_says_so_and_what_it_was_chosen_on() -> None:
    card = make_card(fine_tuned(), make_results(), {**RUN, "averaging": make_averaging()})
    assert "this one was chosen: 0.5 of the tuned model, the rest of its base" in section(card, "How it was trained")
    measured = section(card, "How it was measured")
    assert "was chosen on clips of these sets, up to 200 of each: on others it may be a little worse." in measured
    assert "averages" not in make_card(fine_tuned(), make_results(), RUN)


@pytest.mark.parametrize(("activations", "said"), [(True, "and rounds no inputs"), (False, "as they were measured")])
def test_a_quantized_model_says_what_was_measured_of_it(activations: bool, said: str) -> None:
    quantization = {"scheme": "int8", "target": "onnx", "activations": activations}
    measured = section(make_card(fine_tuned(quantization=quantization), make_results(), RUN), "How it was measured")
    assert "In int8: weights" in measured
    assert said in measured
    assert "quantization.json" not in make_card(fine_tuned(), make_results(), RUN)
