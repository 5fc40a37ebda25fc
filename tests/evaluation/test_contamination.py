"""Clips known from training and transcripts that both models contradict are named; short and common texts are not."""

from typing import Any

import numpy as np
import pytest

from whisper_train.evaluation.contamination import same_audio, same_texts, suspicious_clips
from whisper_train.evaluation.normalize import make_normalizer
from whisper_train.evaluation.score import count_errors


def find_suspicious(clips: list[dict[str, Any]], baseline: list[str]) -> list[dict[str, Any]]:
    references = [clip["reference"] for clip in clips]
    tuned = [clip["hypothesis"] for clip in clips]
    before, after = (count_errors(references, hypotheses, "character") for hypotheses in (baseline, tuned))
    return suspicious_clips(clips, baseline, before, after, make_normalizer("raw"))


def clip(reference: str, tuned: str, number: int = 0, seconds: float = 2.5) -> dict[str, Any]:
    name = f"{number:06}.flac"
    return {"clip": name, "reference": reference, "hypothesis": tuned, "audio": f"cache:{name}", "seconds": seconds}


@pytest.mark.parametrize("text", ["", "Ja.", "Guten Tag!", "谢谢你", "..."])
def test_short_texts_are_everybodys(text: str) -> None:
    assert same_texts([text], [text], make_normalizer("whisper-basic")) == []


def test_sentences_of_training_are_found_in_spite_of_case_and_punctuation() -> None:
    train = iter(["die frau kauft ein buch", "Was?", "今天天气非常好", "die frau kauft ein buch"])
    evaluated = [
        "Der Mann schläft heute.",
        "Die Frau kauft ein Buch!",
        "Was?",
        "die Frau kauft ein Buch",
        "今天天气非常好",
    ]
    assert same_texts(train, evaluated, make_normalizer("whisper-basic")) == [1, 3, 4]


def test_unknown_audio_is_not_the_same_audio() -> None:
    unknown = np.zeros(3, np.uint64)
    assert same_audio(unknown, unknown) == []
    assert same_audio(np.zeros(0, np.uint64), np.array([7], np.uint64)) == []


def test_audio_of_training_is_found() -> None:
    train = np.array([5, 2**64 - 1, 0], np.uint64)
    assert same_audio(train, np.array([0, 2**64 - 1, 4, 5], np.uint64)) == [1, 3]


def test_nothing_is_suspicious_where_the_baseline_agrees_or_the_text_is_short_or_empty() -> None:
    clips = [clip("der mann sucht den apfel", "x"), clip("ja", "nein"), clip("", "vielen dank fürs zuschauen")]
    assert find_suspicious(clips, ["der mann sucht den apfel", "nein", "vielen dank fürs zuschauen"]) == []
    assert find_suspicious([], []) == []


def test_transcripts_that_both_models_contradict_come_first() -> None:
    clips = [
        clip("der mann sucht den apfel", "der mann sucht den apfel", 0),
        clip("die frau kauft ein buch", "zwei hunde laufen davon", 1),
        clip("das kind malt ein bild", "irgendetwas ganz anderes war es", 2),
        clip("der hund findet die uhr", "", 3),
    ]
    found = find_suspicious(clips, ["you you you you you you you you", "zwei hunde laufen davon!", "hmm", ""])
    assert [line["clip"][5] for line in found] == ["3", "1", "2", "0"]
    assert [line["models_agree"] for line in found] == [True, True, False, False]
    heard = {"hypothesis": "zwei hunde laufen davon!", "tuned": "zwei hunde laufen davon"}
    assert found[1] == {**clips[1], **heard, "baseline_cer": found[1]["baseline_cer"], "models_agree": True}
    assert found[1]["baseline_cer"] >= 0.5


def test_a_list_to_listen_to_stays_short() -> None:
    clips = [clip("der mann sucht den apfel", "zwei hunde", number) for number in range(300)]
    assert len(find_suspicious(clips, ["zwei hunde"] * 300)) == 200
