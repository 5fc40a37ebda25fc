"""Greedy decoding, sampling and beam search over any model that takes steps; numpy alone, the same as transformers'."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_train.export.rules import Rules, Scores

UNLIKELY = np.float32(-1e9)  # of a beam that is no candidate


class Steps(Protocol):
    """A model that writes step by step; `past` and `cross` are its own affair."""

    def step(self, ids: NDArray[np.int64], past: Any, cross: Any) -> tuple[Scores, Any]:
        """Logits (rows, tokens, words) of `ids` (rows, tokens) after `past` (None: nothing yet), and the past."""

    def choose(self, past: Any, rows: NDArray[np.int64]) -> Any:
        """The past of these rows, in this order."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written after the prompt, without the end: tokens, their mean log probability, and that of silence."""

    tokens: list[int]
    log_probability: float
    no_speech: float


def write(
    model: Steps,
    cross: Any,
    prompts: Sequence[Sequence[int]],
    rules: Rules,
    *,
    beams: int = 1,
    max_length: int | None = None,
    temperature: float = 0.0,
    chance: np.random.Generator | None = None,
) -> list[Written]:
    """The text of each clip of `cross`, whose `prompts` are equally long."""
    most = rules.new_tokens(prompts[0], max_length)
    ids = np.array([list(prompt) for prompt in prompts], np.int64)
    if beams > 1 and temperature == 0:
        return write_beams(model, cross, ids, rules, beams, most)
    return write_one(model, cross, ids, rules, most, temperature, chance)


def write_one(
    model: Steps,
    cross: Any,
    ids: NDArray[np.int64],
    rules: Rules,
    most: int,
    temperature: float,
    chance: np.random.Generator | None,
) -> list[Written]:
    """The likeliest token at each step, or one drawn by `chance` at `temperature`."""
    clips = len(ids)
    written: list[list[int]] = [[] for _ in range(clips)]
    sums, going = np.zeros(clips), np.ones(clips, bool)
    logits, past = model.step(ids, None, cross)
    silence = silence_of(logits, rules)
    for _ in range(most):
        scores = rules.apply(logits[:, -1].copy(), written)
        if temperature > 0:
            assert chance is not None
            drawn = scores / temperature + chance.gumbel(size=scores.shape)
        tokens = np.argmax(drawn if temperature > 0 else scores, axis=-1)
        sums += np.where(going, log_softmax(scores)[np.arange(clips), tokens], 0)
        for row in np.flatnonzero(going):
            written[row].append(int(tokens[row]))
        going &= tokens != rules.end
        if not going.any():
            break
        logits, past = model.step(np.where(going, tokens, rules.end)[:, None], past, cross)
    return [finish(tokens, total, quiet, rules) for tokens, total, quiet in zip(written, sums, silence, strict=True)]


@dataclass(slots=True)
class Beams:
    """The candidates of one clip: those that go on, and the best that have ended, with their scores."""

    going: list[list[int]]
    sums: Scores
    ended: list[tuple[float, list[int], float]]  # score, tokens, sum of log probabilities
    open: bool = True

    def advance(self, scores: Scores, end: int, last: bool) -> NDArray[np.int64]:
        """Takes the log probabilities (beams, words) of the next token; returns which beam each one that goes on was.

        `last`: no token may follow. Twice as many candidates as beams are looked at, since each may be an end.
        """
        count, words = scores.shape
        total = (scores + self.sums[:, None]).reshape(-1)
        best = top(total, 2 * count)
        beam, token = best // words, best % words
        hit = (token == end) | last
        length = len(self.going[0]) + 1
        for place in range(count):
            if self.open and hit[place]:
                tokens = [*self.going[beam[place]], int(token[place])]
                self.ended.append((float(total[best[place]]) / length, tokens, float(total[best[place]])))
        self.ended = sorted(self.ended, key=lambda one: -one[0])[:count]
        running = total[best] + np.where(hit, UNLIKELY, np.float32(0))
        kept = top(running, count)
        self.going = [[*self.going[beam[place]], int(token[place])] for place in kept]
        self.sums = running[kept]
        worst = self.ended[-1][0] if len(self.ended) == count else float(UNLIKELY)
        self.open = self.open and float(self.sums[0]) / length > worst
        return np.asarray(beam[kept], np.int64)


def write_beams(model: Steps, cross: Any, ids: NDArray[np.int64], rules: Rules, beams: int, most: int) -> list[Written]:
    """Beam search as transformers does it: length penalty 1, no early stopping."""
    clips = len(ids)
    start = np.full(beams, UNLIKELY, np.float32)
    start[0] = 0
    all_beams = [Beams([[] for _ in range(beams)], start.copy(), []) for _ in range(clips)]
    logits, past = model.step(ids, None, cross)
    silence = silence_of(logits, rules)
    logits = np.repeat(logits[:, -1:], beams, axis=0)
    past = model.choose(past, np.repeat(np.arange(clips), beams))
    for step in range(most):
        written = [tokens for one in all_beams for tokens in one.going]
        scores = rules.apply(log_softmax(logits[:, -1]), written).reshape(clips, beams, -1)
        last = step == most - 1
        rows = [
            clip * beams + one.advance(of_clip, rules.end, last)
            for clip, (one, of_clip) in enumerate(zip(all_beams, scores, strict=True))
        ]
        if last or not any(one.open for one in all_beams):
            break
        past = model.choose(past, np.concatenate(rows))
        ids = np.array([[tokens[-1]] for one in all_beams for tokens in one.going], np.int64)
        logits, past = model.step(ids, past, cross)
    found = []
    for one, quiet in zip(all_beams, silence, strict=True):
        _, tokens, total = one.ended[0] if one.ended else (0.0, one.going[0], float(one.sums[0]))
        found.append(finish(tokens, total, quiet, rules))
    return found


def top(values: Scores, count: int) -> NDArray[np.int64]:
    """The places of the `count` highest values, the highest first; of equal ones the first."""
    some = np.argpartition(-values, count - 1)[:count] if count < len(values) else np.arange(len(values))
    return some[np.lexsort((some, -values[some]))]


def log_softmax(logits: Scores) -> Scores:
    highest = logits.max(axis=-1, keepdims=True)
    shifted = logits - highest
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # type: ignore[no-any-return]


def silence_of(logits: Scores, rules: Rules) -> Scores:
    """The probability that nobody speaks, of each row, after the start token."""
    if rules.no_speech is None:
        return np.zeros(len(logits), np.float32)
    return np.exp(log_softmax(logits[:, 0])[:, rules.no_speech])


def finish(tokens: list[int], total: float, silence: float, rules: Rules) -> Written:
    mean = total / max(1, len(tokens))
    return Written(tokens[:-1] if tokens and tokens[-1] == rules.end else tokens, float(mean), float(silence))
