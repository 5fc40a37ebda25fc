"""The report: every section with the right numbers, strangers' text harmless, nothing from outside, never too large."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.report.fixtures import (
    clip_line,
    find_transcriptions,
    hear_badly,
    make_audit,
    make_averaging,
    make_evaluation,
    make_history,
    make_results,
    make_run,
    mark_repetition,
    sentence,
    write_audio,
    write_transcription,
)
from tests.report.pages import Page
from whisper_train.errors import UserError
from whisper_train.report.page import write_report

SECTIONS = ("gates", "results", "curves", "slices", "confusions", "worst", "listen", "data", "measured")


def report(folder: Path, results: dict[str, Any], cache: Path, **more: Any) -> Page:
    return Page(write_report(folder, results, transcriptions=find_transcriptions(folder), cache=cache, **more))


@pytest.fixture
def full(tmp_path: Path) -> Page:
    """Everything that a run can leave."""
    folder, cache = tmp_path / "evaluation", tmp_path / "cache"
    results = make_evaluation(folder, cache)
    facts = {"run": make_run(), "audit": make_audit(), "history": make_history()}
    return report(folder, results, cache, **facts, find_hallucinations=mark_repetition)


def one_clip(tmp_path: Path, reference: str, hypothesis: str, **line: Any) -> Page:
    """The report of a single clip of one model."""
    folder = tmp_path / "evaluation"
    write_transcription(folder, "tuned", "hard", [clip_line(0, hypothesis, reference=reference, **line)])
    return report(folder, make_results(), tmp_path / "cache")


@pytest.mark.parametrize("line", ["{", "[]", '{"reference": "a"}', '{"reference": "a", "hypothesis": 3}'])
def test_a_broken_transcription_is_named_and_leaves_the_report_as_it_was(tmp_path: Path, line: str) -> None:
    path = write_transcription(tmp_path, "tuned", "hard", [clip_line(0, "ja")])
    path.write_text(path.read_text() + line + "\n")
    (tmp_path / "report.html").write_text("before")
    with pytest.raises(UserError, match=r"hard\.jsonl"):
        report(tmp_path, make_results(), tmp_path)
    assert (tmp_path / "report.html").read_text() == "before"


def test_transcripts_are_text_whatever_they_hold(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> <img src=x onerror=alert(1)> \"'&amp; </p></dd> {{ 7*7 }}"
    page = one_clip(tmp_path, hostile, hostile + " mehr", clip=hostile, speaker=hostile, language='de" onload="x')
    assert not page.all("script")
    assert not page.all("img")
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert not any(name.startswith("on") for _, held in page.elements for name in held)


def test_characters_that_no_page_may_hold_are_replaced(tmp_path: Path) -> None:
    page = one_clip(tmp_path, "eins\x00zwei\x1b", "drei\udcff vier")
    assert "eins\ufffdzwei" in page.text
    assert "\x00" not in page.source


@pytest.mark.parametrize("text", ["wort " * 20_000, "w" * 100_000])
def test_a_huge_transcript_is_cut_with_a_note(tmp_path: Path, text: str) -> None:
    page = one_clip(tmp_path, "kurz", text)
    assert len(page.source) < 60_000
    assert "…" in page.text
    if " " in text:
        assert "more words" in page.text


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    page = report(tmp_path, {}, tmp_path)
    assert "Nothing was measured." in page.text
    assert [held["id"] for held in page.all("section")] == list(SECTIONS)


def test_what_is_missing_is_a_dash(tmp_path: Path) -> None:
    results = make_results(gates=[], promoted=None, silence=None)
    results["sets"] = {"hard": {"clips": 240, "wer": 0.25, "baseline": None, "comparison": None, "contamination": None}}
    page = report(tmp_path, results, tmp_path)
    assert (
        "On hard, tuned gets 25.0 of 100 words wrong (95 % interval –). There was no baseline to compare with."
        in page.text
    )
    assert "Not judged" in page.text
    assert "CER – 95 % interval –" in page.text
    assert "No training was logged." in page.text
    assert "Data audit: –" in page.text


@pytest.mark.parametrize("value", [None, "much", [], float("nan"), True])
def test_a_figure_that_is_none_is_a_dash(tmp_path: Path, value: Any) -> None:
    results = make_results()
    results["sets"]["hard"] |= {"wer": value, "wer_interval": value, "cer": value}
    assert "WER on hard – 95 % interval –" in report(tmp_path, results, tmp_path).text


def test_audio_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    folder, cache = tmp_path / "evaluation", tmp_path / "cache"
    write_audio(cache, 2)
    (cache / "synthetic" / "000001.wav").write_bytes(b"no audio")
    lines = [clip_line(number, "falsch") for number in range(3)]
    lines += [
        clip_line(4, "falsch", source="web", seconds="long"),
        clip_line(3, "falsch", audio=""),
        {"reference": "nur", "hypothesis": "Texte"},
    ]
    write_transcription(folder, "tuned", "hard", lines)
    said: list[str] = []
    page = report(folder, make_results(), cache, say=said.append)
    assert len(page.all("audio")) == 1
    (warning,) = said
    assert "3 of the 4 recordings that the report would play could not be read" in warning
    assert f"{warning}." in page.text
    assert "The audio cannot be read: no such file." in page.text
    assert "The audio cannot be read: cannot be decoded" in page.text
    assert "The audio cannot be read: invalid literal" in page.text
    assert page.text.count("No audio: the transcription names none.") == 2


def test_audio_stays_within_its_budget(tmp_path: Path) -> None:
    folder, cache = tmp_path / "evaluation", tmp_path / "cache"
    write_audio(cache, 4, seconds=45.0)
    write_transcription(folder, "tuned", "hard", [clip_line(number, "falsch", seconds=45.0) for number in range(4)])
    page = report(folder, make_results(), cache, audio_budget=300_000)
    players = page.all("audio")
    assert len(players) == 2
    assert all(90_000 < len(held["src"]) < 150_000 for held in players)  # 30 s, not 45
    assert page.text.count("The first 30 s.") == 2
    assert page.text.count("The audio is left out: the page would become too large.") == 2


def test_every_section_has_its_numbers(full: Page) -> None:
    assert [held["id"] for held in full.all("section")] == list(SECTIONS)
    for expected in (
        "demo ✓ Promoted",
        "On hard, tuned gets 1.4 of 100 words wrong; before it was 73.7. That is 98 % fewer errors.",
        "The difference is certain at 95 % (240 clips, paired).",
        "WER on hard 1.37 % 95 % interval 0.72–2.15 %",
        "WER 73.7 → 1.4, 98 % fewer errors, certain at 95 % (240 clips)",
        "Difference −72.32 points (95 % interval −76.00 to −69.00), p under 0.001.",
        "WER on hard is 1.37 %; at most 10.00 % was asked for",
        "hard 240 clips · 0.11 h · 3 speakers · whisper-basic 1",
        "baseline 73.69 % 70.01–78.11 %",
        "hard by duration 4",
        "train 3,990 of 4,000 2.91 7 silent, 3 duplicate",
        "beams 5, max_length default, precision fp32",
        "2026-11-01 09:30 UTC",
        "8d2949e0c1f2a3b4c5d6e7f8091a2b3c4d5e6f70",
    ):
        assert expected in full.text, expected


def test_gates_are_shown_in_their_own_units(tmp_path: Path) -> None:
    shown = {"rate": (0.0137, "1.37 %"), "p": (0.0001, "p 0.0001"), "points": (1.0679, "+106.79 points")}
    shown |= {"change": (-0.05, "−5 %"), "words a minute": (145.7, "145.7 words a minute")}
    gates = [{"gate": f"a {unit}", "unit": unit, "measured": value, "met": True} for unit, (value, _) in shown.items()]
    page = report(tmp_path, make_results(gates=gates), tmp_path)
    for unit, (_, text) in shown.items():
        assert f"a {unit} ✓ met {text}".replace(" %", "\u00a0%") in page.text.replace(" %", "\u00a0%")


def test_a_missed_gate_is_said_first(tmp_path: Path) -> None:
    page = report(tmp_path, make_results(wer=0.2), tmp_path)
    assert "✕ Not promoted" in page.text
    head, _ = page.text.split("WER on hard 20.00 %")
    assert "Gate missed. WER on hard is 20.00 %; at most 10.00 % was asked for" in head


def test_a_difference_that_may_be_chance_is_called_that(tmp_path: Path) -> None:
    results = make_results()
    results["sets"]["hard"]["comparison"]["wer"] |= {"after": 0.74, "certain": False, "needed_units": 4100}
    text = report(tmp_path, results, tmp_path).text
    assert "0 % more errors. The difference may be chance: 240 clips do not tell; about 4,100 would tell." in text


def test_curves_and_durations_are_drawn(full: Page) -> None:
    titles = [held["aria-label"] for held in full.all("svg", "chart")]
    assert [title.split(" over ")[0].split(". ")[0] for title in titles] == [
        "Loss",
        "WER on the first set",
        "WER on hard by length of clip",
        "WER on ordinary by length of clip",
    ]
    assert len(full.all("svg", "bar")) == 4


def test_averages_are_drawn_for_every_set_and_the_kept_one_is_marked(tmp_path: Path) -> None:
    page = report(tmp_path, make_results(), tmp_path, run={**make_run(), "averaging": make_averaging()})
    assert "averaging" in [held["id"] for held in page.all("section")]
    titles = [held["aria-label"] for held in page.all("svg", "chart")]
    drawn = "WER on ordinary by share of the tuned model. 0: 2.95 %; 0.5: 3.12 %; 1: 6.48 %; kept: 0.5"
    assert drawn in [title.replace("\u00a0", " ") for title in titles]
    marks = [held["d"] for held in page.all("path", "marked")]
    assert len(marks) == 2
    left, middle, right = (int(mark.split("M")[1].split()[0].split(".")[0]) for mark in ("M46", marks[0], "M338"))
    assert left < middle < right
    text = page.text.replace("\u00a0", " ")
    assert "Kept: 0.5 of the tuned model, the rest of its base: errors on hard 73.69 % → 1.37 %, the lowest." in text
    assert "0 (base) 73.69 % 2.95 % 0.5 ✓ kept 1.37 % 3.12 % 1 (tuned) 1.21 % 6.48 %" in text
    assert "No average was within" not in text


def test_averages_that_all_lose_too_much_are_said_to(tmp_path: Path) -> None:
    made = {**make_averaging(), "within": False}
    page = report(tmp_path, make_results(), tmp_path, run={**make_run(), "averaging": made})
    assert "No average was within what may be lost." in page.text


def test_the_worst_clips_come_first_with_what_both_models_heard(full: Page) -> None:
    ranks = full.text.split("Worst clips")[2].split("Clips to listen to")[0]
    assert ranks.index("000053.wav") < ranks.index("000008.wav")
    assert "tuned 2 errors der alte bäcker bäcker auch malt die uhr" in ranks
    assert len(full.all("del")) > 20
    assert len(full.all("ins")) > 20
    assert all(held.get("lang") == "de" for held in full.all("p", "words"))


def test_hallucinations_are_marked(full: Page) -> None:
    listen = full.text.split("Clips to listen to")[1]
    assert "baseline 80 errors loop" in listen


def test_no_more_than_fifty_clips_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    lines = [clip_line(number, hear_badly(number)) for number in range(1_200)]
    write_transcription(folder, "tuned", "hard", lines)
    listen = [clip_line(number, "ganz anders", set="hard") for number in range(70)]
    (folder / "listen.jsonl").write_text("".join(json.dumps(line) + "\n" for line in listen))
    page = report(folder, make_results(), tmp_path / "cache")
    assert len(page.all("article")) == 100
    assert "transcripts of 70 clips" in page.text
    assert "The first 50; all are in listen.jsonl." in page.text


def test_ties_go_to_the_higher_rate(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    lines = [clip_line(0, "eins zwei falsch", reference="eins zwei drei"), clip_line(1, "falsch", reference="ja")]
    write_transcription(folder, "tuned", "hard", lines)
    text = report(folder, make_results(), tmp_path).text
    assert text.index("000001.wav") < text.index("000000.wav")


def test_nothing_comes_from_outside_and_nothing_runs(full: Page) -> None:
    references = full.references()
    assert len(references) > 40
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert not full.all("script")
    assert not full.all("iframe")
    ids = [held["id"] for _, held in full.elements if "id" in held]
    assert all(reference[1:] in ids for reference in references if reference.startswith("#"))


def test_headings_are_in_order(full: Page) -> None:
    levels = [int(tag[1]) for tag, _ in full.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_plain_transcription_of_somebody_else_will_do(tmp_path: Path) -> None:
    path = tmp_path / "transcriptions" / "tuned" / "hard.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"reference": sentence(1), "hypothesis": "nichts"}) + "\n")
    page = report(tmp_path, make_results(), tmp_path)
    assert "clip 0" in page.text
