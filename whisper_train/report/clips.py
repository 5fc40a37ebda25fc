"""Single clips of a report: the worst ones, and those to listen to, with what was heard in them word by word."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from whisper_train.evaluation.normalize import VERSIONS, make_normalizer
from whisper_train.evaluation.score import count_errors
from whisper_train.report.diff import Chunk, count_edits, cut_chunks, diff_words
from whisper_train.report.formats import cut, language_tag, number
from whisper_train.report.sound import Sound, Sounds
from whisper_train.report.transcriptions import Transcription, read_lines

WORST = 50
TO_LISTEN = 50
CLIPS_PER_CHUNK = 1_000
TEXT_CHARACTERS = 2_000  # of a transcript; what is said in 30 s is under 700
NAME_CHARACTERS = 120

FindHallucinations = Callable[[Mapping[str, Any]], Sequence[str]]  # a transcription line -> its marks, such as "loop"


@dataclass(frozen=True, slots=True)
class Heard:
    """What one model heard: its text, and how it differs from the reference."""

    label: str
    text: str
    chunks: list[Chunk]
    left_out: int  # words
    edits: int
    marks: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClipView:
    """One clip as the page shows it; `words` are those of the normalized reference."""

    name: str
    set: str
    facts: str
    language: str
    reference: str
    words: int
    heard: list[Heard]
    sound: Sound


@dataclass(frozen=True, slots=True)
class Scored:
    clip: dict[str, Any]
    set: str
    edits: int
    words: int

    def badness(self) -> tuple[int, float]:
        return self.edits, self.edits / max(self.words, 1)


def normalizer_of(results: Mapping[str, Any], set_name: str) -> Callable[[str], str]:
    """The normalizer that the figures of a set were made with; the plain text where this version does not know it."""
    name = (results.get("sets") or {}).get(set_name, {}).get("normalizer")
    return make_normalizer(name if name in VERSIONS else "raw")


def score_clips(transcription: Transcription, normalize: Callable[[str], str]) -> Iterator[Scored]:
    """Yields the clips that have word errors; memory holds a chunk of them."""
    clips = transcription.clips()
    while chunk := list(islice(clips, CLIPS_PER_CHUNK)):
        references = [normalize(clip["reference"]) for clip in chunk]
        hypotheses = [normalize(clip["hypothesis"]) for clip in chunk]
        errors = count_errors(references, hypotheses, "word")
        for clip, edits, words in zip(chunk, errors.edits.tolist(), errors.units.tolist(), strict=True):
            if edits:
                yield Scored(clip, transcription.set, edits, words)


def find_worst(results: Mapping[str, Any], transcriptions: Sequence[Transcription], label: str) -> list[Scored]:
    """The clips over all sets in which the model `label` got most words wrong, ties by the rate."""
    scored = (
        clip
        for transcription in transcriptions
        if transcription.label == label
        for clip in score_clips(transcription, normalizer_of(results, transcription.set))
    )
    return heapq.nlargest(WORST, scored, key=Scored.badness)


def worst_clips(
    results: Mapping[str, Any],
    transcriptions: Sequence[Transcription],
    labels: Sequence[str],
    sounds: Sounds,
    find_hallucinations: FindHallucinations,
) -> list[ClipView]:
    """The worst clips of the first of `labels`, with what each of `labels` heard."""
    worst = find_worst(results, transcriptions, labels[0])
    wanted = {name: [scored.clip["position"] for scored in worst if scored.set == name] for name in results["sets"]}
    others = {
        (transcription.label, transcription.set): transcription.at(wanted.get(transcription.set, []))
        for transcription in transcriptions
        if transcription.label in labels[1:]
    }
    views = []
    for scored in worst:
        lines = {labels[0]: scored.clip}
        for label in labels[1:]:
            line = others.get((label, scored.set), {}).get(scored.clip["position"])
            if line is not None and line["reference"] == scored.clip["reference"]:
                lines[label] = line
        normalize = normalizer_of(results, scored.set)
        heard = [describe(label, line, normalize, find_hallucinations) for label, line in lines.items()]
        views.append(view_clip(scored.clip, scored.set, scored.words, heard, sounds))
    return views


def clips_to_listen_to(
    path: Path, results: Mapping[str, Any], sounds: Sounds, find_hallucinations: FindHallucinations
) -> tuple[list[ClipView], int]:
    """The first clips of listen.jsonl, and how many it holds; `hypothesis` is what the baseline heard."""
    views: list[ClipView] = []
    number = 0
    for line in read_lines(path) if path.is_file() else ():
        if "reference" not in line:
            continue
        number += 1
        if number <= TO_LISTEN:
            clip = {"hypothesis": "", **line}
            name = str(clip.get("set") or next(iter(results["sets"]), ""))
            normalize = normalizer_of(results, name)
            words = len(normalize(clip["reference"]).split())
            heard = [describe("baseline", clip, normalize, find_hallucinations)]
            if isinstance(tuned := clip.get("tuned"), str):
                heard.append(describe("tuned", {**clip, "hypothesis": tuned}, normalize, find_hallucinations))
            views.append(view_clip(clip, name, words, heard, sounds))
    return views, number


def describe(
    label: str, clip: Mapping[str, Any], normalize: Callable[[str], str], find_hallucinations: FindHallucinations
) -> Heard:
    chunks = diff_words(clip["reference"], clip["hypothesis"], normalize)
    kept, left_out = cut_chunks(chunks, TEXT_CHARACTERS)
    shown = [
        Chunk(chunk.kind, *([cut(word, TEXT_CHARACTERS) for word in words] for words in chunk[1:])) for chunk in kept
    ]
    text = cut(clip["hypothesis"], TEXT_CHARACTERS)
    return Heard(label, text, shown, left_out, count_edits(chunks), find_hallucinations(clip))


def view_clip(clip: Mapping[str, Any], set_name: str, words: int, heard: list[Heard], sounds: Sounds) -> ClipView:
    tags = clip.get("tags")
    seconds = number(clip.get("seconds"))
    facts = ["" if seconds is None else f"{seconds:.1f} s", clip.get("speaker")]
    facts += tags.values() if isinstance(tags, dict) else []
    return ClipView(
        name=cut(clip.get("clip") or f"clip {clip.get('position', '')}", NAME_CHARACTERS),
        set=set_name,
        facts=" · ".join(cut(fact, NAME_CHARACTERS) for fact in facts if fact),
        language=language_tag(clip.get("language")),
        reference=cut(clip["reference"], TEXT_CHARACTERS),
        words=words,
        heard=heard,
        sound=sounds.embed(clip, set_name),
    )
