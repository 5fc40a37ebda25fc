"""results.json: every figure of an evaluation out of its transcription files, and nothing that they do not hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from whisper_train.errors import UserError
from whisper_train.evaluation.results import file_figures, write_results
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.job import Gates

TEXTS = ("der Mann sucht den Apfel", "die Frau kauft ein Buch", "das Kind malt ein Bild", "ein Hund findet die Uhr")
WORDS = 5  # of each


def lines_of(*hypotheses: str, **more: Any) -> list[dict[str, Any]]:
    """One clip for each hypothesis, about the sentences of TEXTS in turn."""
    return [
        {
            "clip": f"{number}.wav",
            "position": number,
            "reference": TEXTS[number % 4],
            "hypothesis": text,
            "language": "de",
            "speaker": "",
            "recording": "",
            "tags": {},
            "source": 0,
            "seconds": 2.5,
            "compute_seconds": 0.5,
            "audio": f"{number}.wav",
            **more,
        }
        for number, text in enumerate(hypotheses)
    ]


def write(folder: Path, label: str, name: str, lines: list[dict[str, Any]], **header: Any) -> None:
    first = {"transcription": 1, "label": label, "model": f"models/{label}", "model_digest": label, "set": name}
    first |= {"set_digest": "d", "job": "demo", "language": "de", "sources": ["manifest: a"], "revisions": [None]}
    path = folder / "transcriptions" / label / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in (first | header, *lines)), encoding="utf-8")


def silent(folder: Path, label: str, heard: str = "") -> None:
    probe = {"clip": "hum", "position": 0, "reference": "", "hypothesis": heard, "language": "de", "seconds": 30.0}
    write(folder, label, "silence", [probe])


def results_of(folder: Path, names: list[str] | None = None, **gates: Any) -> dict[str, Any]:
    results = write_results(folder, normalizer="whisper-basic", gates=Gates.model_validate(gates), names=names)
    text = (folder / "results.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(results, allow_nan=False)), "JSON knows no NaN"
    return results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A judged model that hears all but one word, and a baseline that hears half of the clips."""
    write(tmp_path, "tuned", "hard", lines_of(*TEXTS[:3], "ein Hund findet das Uhr"))
    write(tmp_path, "baseline", "hard", lines_of(TEXTS[0], TEXTS[1], "", ""))
    for label in ("tuned", "baseline"):
        silent(tmp_path, label)
    return tmp_path


# What is refused.


def test_a_folder_without_transcriptions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no transcription of a model; evaluate first"):
        results_of(tmp_path)


def test_an_evaluation_that_was_interrupted_before_its_first_set_is_refused(tmp_path: Path) -> None:
    silent(tmp_path, "tuned")
    with pytest.raises(UserError, match="holds no transcription of a model; evaluate first"):
        results_of(tmp_path)


def test_a_set_that_the_job_no_longer_has_is_no_result(folder: Path) -> None:
    write(folder, "tuned", "old", lines_of(*TEXTS))
    assert list(results_of(folder, ["hard"])["sets"]) == ["hard"]
    with pytest.raises(UserError, match="holds no transcription of a model; evaluate first"):
        results_of(folder, ["other"])


def test_models_that_transcribed_other_clips_are_refused(folder: Path) -> None:
    write(folder, "baseline", "hard", lines_of(*TEXTS[:3]))
    with pytest.raises(
        UserError, match="hard: baseline and tuned transcribed other clips, or otherwise; evaluate again"
    ):
        results_of(folder)


@pytest.mark.parametrize("asked", [{"decoding": {"beams": 5}}, {"task": "translate"}, {"set_digest": "e"}])
def test_models_that_were_asked_otherwise_are_refused(folder: Path, asked: dict[str, Any]) -> None:
    """An evaluation with other settings was killed between the two."""
    write(folder, "baseline", "hard", lines_of(*TEXTS), **asked)
    with pytest.raises(UserError, match="or otherwise; evaluate again"):
        results_of(folder)


def test_models_whose_clips_had_other_transcripts_are_refused(folder: Path) -> None:
    """A transcript was mended between the two."""
    lines = lines_of(*TEXTS)
    lines[2]["reference"] = "das Kind malt das Bild und lacht"
    write(folder, "baseline", "hard", lines)
    with pytest.raises(
        UserError, match="hard: baseline and tuned transcribed other clips, or otherwise; evaluate again"
    ):
        results_of(folder)


