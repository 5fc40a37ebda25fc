"""What a comparison is drawn over, its figures in results.json, and its sentence."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.calibration import World, simulate
from whisper_train.evaluation.bootstrap import Difference
from whisper_train.evaluation.compare import Unit, choose_unit, compare_sets, make_sentence, round_up


@dataclass(frozen=True, slots=True)
class Counted:
    edits: np.ndarray
    units: np.ndarray


@dataclass(frozen=True, slots=True)
class Scored:
    words: Counted
    characters: Counted


def scored(words: list[int] | np.ndarray, units: list[int] | np.ndarray) -> Scored:
    """Five characters a word, and as many wrong ones."""
    edits, reference = np.asarray(words), np.asarray(units)
    return Scored(Counted(edits, reference), Counted(edits * 5, reference * 5))


def names(kind: str, count: int, each: int = 1) -> list[str]:
    return [f"{kind}{number // each}" for number in range(count * each)]


def clips(count: int) -> Unit:
    return Unit("clip", np.arange(count), "")


def difference(
    before: float, after: float, certain: bool = True, units: int = 200, needed: int | None = None
) -> Difference:
    interval = (-1.0, -0.01) if certain else (-1.0, 1.0)
    return Difference(before, after, after - before, interval, 0.01 if certain else 0.5, units, needed)


def test_models_scored_against_different_references_are_not_compared() -> None:
    with pytest.raises(AssertionError, match="same references"):
        compare_sets(scored([1, 2], [5, 5]), scored([1, 2], [5, 6]), clips(2))


def test_speakers_are_drawn_where_ten_are_known() -> None:
    unit = choose_unit(names("speaker", 10, each=4), names("recording", 20, each=2), names("clip", 40))
    assert (unit.name, unit.note, len(np.unique(unit.groups))) == ("speaker", "", 10)
    assert unit.groups.tolist() == [number // 4 for number in range(40)]


def test_few_speakers_give_way_to_recordings_and_few_recordings_to_clips() -> None:
    speakers = names("speaker", 3, each=20)
    by_recording = choose_unit(speakers, names("recording", 15, each=4), names("clip", 60))
    by_clip = choose_unit(speakers, names("recording", 6, each=10), names("clip", 60))
    assert (by_recording.name, len(np.unique(by_recording.groups))) == ("recording", 15)
    assert (by_clip.name, len(np.unique(by_clip.groups))) == ("clip", 60)
    assert by_recording.note == by_clip.note == "only 3 speakers known, so this says nothing about other speakers"


def test_without_names_every_clip_is_by_itself() -> None:
    unit = choose_unit([""] * 30, [""] * 30, [""] * 30)
    assert (unit.name, unit.groups.tolist()) == ("clip", list(range(30)))
    assert unit.note == "the speakers are unknown, so other speakers may differ more"


def test_a_clip_of_an_unknown_speaker_counts_with_its_recording_or_by_itself() -> None:
    speakers = [*names("speaker", 10), "", "", "", ""]
    recordings = [*names("recording", 10), "meeting", "meeting", "", ""]
    unit = choose_unit(speakers, recordings, names("clip", 14))
    assert unit.name == "speaker"
    assert unit.groups.tolist() == [*range(10), 10, 10, 11, 12]
    assert unit.note == "clips of unknown speakers counted apart"


def test_speakers_of_a_minority_of_the_clips_are_not_drawn() -> None:
    unit = choose_unit([*names("speaker", 12), *[""] * 13], [""] * 25, names("clip", 25))
    assert unit.name == "clip"
    assert unit.note == "most clips have no known speaker, so other speakers may differ more"


def test_a_speaker_and_a_recording_of_the_same_name_are_two_groups() -> None:
    unit = choose_unit([*names("x", 10), ""], [*[""] * 10, "x0"], names("clip", 11))
    assert len(np.unique(unit.groups)) == 11


def test_the_comparison_is_that_of_results_json() -> None:
    pair = simulate(World(240, gain=0.9), np.random.default_rng(0))
    found = compare_sets(scored(pair.before, pair.units), scored(pair.after, pair.units), clips(240))
    assert list(found) == ["wer", "cer", "sentence"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    keys = ["before", "after", "difference", "interval", "p_value", "certain", "unit", "units", "needed_units"]
    assert list(found["wer"]) == list(found["cer"]) == keys
    wer = found["wer"]
    assert wer["before"] == pair.before.sum() / pair.units.sum()
    assert wer["interval"][0] <= wer["difference"] <= wer["interval"][1]
    assert wer["difference"] == pytest.approx(wer["after"] - wer["before"])
    assert (wer["certain"], wer["unit"], wer["units"], wer["needed_units"]) == (True, "clip", 240, None)
    assert wer["difference"] == found["cer"]["difference"]  # here, every wrong word has five wrong characters
    assert found["sentence"].endswith("% fewer errors, certain at 95 % (240 clips)")


def test_one_clip_is_compared_without_an_interval() -> None:
    found = compare_sets(scored([3], [10]), scored([1], [10]), clips(1))
    assert json.loads(json.dumps(found, allow_nan=False))["wer"]["interval"] is None
    assert found["sentence"] == "WER 30.0 → 10.0: 1 clip is too few to show a difference"


def test_references_without_words_are_said_to_be_that() -> None:
    found = compare_sets(scored([3] * 20, [0] * 20), scored([1] * 20, [0] * 20), clips(20))
    assert found["sentence"] == "WER: the references hold no words, so there is nothing to compare"
    json.dumps(found, allow_nan=False)


def test_equal_models_are_said_to_be_equal() -> None:
    found = compare_sets(scored([1] * 20, [10] * 20), scored([1] * 20, [10] * 20), clips(20))
    assert found["sentence"] == "WER 10.0 → 10.0: the same number of errors everywhere (20 clips)"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (difference(0.124, 0.081), "WER 12.4 → 8.1, 35 % fewer errors, certain at 95 % (200 clips)"),
        (difference(0.124, 0.1389), "WER 12.4 → 13.9, 12 % more errors, certain at 95 % (200 clips)"),
        (difference(0.124, 0.0), "WER 12.4 → 0.0, 100 % fewer errors, certain at 95 % (200 clips)"),
        (difference(0.5, 0.0004), "WER 50.0 → 0.0, over 99 % fewer errors, certain at 95 % (200 clips)"),
        (difference(0.1003, 0.1), "WER 10.03 → 10.00, under 1 % fewer errors, certain at 95 % (200 clips)"),
        (difference(0.0, 0.05), "WER 0.0 → 5.0, errors where there were none, certain at 95 % (200 clips)"),
        (difference(0.01, 0.3), "WER 1.0 → 30.0, 30 times as many errors, certain at 95 % (200 clips)"),
        (
            difference(0.124, 0.121, certain=False, needed=1_873),
            "WER 12.4 → 12.1: no difference can be shown with 200 clips; about 1,900 would be needed",
        ),
        (difference(0.1, 0.1, certain=False), "WER 10.0 → 10.0: no difference can be shown with 200 clips"),
    ],
)
def test_the_sentence(found: Difference, sentence: str) -> None:
    assert make_sentence(found, "clip") == sentence


def test_the_sentence_says_what_it_leaves_open() -> None:
    note = "only 3 speakers known, so this says nothing about other speakers"
    assert make_sentence(difference(0.124, 0.081), "clip", note).endswith(f"certain at 95 % (200 clips; {note})")
    assert make_sentence(difference(0.124, 0.121, certain=False, units=24, needed=83), "speaker", note) == (
        f"WER 12.4 → 12.1: no difference can be shown with 24 speakers; about 83 would be needed; {note}"
    )


@pytest.mark.parametrize(
    ("count", "rounded"), [(6, 6), (83, 83), (101, 110), (1_873, 1_900), (1_900, 1_900), (9_990_001, 10_000_000)]
)
def test_numbers_are_rounded_up_to_two_digits(count: int, rounded: int) -> None:
    assert round_up(count) == rounded
