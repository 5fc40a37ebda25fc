"""Averaging of base and tuned model: what is refused, which weight is chosen, and what a run keeps of it."""

import copy
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeJob, RunCli
from tests.evaluated import synthetic, without_timings
from tests.tiny import interrupt, run_here, tiny_job, write_job
from whisper_train.averaging.choice import Point, choose, retention_sets
from whisper_train.averaging.state import asked_of, is_settled
from whisper_train.averaging.weights import average
from whisper_train.errors import UserError
from whisper_train.evaluation.score import count_pairs
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.job import Job
from whisper_train.model import files_digest

MANIFEST = {"manifest": "clips.jsonl"}


# What is refused.


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"base": "new", "averaging": {}},
            "averaging: is between the base and the tuned model, and `base: new` has none",
        ),
        ({"averaging": {"weights": []}}, "averaging.weights: "),
        ({"averaging": {"weights": [0]}}, "averaging.weights: has none above 0, and 0 is the base itself"),
        ({"averaging": {"weights": [0.5, 1.5]}}, "averaging.weights"),
        ({"averaging": {"clips": 0}}, "averaging.clips"),
        ({"averaging": {"wieghts": [0.5]}}, "did you mean weights?"),
        (
            {"averaging": {}, "data": {"eval": [MANIFEST]}},
            "averaging: is of what a job trains, and data.train is missing",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    sections: dict[str, Any], says: str, make_job: MakeJob, run_cli: RunCli
) -> None:
    data = sections.get("data", {"train": [MANIFEST], "eval": [MANIFEST]})
    fresh: dict[str, Any] = {"base": "openai/whisper-tiny", "architecture": None}
    fresh = {} if sections.get("base") == "new" else fresh
    result = run_cli("check", make_job(data, **fresh, **{key: sections[key] for key in sections.keys() - {"data"}}))
    assert result.exit_code == 2
    assert says in result.output


# Which weight is chosen.


def curve(*rows: tuple[float, float, float, float]) -> list[Point]:
    """Rates on the sets new, old and far, each after its weight."""
    return [Point(weight, {"new": new, "old": old, "far": far}) for weight, new, old, far in rows]


USUAL = curve((0.0, 0.50, 0.10, 0.20), (0.25, 0.30, 0.10, 0.19), (0.5, 0.20, 0.104, 0.2), (1.0, 0.10, 0.16, 0.3))