def test_a_gate_that_needs_a_baseline_is_missed_where_none_was_transcribed(folder: Path) -> None:
    """As in a folder whose evaluation was interrupted between two models."""
    for path in (folder / "transcriptions" / "baseline").iterdir():
        path.unlink()
    write(folder, "tuned", "other", lines_of(*TEXTS))
    write(folder, "tuned", "long-form", lines_of(*TEXTS))
    (folder / "transcriptions" / "tuned" / "silence.jsonl").unlink()
    gates: dict[str, Any] = {"significant": True, "retention": {}, "long_form": {}, "hallucination": {}}
    results = results_of(folder, ["hard", "other"], **gates)
    missed = {gate["gate"]: gate for gate in results["gates"] if not gate["met"]}
    assert set(missed) == {"significant", "retention", "long_form", "silence"}
    assert results["promoted"] is False
    assert all(gate["measured"] is None for gate in missed.values())
    assert "no baseline" in missed["retention"]["sentence"]


def test_a_gate_on_a_set_that_was_not_transcribed_is_missed(folder: Path) -> None:
    gates: dict[str, Any] = {"wer": 0.9, "retention": {"sets": ["other"]}}
    assert [gate["met"] for gate in results_of(folder, ["hard", "other"], **gates)["gates"]] == [True, False]
    gates = {"wer": 0.9, "significant": True}
    judged = results_of(folder, ["first", "hard"], **gates)["gates"]
    assert [(gate["set"], gate["met"]) for gate in judged] == [("first", False)] * 2, "never judged on another set"


# Figures.


def test_figures_of_model_and_baseline_stand_side_by_side(folder: Path) -> None:
    results = results_of(folder)
    hard = results["sets"]["hard"]
    assert (hard["wer"], hard["substitutions"], hard["words"]) == (1 / 20, 1, 20)
    assert (hard["baseline"]["wer"], hard["baseline"]["deletions"]) == (10 / 20, 10)
    assert hard["real_time_factor"] == hard["baseline"]["real_time_factor"] == 0.2
    assert (hard["clips"], hard["seconds"], hard["speakers"], hard["unit"]) == (4, 10.0, 0, "clip")
    assert (hard["digest"], hard["sources"]) == ("d", ["manifest: a"])
    assert (hard["normalizer"], hard["normalizer_version"]) == ("whisper-basic", "1")
    assert hard["comparison"]["wer"]["before"] == 0.5
    assert hard["confusions"] == [{"reference": "die", "hypothesis": "das", "count": 1}]
    assert results["models"]["tuned"] == {"model": "models/tuned", "digest": "tuned"}
    assert (results["base"], results["job"], results["language"]) == ("models/baseline", "demo", "de")


def test_every_normalizer_of_the_language_is_computed_for_the_same_transcription(folder: Path) -> None:
    write(folder, "tuned", "hard", lines_of("DER MANN SUCHT DEN APFEL!", *TEXTS[1:]))
    hard = results_of(folder)["sets"]["hard"]
    assert list(hard["by_normalizer"]) == ["raw", "whisper-basic", "german"]
    assert hard["by_normalizer"]["raw"]["wer"] == 5 / 20
    assert hard["by_normalizer"]["whisper-basic"]["wer"] == hard["wer"] == 0
    assert list(hard["baseline"]["by_normalizer"]) == ["raw", "whisper-basic", "german"]


def test_without_a_baseline_nothing_is_compared(tmp_path: Path) -> None:
    write(tmp_path, "tuned", "hard", lines_of(*TEXTS))
    silent(tmp_path, "tuned")
    results = results_of(tmp_path)
    assert (results["sets"]["hard"]["baseline"], results["sets"]["hard"]["comparison"]) == (None, None)
    assert (results["base"], results["sets"]["hard"]["others"]) == (None, {})
    assert (tmp_path / "listen.jsonl").read_text() == ""


def test_further_models_stand_among_the_others(folder: Path) -> None:
    write(folder, "openai--whisper-small", "hard", lines_of("", *TEXTS[1:]))
    results = results_of(folder)
    assert list(results["models"]) == ["tuned", "baseline", "openai--whisper-small"]
    assert results["sets"]["hard"]["others"]["openai--whisper-small"]["wer"] == 5 / 20
    assert results["sets"]["hard"]["comparison"]["wer"]["before"] == 0.5, "compared with the baseline still"


