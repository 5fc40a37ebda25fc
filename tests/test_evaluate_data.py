"""What an evaluation makes of its data: tags and recordings of a manifest, long clips, long transcripts, known ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeWav, RunCli
from tests.evaluated import eval_only, read_lines, read_results
from tests.tiny import run_here, write_job

pytestmark = pytest.mark.slow
LONG_TEXT = "der Mann sucht den Apfel " * 100  # 500 words: more than a decoder has positions for


@pytest.fixture
def base(trained_and_evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the jobs' folders as BASE_DIR."""
    shutil.copytree(trained_and_evaluated, tmp_path / "runs")
    monkeypatch.setenv("BASE_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def write_manifest(make_wav: MakeWav, path: Path, clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A source of tones, `seconds` long, with whatever columns the clips have beside."""
    lines = []
    for number, clip in enumerate(clips):
        wav = make_wav(path.parent / f"{path.stem}-{number}.wav", clip.pop("seconds", 0.5), pitch=200.0 + 10 * number)
        lines.append({"audio": wav.name, "text": f"clip {number}", **clip})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [{"manifest": str(path)}]


# Tags.


def test_an_unknown_column_to_tell_results_apart_by_is_refused(base: Path, make_wav: MakeWav, run_cli: RunCli) -> None:
    (source,) = write_manifest(make_wav, base / "tagged.jsonl", [{"accent": "bavarian"}])
    for name in ("slice_columns", "recording_column"):
        given = ["acent"] if name == "slice_columns" else "acent"
        result = run_cli("eval", eval_only(base, [{**source, name: given}]))
        assert result.exit_code == 2
        assert f"{name}: acent: no such column; it has audio, text, accent" in result.output


def test_what_a_manifest_says_of_its_clips_tells_results_apart(base: Path, make_wav: MakeWav, run_cli: RunCli) -> None:
    clips: list[dict[str, Any]] = [
        {"speaker": "anna", "recording": "r1", "accent": "bavarian", "Noise": "street", "mood": "glad"},
        {"speaker": "bert", "recording": "r1", "accent": "saxon", "Noise": None, "mood": "glad"},
        {"speaker": "bert", "recording": "r2", "accent": "saxon", "Noise": "", "mood": "sad"},
    ]
    (source,) = write_manifest(make_wav, base / "tagged.jsonl", clips)
    assert run_cli("eval", eval_only(base, [source], "usual")).exit_code == 0
    folder = base / "models" / "usual" / "evaluation"
    lines = read_lines(folder, "tuned", "held-out")
    assert [line["recording"] for line in lines] == ["r1", "r1", "r2"]
    assert [line["speaker"] for line in lines] == ["anna", "bert", "bert"]
    accents = [{"accent": "bavarian", "noise": "street"}, {"accent": "saxon"}, {"accent": "saxon"}]
    assert [line["tags"] for line in lines] == accents
    slices = read_results(folder)["sets"]["held-out"]["slices"]
    assert slices.keys() == {"speaker", "accent", "noise"}, "all are equally long, of one source"
    assert {part["value"]: part["clips"] for part in slices["accent"]} == {"saxon": 2, "bavarian": 1}
    assert [(part["value"], part["clips"]) for part in slices["noise"]] == [("street", 1)]

    named = {**source, "slice_columns": ["mood"], "recording_column": "speaker"}
    assert run_cli("eval", eval_only(base, [named], "named")).exit_code == 0
    lines = read_lines(base / "models" / "named" / "evaluation", "tuned", "held-out")
    assert [line["tags"] for line in lines] == [{"mood": "glad"}, {"mood": "glad"}, {"mood": "sad"}]
    assert [line["recording"] for line in lines] == ["anna", "bert", "bert"]


# What training could not use.


def test_long_clips_and_long_transcripts_are_evaluated_and_left_out_of_the_loss(
    base: Path, make_wav: MakeWav, run_cli: RunCli
) -> None:
    """The window of the tiny model is 4 s, its decoder has 64 positions."""
    clips: list[dict[str, Any]] = [{}, {"seconds": 9.0}, {"text": LONG_TEXT}, {}]
    sources = write_manifest(make_wav, base / "long.jsonl", clips)
    job = write_job(base, "long", data={"eval": {"held-out": sources}}, training={"max_steps": 4, "eval_steps": 2})
    output = run_here(job, base)
    folder = base / "models" / "long" / "evaluation"
    lines = read_lines(folder, "tuned", "held-out")
    assert [line["seconds"] for line in lines] == [0.5, 9.0, 0.5, 0.5]
    assert lines[2]["reference"] == LONG_TEXT.strip()
    assert read_results(folder)["sets"]["held-out"]["words"] == 2 + 2 + 500 + 2
    assert {part["value"] for part in read_results(folder)["sets"]["held-out"]["slices"]["duration"]} == {
        "under 2 s",
        "5 to 10 s",
    }
    evaluated = [line for line in output.splitlines() if "evaluated" in line]
    assert len(evaluated) == 2
    assert "nan" not in "".join(evaluated).lower()
    assert run_cli("eval", job).exit_code == 0


def test_a_set_of_nothing_but_long_clips_is_evaluated_in_training_too(base: Path, make_wav: MakeWav) -> None:
    sources = write_manifest(make_wav, base / "long.jsonl", [{"seconds": 5.0}, {"seconds": 6.0}])
    training = {"max_steps": 2, "eval_steps": 2}
    output = run_here(write_job(base, "longest", data={"eval": {"held-out": sources}}, training=training), base)
    assert len([line for line in output.splitlines() if "evaluated" in line]) == 1
    assert read_results(base / "models" / "longest" / "evaluation")["sets"]["held-out"]["clips"] == 2


# Clips that were trained on.


def test_sentences_of_training_are_counted_and_the_wer_without_them_told(
    base: Path, make_wav: MakeWav, run_cli: RunCli
) -> None:
    train = write_manifest(make_wav, base / "train.jsonl", [{"text": f"der Mann sucht {n} Eier"} for n in range(8)])
    clips = [{"text": "Der Mann sucht 3 Eier!", "seconds": 0.7}, {"text": "die Uhr ist weg", "seconds": 0.8}]
    held_out = write_manifest(make_wav, base / "eval.jsonl", clips)
    training = {"max_steps": 1, "eval_strategy": "no", "load_best_model_at_end": False}
    job = write_job(base, "known", data={"train": train, "eval": {"held-out": held_out}}, training=training)
    run_here(job, base)
    folder = base / "models" / "known"
    found = read_results(folder / "evaluation")["sets"]["held-out"]["contamination"]
    assert (found["same_text"], found["same_audio"]) == (1, 0)
    assert found["wer_without"] is not None
    assert run_cli("eval", job, "--max-samples", "1").exit_code == 0
    (sample,) = (folder / "evaluations").iterdir()
    found = read_results(sample)["sets"]["held-out"]["contamination"]
    assert found == {"same_text": 1, "same_audio": 0, "wer_without": None}


# Joined clips.


def test_clips_are_joined_for_the_long_form_gate_and_again_when_it_asks_for_others(
    base: Path, make_wav: MakeWav, run_cli: RunCli
) -> None:
    """The eval set is another than the run had so far, which changes nothing of what it learned."""
    path, folder = base / "second.yaml", base / "models" / "second" / "evaluation"
    job = yaml.safe_load(path.read_text(encoding="utf-8"))
    job["data"]["eval"] = {
        "held-out": write_manifest(make_wav, base / "eval.jsonl", [{"seconds": 9.0} for _ in range(5)])
    }
    job["gates"] = {"long_form": {"max_worse": 1000.0}}
    job["evaluation"] = {"long_form": {"seconds": 100}}
    path.write_text(yaml.safe_dump(job))
    result = run_cli("eval", path)
    assert result.exit_code == 3, result.output
    assert "gate long_form: MISSED: no long recording could be joined: the eval set is too short" in result.output
    assert list(read_results(folder)["sets"]) == ["held-out"]
    for verb, seconds, parts in (("eval", 31, 4), ("train", 40, 5), ("train", 31, 4)):
        result = run_cli(verb, path, "--set", f"evaluation.long_form.seconds={seconds}")
        assert result.exit_code == 0, result.output
        (joined,) = read_lines(folder, "tuned", "long-form")
        assert (joined["parts"], joined["seconds"]) == (list(range(parts)), 9.0 * parts + 0.5 * (parts - 1))
        long_form = read_results(folder)["sets"]["long-form"]
        assert (long_form["clips"], long_form["words"], long_form["contamination"]) == (1, 2 * parts, None)
    for same in ("gates.long_form.max_worse=2000", "evaluation.long_form.minutes=10"):
        words = ("--set", "evaluation.long_form.seconds=31", "--set", same)
        assert "transcribing" not in run_cli("eval", path, *words).output
    result = run_cli(
        "train", path, "--set", "evaluation.long_form.seconds=31", "--set", "gates.long_form.max_worse=3000"
    )
    assert "transcribing" not in result.output, "a changed limit needs no other recordings"


def test_the_clips_that_are_joined_may_be_those_of_another_set(base: Path, make_wav: MakeWav, run_cli: RunCli) -> None:
    short = write_manifest(make_wav, base / "short.jsonl", [{}])
    job = eval_only(base, short, "two-sets")
    values = yaml.safe_load(job.read_text(encoding="utf-8"))
    values["data"]["eval"]["read"] = write_manifest(make_wav, base / "read.jsonl", [{"seconds": 9.0} for _ in range(4)])
    values["evaluation"] = {"long_form": {"set": "read", "seconds": 31}}
    job.write_text(yaml.safe_dump(values))
    result = run_cli("eval", job)
    assert result.exit_code == 0, result.output
    found = read_results(base / "models" / "two-sets" / "evaluation")["sets"]["long-form"]
    assert (found["clips"], found["alone"]["set"], found["alone"]["clips"]) == (1, "read", 4)


def test_audio_that_vanished_ends_the_evaluation_until_it_is_back(
    base: Path, make_wav: MakeWav, run_cli: RunCli
) -> None:
    """Empty texts would make a model as bad as can be, and the other one certainly better."""
    (source,) = write_manifest(make_wav, base / "mounted.jsonl", [{}, {}, {}])
    job = eval_only(base, [source], "mounted")
    assert run_cli("eval", job).exit_code == 0
    there, gone = base / "mounted-1.wav", base / "elsewhere.wav"
    there.rename(gone)
    shutil.rmtree(base / "models" / "mounted" / "evaluation" / "transcriptions")
    lost = run_cli("eval", job)
    assert lost.exit_code == 1
    assert "mounted-1.wav: cannot be read any more" in lost.output
    gone.rename(there)
    assert run_cli("eval", job).exit_code == 0
    assert len(read_lines(base / "models" / "mounted" / "evaluation", "tuned", "held-out")) == 3
