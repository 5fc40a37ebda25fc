"""A transcription as text, SubRip, WebVTT or JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from whisper_train.evaluation.words import join_texts

FORMATS = ("txt", "srt", "vtt", "json")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text with the time it was said, in seconds."""

    start: float
    end: float
    text: str


def render(cues: Sequence[Cue], form: str, audio: str, language: str | None) -> str:
    """The cues of a recording as the contents of a file."""
    if form == "txt":
        return join_texts([cue.text for cue in cues]) + "\n"
    if form == "json":
        facts = {"audio": audio, "language": language, "text": join_texts([cue.text for cue in cues])}
        parts = [{"start": round(cue.start, 3), "end": round(cue.end, 3), "text": cue.text} for cue in cues]
        return json.dumps({**facts, "segments": parts}, ensure_ascii=False, indent=2) + "\n"
    mark = "," if form == "srt" else "."
    blocks = [
        f"{head(number, form)}{clock(cue.start, mark)} --> {clock(cue.end, mark)}\n{cue.text}\n"
        for number, cue in enumerate(cues, 1)
    ]
    return "\n".join(["WEBVTT\n", *blocks] if form == "vtt" else blocks)


def head(number: int, form: str) -> str:
    """SubRip counts its cues."""
    return f"{number}\n" if form == "srt" else ""


def clock(seconds: float, mark: str) -> str:
    """Hours, minutes, seconds and, after `mark`, milliseconds: 00:01:02,345."""
    whole = round(seconds * 1000)
    minutes, rest = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