def test_sets_come_in_the_order_of_the_job_and_joined_clips_last(folder: Path) -> None:
    write(folder, "tuned", "easy", lines_of(*TEXTS))
    write(folder, "tuned", "long-form", [])
    gates: dict[str, Any] = {"long_form": {}}
    assert list(results_of(folder, ["hard", "easy"], **gates)["sets"]) == ["hard", "easy"], "nothing could be joined"
    write(folder, "tuned", "long-form", lines_of(*TEXTS))
    assert list(results_of(folder, ["hard", "easy"], **gates)["sets"]) == ["hard", "easy", "long-form"]
    assert list(results_of(folder, **gates)["sets"]) == ["easy", "hard", "long-form"]
    assert list(results_of(folder)["sets"]) == ["easy", "hard"], "no gate asks for them"


def test_joined_clips_stand_beside_the_same_clips_one_by_one(folder: Path) -> None:
    joined = {"parts": [0, 1], "reference": " ".join(TEXTS[:2]), "hypothesis": TEXTS[0]}
    for label in ("tuned", "baseline"):
        write(folder, label, "long-form", [lines_of("")[0] | joined])
    results = write_results(folder, normalizer="whisper-basic", gates=Gates(), long_form=True)
    found = results["sets"]["long-form"]
    clips = read_transcription(folder / "transcriptions" / "tuned" / "hard.jsonl").lines[:2]
    assert found["wer"] == 0.5
    assert (found["alone"]["set"], found["alone"]["clips"]) == ("hard", 2)
    wrong = sum(line["hypothesis"] != line["reference"] for line in clips)
    assert (found["alone"]["wer"] == 0) is (wrong == 0)
    assert found["baseline"]["alone"]["clips"] == 2
    write(folder, "tuned", "long-form", [lines_of("")[0] | joined | {"parts": [0, 99]}])
    results = write_results(folder, normalizer="whisper-basic", gates=Gates(), long_form=True)
    assert results["sets"]["long-form"]["alone"] is None, "a sample of the set holds some of them alone"


def test_words_in_silence_are_counted_and_no_set_of_their_own(folder: Path) -> None:
    silent(folder, "tuned", "vielen dank fürs zuschauen")
    results = results_of(folder)
    assert results["silence"]["tuned"] == {"clips": 1, "seconds": 30.0, "words": 4, "words_per_minute": 8.0}
    assert results["silence"]["baseline"]["words"] == 0
    assert "silence" not in results["sets"]


def test_texts_of_nothing_have_rates_and_no_intervals(tmp_path: Path) -> None:
    for label in ("tuned", "baseline"):
        lines = lines_of("...", "ja")
        write(tmp_path, label, "hard", [line | {"reference": "!", "seconds": 0.0} for line in lines])
        silent(tmp_path, label)
    hard = results_of(tmp_path)["sets"]["hard"]
    assert (hard["words"], hard["wer"], hard["wer_interval"], hard["real_time_factor"]) == (0, 1, None, None)
    assert "nothing to compare" in hard["comparison"]["sentence"]


def test_the_comparison_is_over_speakers_then_recordings_then_clips(tmp_path: Path) -> None:
    lines = lines_of(*TEXTS * 6)
    silent(tmp_path, "tuned")
    for name, key, count in (("speaker", "speaker", 12), ("recording", "recording", 12), ("clip", "speaker", 9)):
        named = [line | {key: f"number {number % count}"} for number, line in enumerate(lines)]
        for label in ("tuned", "baseline"):
            write(tmp_path, label, name, named)
        result = results_of(tmp_path, [name])["sets"][name]
        assert (result["unit"], result["comparison"]["wer"]["unit"]) == (name, name)
    assert result["comparison"]["wer"]["units"] == 24


def test_equally_named_clips_of_two_sources_are_two_clips(tmp_path: Path) -> None:
    lines = [line | {"clip": "a.wav", "source": number % 2} for number, line in enumerate(lines_of(*TEXTS[:2]))]
    for label in ("tuned", "baseline"):
        write(tmp_path, label, "hard", lines, sources=["manifest: a", "manifest: b"])
        silent(tmp_path, label)
    hard = results_of(tmp_path)["sets"]["hard"]
    assert hard["comparison"]["wer"]["units"] == 2
    assert [part["value"] for part in hard["slices"]["source"]] == ["manifest: a", "manifest: b"]


