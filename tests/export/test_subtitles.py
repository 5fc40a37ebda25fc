"""The forms of a transcription."""

import json

from whisper_train.export.subtitles import Cue, clock, render

CUES = [Cue(0.0, 1.5, "Guten Tag."), Cue(1.5, 3661.0, "Wie geht es?")]


def test_text_is_one_line() -> None:
    assert render(CUES, "txt", "a.wav", "de") == "Guten Tag. Wie geht es?\n"


def test_subrip() -> None:
    assert render(CUES, "srt", "a.wav", "de") == (
        "1\n00:00:00,000 --> 00:00:01,500\nGuten Tag.\n\n2\n00:00:01,500 --> 01:01:01,000\nWie geht es?\n"
    )


def test_webvtt() -> None:
    assert render(CUES[:1], "vtt", "a.wav", "de") == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nGuten Tag.\n"


def test_json_holds_times_and_the_whole_text() -> None:
    facts = json.loads(render(CUES, "json", "a.wav", "de"))
    assert facts["text"] == "Guten Tag. Wie geht es?"
    assert facts["segments"][1] == {"start": 1.5, "end": 3661.0, "text": "Wie geht es?"}


def test_milliseconds_carry_over() -> None:
    assert clock(59.9996, ",") == "00:01:00,000"
