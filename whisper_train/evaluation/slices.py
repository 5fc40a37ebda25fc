"""Error rates of the parts of a set: by length of the clips, speaker, source, and whatever clips are tagged with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whisper_train.evaluation.bootstrap import rate_interval
from whisper_train.evaluation.compare import FEWEST_GROUPS

# Upper ends in seconds: below, except that a clip of 30 s still fits into the window of the encoder.
DURATIONS = (
    (2, "under 2 s"),
    (5, "2 to 5 s"),
    (10, "5 to 10 s"),
    (20, "10 to 20 s"),
    (math.nextafter(30, math.inf), "20 to 30 s"),
    (math.inf, "over 30 s"),
)
MOST_VALUES = 50


def slice_scores(
    clips: Sequence[Mapping[str, Any]],
    sources: Sequence[str],
    edits: np.ndarray,
    units: np.ndarray,
    groups: np.ndarray,
    baseline_edits: np.ndarray | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The `slices` of a set in results.json: for each kind its parts, the most words first, durations by length.

    `clips` are lines of a transcription file (seconds, speaker, source, tags are read; each may be missing), `sources`
    the names that their `source` counts from 0. Word `edits`, reference `units` and `groups` are of shape (clips,).
    A clip whose value is unknown is in no part of that kind. A kind whose only part would be the whole set is left out.
    Only the 50 parts with the most words are listed: their clips add up to less than the set's where there are more.
    A tag that is called like one of the other kinds appears as "tags.speaker".
    """
    slices = {}
    for kind, parts in find_parts(clips, sources).items():
        if len(parts) == 1 and len(next(iter(parts.values()))) == len(clips):
            continue
        scores = [
            score_part(value, np.array(positions), edits, units, groups, baseline_edits)
            for value, positions in largest(parts, units)
        ]
        if kind == "duration":
            names = [name for _, name in DURATIONS]
            scores.sort(key=lambda score: names.index(score["value"]))
        slices[kind] = scores
    return slices


def find_parts(clips: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Positions by value by kind; kinds without any known value are absent."""
    fixed: dict[str, dict[str, list[int]]] = {"duration": {}, "speaker": {}, "source": {}}
    tagged: dict[str, dict[str, list[int]]] = {}
    for position, clip in enumerate(clips):
        source = clip.get("source")
        values = {
            "duration": name_duration(clip.get("seconds")),
            "speaker": clip.get("speaker"),
            "source": sources[source] if isinstance(source, int) and 0 <= source < len(sources) else None,
        }
        for kind, value in values.items():
            if value:
                fixed[kind].setdefault(value, []).append(position)
        for key, value in (clip.get("tags") or {}).items():
            if value:
                kind = f"tags.{key}" if key in fixed else key
                tagged.setdefault(kind, {}).setdefault(str(value), []).append(position)
    return {kind: parts for kind, parts in (fixed | dict(sorted(tagged.items()))).items() if parts}


def name_duration(seconds: float | None) -> str | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    return next(name for end, name in DURATIONS if seconds < end)


def largest(parts: Mapping[str, list[int]], units: np.ndarray) -> list[tuple[str, list[int]]]:
    return sorted(parts.items(), key=lambda part: (-int(units[part[1]].sum()), part[0]))[:MOST_VALUES]


def score_part(
    value: str,
    positions: np.ndarray,
    edits: np.ndarray,
    units: np.ndarray,
    groups: np.ndarray,
    baseline_edits: np.ndarray | None,
) -> dict[str, Any]:
    """One part's entry. Its interval is over its clips where it has fewer than ten groups, as one speaker's has."""
    part_groups = groups[positions]
    if len(np.unique(part_groups)) < FEWEST_GROUPS:
        part_groups = positions
    words = int(units[positions].sum())
    interval = rate_interval(edits[positions], units[positions], part_groups)
    return {
        "value": value,
        "clips": len(positions),
        "words": words,
        "wer": float(edits[positions].sum() / max(words, 1)),
        "wer_interval": list(interval) if interval else None,
        "baseline_wer": None if baseline_edits is None else float(baseline_edits[positions].sum() / max(words, 1)),
    }
