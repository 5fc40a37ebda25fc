"""Sequential decoding of recordings of any length, over any runtime: window after window, by the time stamps written.

As openai/whisper (transcribe.py) and transformers (generation_whisper.py) do it, with the same thresholds as our
evaluation: a window that is written badly is written again at a higher temperature, and one without speech is skipped.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.audio import SAMPLE_RATE
from whisper_train.export.rules import Rules
from whisper_train.export.search import Written
from whisper_train.labels import FRAMES_PER_TIMESTAMP

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSION = 1.35  # of tokens, as evaluation.transcribe.LONG_FORM has it
LEAST_LOG_PROBABILITY = -1.0
NO_SPEECH = 0.6
LEAST_SECONDS = 0.1  # of sound at the end of a recording


@dataclass(frozen=True, slots=True)
class Segment:
    """What was said from `start` to `end`, in seconds."""

    start: float
    end: float
    tokens: list[int]


Write = Callable[[NDArray[np.float32], float], Written]  # a window (bins, frames) at a temperature


def write_windows(
    features: NDArray[np.float32], frames: int, window: int, hop_length: int, rules: Rules, write: Write
) -> list[Segment]:
    """The segments of a recording of so many `frames`; `features` are its log-mel (bins, frames + window or more).

    Behind its end they hold silence, as in training: a small Whisper knows no window that ends in zeros.
    """
    second = SAMPLE_RATE / hop_length  # frames
    segments: list[Segment] = []
    seek = 0
    while seek < frames - LEAST_SECONDS * second:
        heard = min(window, frames - seek)
        written = write_surely(features[:, seek : seek + window], rules, write)
        if written is None:
            seek += heard
            continue
        found, advance = split(written.tokens, heard, rules)
        for first, last, tokens in found:
            start, end = (seek + first) / second, min(seek + last, frames) / second
            if start <= frames / second - LEAST_SECONDS:
                segments.append(Segment(start, max(start, end), tokens))
        seek += advance if advance > 0 else heard
    return segments


def write_surely(part: NDArray[np.float32], rules: Rules, write: Write) -> Written | None:
    """A window's text at the first temperature that writes it well; None where nobody speaks."""
    written = Written([], 0.0, 0.0)
    for temperature in TEMPERATURES:
        written = write(part, temperature)
        unsure = written.log_probability < LEAST_LOG_PROBABILITY
        if unsure and written.no_speech > NO_SPEECH:
            return None
        if not unsure and compression(written.tokens, rules.words) <= COMPRESSION:
            break
    return written


def compression(tokens: Sequence[int], words: int) -> float:
    """How much shorter zlib makes the tokens; a text that repeats itself is much shorter."""
    size = int(np.log2(words) / 8) + 1
    data = b"".join(token.to_bytes(size, "little") for token in tokens)
    return len(data) / len(zlib.compress(data)) if data else 0.0


def split(tokens: list[int], heard: int, rules: Rules) -> tuple[list[tuple[int, int, list[int]]], int]:
    """Segments as first frame, last frame and tokens, and how many of the `heard` frames are done with."""
    first = rules.first_timestamp
    stamps = [token >= first for token in tokens]
    ends = [place + 1 for place in range(len(tokens) - 1) if stamps[place] and stamps[place + 1]]
    if not ends:
        said = [token for token, stamp in zip(tokens, stamps, strict=True) if stamp and token != first]
        last = min(heard, frames_of(said[-1], rules)) if said else heard
        return ([(0, last, tokens)] if tokens else []), heard
    ends_alone = stamps[-2:] == [False, True]  # nothing is said after it
    if ends_alone:
        ends.append(len(tokens))
    segments = []
    begin = 0
    for end in ends:
        part = tokens[begin:end]
        segments.append((frames_of(part[0], rules), frames_of(part[-1], rules), part))
        begin = end
    return segments, heard if ends_alone else min(heard, frames_of(tokens[begin - 1], rules))


def frames_of(token: int, rules: Rules) -> int:
    """The frame that a time stamp stands for."""
    return max(0, token - rules.first_timestamp) * FRAMES_PER_TIMESTAMP


def make_write(runtime: Any, prompt: Sequence[int], rules: Rules, beams: int, seed: int) -> Write:
    """Writes windows with `runtime`; where it draws, the same recording draws the same."""
    chance = np.random.default_rng(seed)

    def write(part: NDArray[np.float32], temperature: float) -> Written:
        if temperature == 0:
            return runtime.write(part[None], [prompt], beams=beams, rules=rules)[0]  # type: ignore[no-any-return]
        drawing = {"temperature": temperature, "chance": chance}
        return runtime.write(part[None], [prompt], beams=1, rules=rules, **drawing)[0]  # type: ignore[no-any-return]

    return write