@pytest.mark.parametrize(
    ("points", "tried", "others", "max_loss", "weight", "within"),
    [
        (USUAL, [0.25, 0.5, 1.0], ["old", "far"], 0.005, 0.5, True),
        (USUAL, [0.25, 0.5, 1.0], ["old", "far"], 0.0, 0.25, True),
        (USUAL, [0.25, 0.5, 1.0], ["far"], 0.1, 1.0, True),  # 0.3 - 0.2 is a little less than 0.1, or more
        (USUAL, [0.25, 0.5, 1.0], [], 0.0, 1.0, True),
        (USUAL, [0.25, 0.5], [], 0.0, 0.5, True),  # 1 is measured for the curve, and was not asked for
        (USUAL, [0.0, 1.0], ["old"], 0.005, 1.0, False),  # the base itself is never chosen
        (USUAL, [0.5, 1.0], ["old"], 0.003, 0.5, False),  # the least loss where all lose too much
        (curve((0, 0.5, 0.1, 0.1), (0.5, 0.2, 0.3, 0.1), (1, 0.1, 0.1, 0.3)), [0.5, 1], ["old", "far"], 0.0, 1, False),
        (curve((0, 0.0, 0.1, 0.1), (0.5, 0.0, 0.08, 0.1), (1, 0.0, 0.09, 0.1)), [0.5, 1], ["old"], 0.0, 0.5, True),
        (curve((0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (1, 0.0, 0.0, 0.0)), [0.5, 1], ["old"], 0.0, 1.0, True),
    ],
)
def test_the_lowest_rate_is_chosen_among_those_that_forget_little(
    points: list[Point], tried: list[float], others: list[str], max_loss: float, weight: float, within: bool
) -> None:
    choice = choose(points, tried, "new", others, max_loss)
    assert (choice.weight, choice.within) == (weight, within)


def test_the_choice_says_why() -> None:
    assert choose(USUAL, [0.25, 0.5, 1.0], "new", ["old", "far"], 0.005).sentence == (
        "0.5 of the tuned model, the rest of its base: errors on new 50.00 % → 20.00 %, the lowest of the weights that"
        " stay within +0.50 points on old, far (here at worst old +0.40 points)"
    )
    assert choose(USUAL, [1.0], "new", ["old"], 0.005).sentence == (
        "the tuned model as it is: errors on new 50.00 % → 10.00 %, no weight stays within +0.50 points on old, and"
        " this one loses least (old +6.00 points)"
    )


def job_of(**sections: Any) -> Job:
    data = {"train": [MANIFEST], "eval": {name: [MANIFEST] for name in ("new", "old", "far")}}
    return Job.model_validate({"name": "j", "language": "de", "base": "job:first", "data": data, **sections})


def test_what_must_not_get_worse_is_what_the_gate_on_retention_names() -> None:
    assert retention_sets(job_of()) == ["old", "far"]
    assert retention_sets(job_of(gates={"retention": {}})) == ["old", "far"]
    assert retention_sets(job_of(gates={"retention": {"sets": ["far"]}})) == ["far"]


def test_a_model_is_settled_while_the_same_averaging_is_asked_for() -> None:
    plain, averaged, other = job_of(), job_of(averaging={}), job_of(averaging={"clips": 7})
    made: dict[str, Any] = {"averaging": {"asked": asked_of(averaged)}}
    assert is_settled(plain, {})
    assert is_settled(averaged, made)
    assert not is_settled(averaged, {})
    assert not is_settled(plain, made)
    assert not is_settled(other, made)


# The weights.


@pytest.fixture(scope="module")
def ends() -> tuple[Any, Any]:
    """Two models of one architecture."""
    import torch

    torch.manual_seed(1)
    return tiny_whisper(16), tiny_whisper(16)


def tiny_whisper(width: int) -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"d_model": width, "vocab_size": 60, "max_source_positions": 8, "max_target_positions": 8}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
    return WhisperForConditionalGeneration(WhisperConfig(**sizes, **layers, **heads, **tokens))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_every_tensor_lies_between_the_two_and_stays_tied(ends: tuple[Any, Any], weight: float) -> None:
    base, tuned = ends
    mixed = copy.deepcopy(tuned)
    average(base, mixed, weight)
    before, after = dict(base.named_parameters()), dict(tuned.named_parameters())
    for name, tensor in mixed.named_parameters():
        expected = (1 - weight) * before[name].double() + weight * after[name].double()
        if weight in (0, 1):
            assert tensor.equal((before, after)[int(weight)][name]), f"{name}: not bit for bit"
        assert tensor.double().sub(expected).abs().max() < 1e-7, name
    assert mixed.proj_out.weight is mixed.model.decoder.embed_tokens.weight


def test_models_of_another_shape_are_refused(ends: tuple[Any, Any]) -> None:
    with pytest.raises(UserError, match="is not what the run started from"):
        average(tiny_whisper(8), copy.deepcopy(ends[1]), 0.5)