def test_slices_hold_tags_with_the_baseline_beside(folder: Path) -> None:
    for label, heard in (("tuned", TEXTS), ("baseline", ("", *TEXTS[1:]))):
        lines = lines_of(*heard)
        lines[0]["tags"] = {"accent": "bavarian"}
        write(folder, label, "hard", lines)
    (part,) = results_of(folder)["sets"]["hard"]["slices"]["accent"]
    assert (part["value"], part["clips"], part["wer"], part["baseline_wer"]) == ("bavarian", 1, 0, 1)


# What makes a result worth less.


def test_clips_known_from_training_are_counted_and_the_wer_without_them_told(folder: Path) -> None:
    seen = {"same_text": [0, 3], "same_audio": [3]}
    write(folder, "tuned", "hard", lines_of(*TEXTS[:3], ""), contamination=seen)
    found = results_of(folder)["sets"]["hard"]["contamination"]
    assert found == {"same_text": 2, "same_audio": 1, "wer_without": 0.0}


def test_of_a_sample_only_its_own_clips_are_counted(tmp_path: Path) -> None:
    """With --max-samples the positions are those in the whole set."""
    lines = lines_of(*TEXTS)
    for line, position in zip(lines, (0, 30, 60, 90), strict=True):
        line["position"] = position
    lines[1]["hypothesis"] = ""
    write(tmp_path, "tuned", "hard", lines, contamination={"same_text": [1, 2, 3, 30], "same_audio": []})
    silent(tmp_path, "tuned")
    found = results_of(tmp_path)["sets"]["hard"]["contamination"]
    assert found == {"same_text": 1, "same_audio": 0, "wer_without": 0.0}


def test_where_all_clips_are_known_there_is_no_wer_without_them(folder: Path) -> None:
    write(folder, "tuned", "hard", lines_of(*TEXTS), contamination={"same_text": [0, 1, 2, 3], "same_audio": []})
    assert results_of(folder)["sets"]["hard"]["contamination"]["wer_without"] is None


def test_contamination_that_nobody_looked_for_is_unknown(folder: Path) -> None:
    assert results_of(folder)["sets"]["hard"]["contamination"] is None


def test_transcripts_that_the_baseline_contradicts_are_listed_for_a_listen(folder: Path) -> None:
    results_of(folder)
    listen = [json.loads(line) for line in (folder / "listen.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted((line["set"], line["clip"]) for line in listen) == [("hard", "2.wav"), ("hard", "3.wav")]
    for label in ("tuned", "baseline"):
        write(folder, label, "long-form", lines_of("", ""))
    results_of(folder, long_form={})
    assert len((folder / "listen.jsonl").read_text().splitlines()) == 2, "joined clips are no clips to listen to"


# Verdict.


def test_a_model_is_promoted_when_every_gate_is_met(folder: Path) -> None:
    assert results_of(folder, wer=0.05)["promoted"] is True
    results = results_of(folder, wer=0.049)
    assert (results["promoted"], results["gates"][0]["measured"]) == (False, 0.05)
    assert results_of(folder)["promoted"] is True, "a job without gates asks for nothing"


def test_without_anybodys_gates_nothing_is_judged(folder: Path) -> None:
    results = write_results(folder, normalizer="raw", gates=None)
    assert (results["gates"], results["promoted"]) == ([], None)


def test_a_file_of_somebody_else_is_scored_under_every_normalizer_of_its_languages(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"reference": "Das Haus", "hypothesis": "das Haus"}\n')
    figures = file_figures(read_transcription(path), [])
    assert {name: own["wer"] for name, own in figures["by_normalizer"].items()} == {"raw": 0.5, "whisper-basic": 0.0}
    assert (figures["clips"], figures["hallucination"]["clips"]) == (1, 0)
    assert list(file_figures(read_transcription(path), ["german"])["by_normalizer"]) == ["german"]
    path.write_text("")
    assert file_figures(read_transcription(path), [])["by_normalizer"]["raw"]["wer"] == 0
