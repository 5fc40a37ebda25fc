"""Clips joined to a window: their waveforms with pauses between them, and where each begins and ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform

LONGEST_LEAD_SECONDS = 1.0  # decoding never begins later than this in a window (max_initial_timestamp of OpenAI's)
LEAD_SHARE = 0.8  # of the windows with time stamps: only the first window of a recording begins with its first word
LONGEST_TAIL_SECONDS = 0.5  # of the clip before: by so much a model may write too early an end, and go on there


@dataclass(frozen=True, slots=True)
class Joined:
    """A window's waveform, the start and end of each of its clips, and the start of one that is cut off, in seconds."""

    waveform: Waveform
    spans: list[tuple[float, float]]
    cut_at: float | None


def join_clips(
    waveforms: Sequence[Waveform],
    behind: Waveform | None,
    window_seconds: float,
    pause_seconds: tuple[float, float],
    chance: np.random.Generator,
    *,
    lead: bool,
    ahead: Waveform | None = None,
) -> Joined:
    """Joins `waveforms`, which fit into the window, at drawn pauses, shorter ones where the window is full.

    With `lead` most begin after a pause, as where sequential decoding goes on in a recording, and before that pause
    with the end of the clip `ahead`. `behind` follows them to the end of the window; where it would fit as a whole it
    is left out, for its label would be incomplete.
    """
    window = round(window_seconds * SAMPLE_RATE)
    pauses = chance.uniform(*pause_seconds, len(waveforms) + 1) * SAMPLE_RATE
    first, between, last = pauses[:1], pauses[1:-1], float(pauses[-1])
    tail = 0.0
    if not lead or chance.random() >= LEAD_SHARE:
        first = np.zeros(1)
    elif ahead is not None:
        tail = min(chance.uniform(0, LONGEST_TAIL_SECONDS) * SAMPLE_RATE, len(ahead))
    before = fit_pauses(
        np.append(np.minimum(first + tail, LONGEST_LEAD_SECONDS * SAMPLE_RATE), between),
        np.append(0.0, np.full(len(between), pause_seconds[0] * SAMPLE_RATE)),
        window - sum(map(len, waveforms)),
    )
    joined = np.zeros(window, np.float32)
    if ahead is not None and tail:
        heard = int(before[0] * tail / (float(first[0]) + tail))
        joined[:heard] = ahead[len(ahead) - heard :]
    spans = []
    place = 0
    for pause, waveform in zip(before, waveforms, strict=True):
        start = place + int(pause)
        place = min(start + len(waveform), window)  # a sample over it would be one of rounding
        joined[start:place] = waveform[: place - start]
        spans.append((start / SAMPLE_RATE, place / SAMPLE_RATE))
    cut_start = place + int(last)
    if behind is None or cut_start >= window or cut_start + len(behind) <= window:
        return Joined(joined[:place], spans, None)
    joined[cut_start:] = behind[: window - cut_start]
    return Joined(joined, spans, cut_start / SAMPLE_RATE)


def fit_pauses(pauses: np.ndarray, shortest: np.ndarray, room: float) -> np.ndarray:
    """The pauses (clips,), in samples, brought nearer to the `shortest` of them so that all fit into `room`."""
    if pauses.sum() <= room:
        return pauses
    if shortest.sum() >= room:  # clips made longer by augmentation
        return np.asarray(shortest * (max(room, 0) / max(shortest.sum(), 1)))
    spare = pauses - shortest
    return np.asarray(shortest + spare * ((room - shortest.sum()) / spare.sum()))