# A run with it.


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BASE_DIR with the jobs `plain` and `averaged`, which differ in nothing but averaging, and their base."""
    base = tmp_path_factory.mktemp("averaged")
    write_job(base, "first", architecture={**tiny_job()["architecture"], "init_std": 0.6}, training=SHORT)
    run_here(job_file(base, "plain"), base)
    run_here(job_file(base, "averaged", averaging=ASKED), base)
    return base


ASKED: dict[str, Any] = {"weights": [0.25, 0.5], "clips": 5, "max_loss": 0.5}
SHORT = {"max_steps": 2, "generation_max_length": 12, "eval_strategy": "no"}


def job_file(base: Path, name: str, **sections: Any) -> Path:
    data = {"eval": {"new": synthetic(12, 2), "old": synthetic(8, 5, voices=["de+m3", "de+f4"])}}
    training = {**SHORT, "learning_rate": 0.02}
    return write_job(base, name, base="job:first", architecture=None, data=data, training=training, **sections)


@pytest.fixture
def base(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `done` as BASE_DIR."""
    shutil.copytree(done, tmp_path / "runs")
    monkeypatch.setenv("BASE_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def written(folder: Path) -> dict[str, int]:
    """When the model and every transcription of a run were written."""
    files = [folder / "model.safetensors", *(folder / "evaluation").rglob("*.jsonl")]
    return {str(path): path.stat().st_mtime_ns for path in files if path.name != "listen.jsonl"}


@pytest.mark.slow
def test_the_chosen_average_is_the_model_that_is_evaluated(done: Path) -> None:
    from safetensors.torch import load_file

    models = done / "models"
    made = facts(models / "averaged")["averaging"]
    assert [point["weight"] for point in made["curve"]] == [0, 0.25, 0.5, 1], "0 and 1 for the curve"
    assert made["chosen"] in ASKED["weights"]
    assert made["clips"] == {"new": 5, "old": 5}
    before, tuned, kept = (load_file(models / name / "model.safetensors") for name in ("first", "plain", "averaged"))
    assert "proj_out.weight" not in kept, "tied, so written once"
    for name, tensor in kept.items():
        assert tensor.sub((1 - made["chosen"]) * before[name] + made["chosen"] * tuned[name]).abs().max() < 1e-6
    results = json.loads((models / "averaged" / "evaluation" / "results.json").read_text())
    assert results["models"]["tuned"]["digest"] == files_digest(models / "averaged")
    assert results["sets"]["new"]["clips"] == 12, "the whole set, whatever the choice was made on"
    assert not (models / "averaged" / ".averaging").exists()


@pytest.mark.slow
def test_the_curve_holds_what_was_transcribed_of_the_chosen_clips(done: Path) -> None:
    folder = done / "models" / "averaged"
    made, normalizer = facts(folder)["averaging"], "whisper-basic"
    for point in made["curve"]:
        place = folder / "evaluation" / ("averaging" if point["weight"] else "")
        label = f"weight-{point['weight']}" if point["weight"] else "baseline"
        for name in ("new", "old"):
            lines = read_transcription(place / "transcriptions" / label / f"{name}.jsonl").lines
            chosen = [0, 3, 6, 8, 11] if name == "new" else [0, 2, 4, 5, 7]  # spread over the set
            pairs = [(line["reference"], line["hypothesis"]) for line in lines if line["position"] in chosen]
            assert len(pairs) == 5
            assert count_pairs(pairs, [normalizer])[normalizer].words.rate == point["rates"][name]


@pytest.mark.slow
def test_a_second_start_transcribes_nothing_and_writes_no_model(base: Path, run_cli: RunCli) -> None:
    folder = base / "models" / "averaged"
    before = written(folder)
    result = run_cli("train", base / "averaged.yaml")
    assert "finished before" in result.output
    assert "transcribing" not in result.output
    assert written(folder) == before


@pytest.mark.slow
def test_another_averaging_is_made_of_the_same_checkpoint_without_training(base: Path, run_cli: RunCli) -> None:
    """At weight 1, and without averaging, the model is the tuned one bit for bit."""
    averaged, plain = base / "models" / "averaged", base / "models" / "plain"
    assert weights(averaged) != weights(plain)
    job = job_file(base, "averaged", averaging={**ASKED, "weights": [1.0]})
    refused = run_cli("eval", job)
    assert refused.exit_code == 2
    assert "averaging: has changed since its model was made; make train EXP=averaged averages anew" in refused.output
    assert run_cli("publish", job).output == refused.output.splitlines()[-1] + "\n"
    result = run_cli("train", job)
    assert result.exit_code == 0, result.output
    assert "step " not in result.output
    assert "weight-1.0: transcribing" not in result.output, "it was measured for the curve before"
    assert "tuned: transcribing new" in result.output, "the model is another one now"
    assert facts(averaged)["averaging"]["chosen"] == 1
    assert weights(averaged) == weights(plain)
    first = run_cli("train", job_file(base, "averaged", averaging=ASKED))
    assert first.exit_code == 0, first.output
    assert weights(averaged) != weights(plain)
    assert run_cli("train", job_file(base, "averaged")).exit_code == 0
    assert facts(averaged)["averaging"] is None
    assert weights(averaged) == weights(plain)


@pytest.mark.slow
def test_without_the_checkpoint_another_averaging_is_refused_and_the_result_stays(base: Path, run_cli: RunCli) -> None:
    folder = base / "models" / "averaged"
    before, status = weights(folder), facts(folder)
    (folder / "checkpoints" / status["kept"] / "complete.json").unlink()
    result = run_cli("train", job_file(base, "averaged", averaging={**ASKED, "clips": 4}))
    assert result.exit_code == 2
    gone = "runs/models/averaged/checkpoints/checkpoint-2"
    assert (
        f"error: averaged: averaging: starts from {gone}, the tuned model, which is damaged or gone (" in result.output
    )
    assert f"averaging: {json.dumps(status['averaging']['asked'])}" in result.output
    assert weights(folder) == before
    assert facts(folder) == status
    assert run_cli("train", job_file(base, "averaged", averaging=ASKED)).exit_code == 0


@pytest.mark.slow
def test_sets_that_were_heard_whole_are_not_transcribed_again(base: Path, run_cli: RunCli) -> None:
    folder, job = base / "models" / "averaged", job_file(base, "averaged", averaging={**ASKED, "clips": 8})
    shutil.rmtree(folder / "evaluation" / "transcriptions" / "tuned")
    output = run_cli("train", job).output
    assert "tuned: transcribing new" in output, "12 clips, of which 8 were chosen"
    assert "tuned: transcribing old" not in output
    before = results_of(folder)
    shutil.rmtree(folder / "evaluation" / "transcriptions" / "tuned")
    again = run_cli("eval", job)
    assert "tuned: transcribing old" in again.output
    assert without_timings(results_of(folder)) == without_timings(before), "the same texts, and what is told of them"


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_model_and_curve(base: Path, run_cli: RunCli) -> None:
    unbroken = base / "models" / "averaged"
    job, folder = job_file(base, "broken", averaging=ASKED), base / "models" / "broken"
    place = folder / "evaluation" / "averaging" / "transcriptions"
    moments = [
        (folder / "evaluation" / "transcriptions" / "baseline" / "new.jsonl.part-0").exists,
        (folder / ".averaging" / ".model.incomplete").exists,
        (place / "weight-0.5" / "old.jsonl.part-0").exists,
    ]
    for moment in moments:
        interrupt(job, base, moment, signal.SIGKILL)
        assert facts(folder)["status"] == "trained"
        assert not facts(folder).get("averaging")
    run_here(job, base)
    assert weights(folder) == weights(unbroken)
    made = facts(unbroken)["averaging"]
    assert facts(folder)["averaging"] == made
    assert without_timings(results_of(folder)) == without_timings(results_of(unbroken))

    (folder / "model.safetensors").write_bytes(b"half")  # killed while the chosen average was written
    rewrite(folder, kept=None, averaging=None, status="trained")
    assert run_cli("eval", job).exit_code == 2
    result = run_cli("train", job)
    assert result.exit_code == 0, result.output
    assert "transcribing" not in result.output
    assert weights(folder) == weights(unbroken)
    assert facts(folder)["averaging"] == made


def results_of(folder: Path) -> Any:
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    return {name: results[name] for name in ("sets", "silence", "gates", "promoted")}


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "run.json").write_text(json.dumps({**facts(folder), **changes}))


