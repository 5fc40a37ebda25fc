"""`whisper-train eval` and `score`: what they refuse, what they do once only, whom they judge, where it all goes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeJob, RunCli
from tests.evaluated import CLIPS, eval_only, read_lines, read_results, synthetic, transcriptions
from tests.test_running import held
from tests.tiny import write_job
from whisper_train.evaluate import EvalModel
from whisper_train.evaluate_job import describe

pytestmark = pytest.mark.slow  # the first one trains


@pytest.fixture
def base(trained_and_evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the jobs `first` and `second` with all that their runs left, as BASE_DIR."""
    shutil.copytree(trained_and_evaluated, tmp_path / "runs")
    monkeypatch.setenv("BASE_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def second(base: Path) -> Path:
    """The run folder of the job `second`."""
    return base / "models" / "second"


def state(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def change_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layer_norm.bias"] += 5.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# What is refused.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "training.learning_rate=0.5"], "training.learning_rate: 0.001, this job has 0.5"),
        (["--sets", "hrad"], "second: --sets: hrad: no such set; data.eval has held-out, other"),
        (["--max-samples", "0"], "0 is not in the range x>=1"),
        (["--model", "./gone"], "--model: {here}/gone: no such folder; check the path"),
        (["--model", "job:gone"], "--model: {here}/runs/models/gone: no such folder; check the path"),
        (["--model", "job:first", "--model", "./gone"], "--model: {here}/gone: no such folder"),
        (["--model", "./bert"], "--model: {here}/bert: is a bert model, not Whisper"),
        (["--model", "./empty"], "--model: {here}/empty: cannot be loaded"),
        (["--baseline", "./gone"], "--baseline: {here}/gone: no such folder"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_transcribed(
    base: Path, second: Path, place: Path, run_cli: RunCli, words: list[str], says: str
) -> None:
    (place / "empty").mkdir()
    (place / "bert").mkdir()
    (place / "bert" / "config.json").write_text('{"model_type": "bert"}')
    result = run_cli("eval", base / "second.yaml", *words)
    assert result.exit_code == 2
    assert says.format(here=place) in result.output
    assert "Traceback" not in result.output
    assert not list(second.glob("evaluations/*/transcriptions"))


def test_a_job_without_a_model_is_told_to_train_or_to_name_one(base: Path, run_cli: RunCli) -> None:
    result = run_cli("eval", write_job(base, "untrained"))
    assert result.exit_code == 2
    assert "error: untrained: has no model yet in" in result.output
    assert "--model openai/whisper-small" in result.output


def test_a_job_that_runs_is_not_evaluated_at_the_same_time(base: Path, second: Path, run_cli: RunCli) -> None:
    with held(second / ".lock"):
        result = run_cli("eval", base / "second.yaml")
    assert result.exit_code == 2
    assert "second: is running already as process" in result.output


@pytest.mark.parametrize("status", ["running", "stopped", "failed", "trained"])
def test_an_older_model_is_not_taken_for_the_result_of_an_unfinished_run(
    base: Path, second: Path, run_cli: RunCli, status: str
) -> None:
    """A run that is trained further has another one in its checkpoints, also when it was killed before saving that."""
    (second / "run.json").write_text(json.dumps(state(second) | {"status": status, "kept": None}))
    result = run_cli("eval", base / "second.yaml")
    assert result.exit_code == 2
    assert f"second: is {status}; train it to its end" in result.output
    assert state(second)["status"] == status


def test_too_many_unusable_clips_are_refused_every_time(base: Path, make_wav: Any, run_cli: RunCli) -> None:
    make_wav(base / "clip.wav")
    lines = [{"audio": "clip.wav", "text": "ja"}, {"audio": "gone.wav", "text": "nein"}]
    (base / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = eval_only(base, [{"manifest": str(base / "eval.jsonl")}], max_dropped_fraction=0.1)
    for _ in range(2):
        result = run_cli("eval", job)
        assert result.exit_code == 2, result.output
        assert "data.eval.held-out: 1 of 2 clips dropped (1 unreadable)" in result.output


# The whole evaluation of a run.


def test_an_evaluation_after_training_transcribes_nothing_again(base: Path, second: Path, run_cli: RunCli) -> None:
    files, results = transcriptions(second / "evaluation"), read_results(second / "evaluation")
    assert len(read_lines(second / "evaluation", "tuned", "held-out")) == results["sets"]["held-out"]["clips"]
    result = run_cli("eval", base / "second.yaml")
    assert result.exit_code == 0, result.output
    assert "transcribing" not in result.output
    assert transcriptions(second / "evaluation") == files
    assert read_results(second / "evaluation") == results


def test_changed_weights_are_transcribed_anew_and_the_baseline_is_not(
    base: Path, second: Path, run_cli: RunCli
) -> None:
    before = transcriptions(second / "evaluation")
    change_weights(second)
    output = run_cli("eval", base / "second.yaml").output
    assert "tuned: transcribing held-out" in output
    assert "baseline: transcribing" not in output
    after = transcriptions(second / "evaluation")
    assert {name for name in after if after[name] != before[name]} == {name for name in after if "/tuned/" in name}


def test_a_gate_missed_ends_with_3_keeps_the_model_and_is_met_again_without_transcribing(
    base: Path, second: Path, run_cli: RunCli
) -> None:
    files, weights = transcriptions(second / "evaluation"), (second / "model.safetensors").read_bytes()
    result = run_cli("eval", base / "second.yaml", "--set", "gates.wer=0.0")
    assert result.exit_code == 3, result.output
    assert "gate wer: MISSED: WER on held-out is" in result.output
    assert (state(second)["status"], state(second)["promoted"]) == ("gate missed", False)
    assert read_results(second / "evaluation")["promoted"] is False
    assert run_cli("score", second).exit_code == 3, "judged by the gates that it was evaluated with"
    for words in (["eval"], ["train"]):
        assert run_cli(*words, base / "second.yaml", "--set", "gates.wer=0.0").exit_code == 3
        assert run_cli(*words, base / "second.yaml").exit_code == 0
        assert (state(second)["status"], state(second)["promoted"]) == ("done", True)
    assert transcriptions(second / "evaluation") == files
    assert (second / "model.safetensors").read_bytes() == weights


def test_what_got_worse_in_another_set_is_refused_with_a_sentence(base: Path, second: Path, run_cli: RunCli) -> None:
    """As if the baseline had made no error there."""
    path = second / "evaluation" / "transcriptions" / "baseline" / "other.jsonl"
    header, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    perfect = [line | {"hypothesis": line["reference"]} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *perfect)))
    result = run_cli("eval", base / "second.yaml", "--set", "gates.retention.max_loss=0.005")
    assert result.exit_code == 3, result.output
    wer = 100 * read_results(second / "evaluation")["sets"]["other"]["wer"]
    sentence = f"other got worse: WER 0.00 % → {wer:.2f} %, +{wer:.2f} points; at most +0.50 are allowed"
    assert f"gate retention: MISSED: {sentence}" in result.output


def test_an_evaluation_with_other_settings_does_not_make_it_another_run(
    base: Path, second: Path, run_cli: RunCli
) -> None:
    assert run_cli("eval", base / "second.yaml", "--set", "evaluation.normalizer=german").exit_code == 0
    assert read_results(second / "evaluation")["sets"]["other"]["normalizer"] == "german"
    result = run_cli("train", base / "second.yaml")
    assert result.exit_code == 0, result.output
    assert read_results(second / "evaluation")["sets"]["other"]["normalizer"] == "whisper-basic"
    assert run_cli("eval", base / "second.yaml", "--set", "training.max_steps=3").exit_code == 0
    assert (
        "resuming from checkpoint-2" in run_cli("train", base / "second.yaml", "--set", "training.max_steps=3").output
    )


# Other models, and parts of it.


def test_other_models_are_measured_aside_and_judge_nothing(base: Path, second: Path, run_cli: RunCli) -> None:
    run, results = state(second), read_results(second / "evaluation")
    words = ["--model", str(second), "--model", "job:first", "--baseline", "job:first", "--sets", "other"]
    result = run_cli("eval", base / "second.yaml", *words, "--set", "gates.wer=0.0")
    assert result.exit_code == 0, result.output
    (folder,) = (second / "evaluations").iterdir()
    aside = read_results(folder)
    assert (aside["gates"], aside["promoted"], list(aside["sets"])) == ([], None, ["other"])
    assert list(aside["models"]) == ["tuned", "baseline", "job-first"]
    other, before = aside["sets"]["other"], results["sets"]["other"]
    assert (other["wer"], other["comparison"]) == (before["wer"], before["comparison"])
    assert other["others"]["job-first"]["wer"] == before["baseline"]["wer"]
    assert (folder / "report.html").is_file()
    assert (state(second), read_results(second / "evaluation")) == (run, results)


def test_models_whose_names_look_alike_are_kept_apart(base: Path, second: Path, run_cli: RunCli) -> None:
    for name in ("tuned", "baseline", "a b", "a-b"):
        shutil.copytree(base / "models" / "first", base / "copies" / name)
    change_weights(base / "copies" / "a-b")
    named = [word for name in ("a b", "a-b", "tuned", "baseline") for word in ("--model", f"{base}/copies/{name}")]
    words = ["--model", str(second), *named, "--sets", "other", "--max-samples", "2"]
    assert run_cli("eval", base / "second.yaml", *words).exit_code == 0
    (folder,) = (second / "evaluations").iterdir()
    aside = read_results(folder)
    assert len(aside["models"]) == len(aside["sets"]["other"]["others"]) + 1 == 5
    assert aside["sets"]["other"]["baseline"] is None


def test_a_baseline_of_one_question_is_no_baseline_of_another(base: Path, second: Path, run_cli: RunCli) -> None:
    words = ["--sets", "other", "--max-samples", "2", "--model", str(second)]
    for more in (["--baseline", "job:first"], ["--model", "job:first"]):
        assert run_cli("eval", base / "second.yaml", *words, *more).exit_code == 0
    compared, beside = (read_results(folder) for folder in sorted((second / "evaluations").iterdir()))
    found = sorted([list(compared["models"]), list(beside["models"])])
    assert found == [["tuned", "baseline"], ["tuned", "job-first"]]


def test_a_sample_is_spread_over_the_set_and_known_by_its_folder(base: Path, second: Path, run_cli: RunCli) -> None:
    assert run_cli("eval", base / "second.yaml", "--max-samples", "3").exit_code == 0
    (folder,) = (second / "evaluations").iterdir()
    lines = read_lines(folder, "tuned", "held-out")
    whole = read_lines(second / "evaluation", "tuned", "held-out")
    assert [line["position"] for line in lines] == [0, round((len(whole) - 1) / 2), len(whole) - 1]
    assert [line["hypothesis"] for line in lines] == [whole[line["position"]]["hypothesis"] for line in lines]
    files = transcriptions(folder)
    assert "transcribing" not in run_cli("eval", base / "second.yaml", "--max-samples", "3").output
    assert transcriptions(folder) == files


def test_long_questions_with_the_same_beginning_have_folders_of_their_own() -> None:
    names = [f"/models/{'a' * 300}/{end}" for end in "bc"]
    models = [EvalModel(label="tuned", name=name, place=name) for name in names]
    folders = [describe([model], ["held-out"], None) for model in models]
    assert folders[0] != folders[1]
    assert max(map(len, folders)) < 250


def test_sets_in_another_order_are_the_same_question(base: Path, second: Path, run_cli: RunCli) -> None:
    for order in (["held-out", "other"], ["other", "held-out", "other"]):
        words = [word for name in order for word in ("--sets", name)]
        assert run_cli("eval", base / "second.yaml", "--max-samples", "2", *words).exit_code == 0
    (folder,) = (second / "evaluations").iterdir()
    assert list(read_results(folder)["sets"]) == ["held-out", "other"]


def test_a_job_without_training_data_measures_its_base(base: Path, run_cli: RunCli) -> None:
    job = eval_only(base, synthetic(CLIPS, 2))
    result = run_cli("eval", job, "--set", "evaluation.normalizer=german")
    assert result.exit_code == 0, result.output
    folder = base / "models" / "only" / "evaluation"
    results = read_results(folder)
    assert results["models"]["tuned"]["model"] == "job:first"
    before = read_results(base / "models" / "second" / "evaluation")["sets"]["held-out"]["baseline"]
    assert results["sets"]["held-out"]["by_normalizer"] == before["by_normalizer"]
    assert (results["promoted"], results["sets"]["held-out"]["contamination"]) == (None, None)
    assert run_cli("score", base / "models" / "only").exit_code == 0
    assert read_results(folder) == results, "with the normalizer that was asked for"


def test_a_job_without_training_data_is_not_trained(base: Path, run_cli: RunCli) -> None:
    shutil.rmtree(base / "models" / "first")
    result = run_cli("train", eval_only(base, synthetic(CLIPS, 2)))
    assert result.exit_code == 2
    assert "error: only: data.train: is missing; a job without it can be evaluated only (make eval)" in result.output
    assert not (base / "models" / "first").exists(), "nor is its base, in vain"


def test_random_weights_that_nobody_trains_are_refused(make_job: MakeJob, run_cli: RunCli) -> None:
    result = run_cli("eval", make_job({"eval": {"held-out": synthetic(2, 1)}}))
    assert result.exit_code == 2
    assert "base: new" in result.output
    assert "data.train: is missing" in result.output