@pytest.mark.slow
def test_adapters_are_averaged_as_merged_into_the_weights(base: Path, run_cli: RunCli) -> None:
    from safetensors.torch import load_file

    lora, folder = {"lora": {"rank": 2, "alpha": 4}}, base / "models" / "lora"
    run_here(job_file(base, "lora", model=lora, averaging={**ASKED, "weights": [0.5]}), base)
    before, kept = (load_file(base / "models" / name / "model.safetensors") for name in ("first", "lora"))
    assert run_cli("train", job_file(base, "lora", model=lora)).exit_code == 0
    tuned = load_file(folder / "model.safetensors")
    assert any(not tuned[name].equal(before[name]) for name in tuned)
    for name, tensor in kept.items():
        assert tensor.sub((before[name] + tuned[name]) / 2).abs().max() < 1e-6, name


@pytest.mark.slow
def test_a_run_that_goes_on_is_averaged_anew(base: Path) -> None:
    folder, job = base / "models" / "averaged", base / "averaged.yaml"
    before = weights(folder)
    output = run_here(job, base, "--set", "training.max_steps=4")
    assert "resuming from checkpoint-2" in output
    assert "weight-0.25: transcribing new" in output
    assert weights(folder) != before
    assert facts(folder)["kept"] == "checkpoint-4"
