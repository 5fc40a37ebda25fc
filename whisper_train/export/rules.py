"""What a Whisper may write: the prompt it goes on from, and the tokens that are forbidden at each step.

As transformers computes them (generation_whisper.py, logits_process.py), so a model writes the same in any runtime.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.errors import UserError
from whisper_train.paths import read_json

Scores = NDArray[np.float32]
NEVER = -np.inf
OTHER_CONFIG = "model_config.json"  # transformers' own, where config.json is another runtime's


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Tokens by what they are for, as generation_config.json and config.json name them."""

    start: int
    end: int
    words: int  # of the vocabulary
    no_timestamps: int | None
    languages: dict[str, int]  # token by code
    tasks: dict[str, int]
    language: str | None  # what is taken when nobody says
    task: str | None
    suppress: tuple[int, ...]
    suppress_first: tuple[int, ...]
    max_length: int
    positions: int  # of the decoder
    first_timestamp_at_most: int | None = None  # in steps of 0.02 s
    timestamps: bool = False

    @property
    def first_timestamp(self) -> int:
        return self.words if self.no_timestamps is None else self.no_timestamps + 1

    @property
    def no_speech(self) -> int | None:
        return None if self.no_timestamps is None else self.no_timestamps - 1

    def with_timestamps(self) -> "Rules":
        return replace(self, timestamps=True)

    def prompt(self, language: str | None, task: str | None) -> list[int]:
        """What the decoder goes on from. Raises UserError for a language or task the model has no token of."""
        ids = [self.start]
        for what, given, known in (
            ("language", language or self.language, self.languages),
            ("task", task or self.task or "transcribe", self.tasks),
        ):
            if known and given not in known:
                raise UserError(f"{what}: {given}: the model has no such one; there are {', '.join(sorted(known))}")
            if known:
                ids.append(known[str(given)])
        if not self.timestamps and self.no_timestamps is not None:
            ids.append(self.no_timestamps)
        return ids

    def new_tokens(self, prompt: Sequence[int], max_length: int | None = None) -> int:
        """How many tokens may follow `prompt`, as transformers counts them."""
        total = (max_length or self.max_length) + min(self.positions // 2 - 1, len(prompt))
        return max(1, min(total, self.positions) - len(prompt))

    def apply(self, scores: Scores, written: Sequence[Sequence[int]]) -> Scores:
        """`scores` (rows, words) with what must not follow upon `written` (rows) at minus infinity, in place."""
        if self.suppress:
            scores[:, list(self.suppress)] = NEVER
        if self.suppress_first and not written[0]:
            scores[:, list(self.suppress_first)] = NEVER
        if self.timestamps and self.no_timestamps is not None:
            for row, tokens in zip(scores, written, strict=True):
                self.order_timestamps(row, tokens)
        return scores

    def order_timestamps(self, row: Scores, tokens: Sequence[int]) -> None:
        """Time stamps in pairs, never back in time, and before a text whenever they are likelier than any of it."""
        first = self.first_timestamp
        row[self.no_timestamps] = NEVER
        last_was = bool(tokens) and tokens[-1] >= first
        if last_was and (len(tokens) < 2 or tokens[-2] >= first):
            row[first:] = NEVER  # a text has to follow
        elif last_was:
            row[: self.end] = NEVER  # another time stamp, or the end
        if stamps := [token for token in tokens if token >= first]:
            again = last_was and not (len(tokens) < 2 or tokens[-2] >= first)
            row[first : stamps[-1] + (0 if again else 1)] = NEVER
        if not tokens:
            row[:first] = NEVER
            if self.first_timestamp_at_most is not None:
                row[first + self.first_timestamp_at_most + 1 :] = NEVER
        stamp = row[first:]
        if len(stamp) and np.isfinite(stamp).any():
            highest = stamp.max()
            if highest + np.log(np.exp(stamp - highest).sum()) > row[:first].max():
                row[:first] = NEVER


def read_rules(folder: Path) -> Rules:
    """The rules of the model whose config.json and generation_config.json lie in `folder`."""
    try:
        other = folder / OTHER_CONFIG
        config = read_json(other if other.is_file() else folder / "config.json")
        generation = read_json(folder / "generation_config.json")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: {error}; convert the model again") from error
    return make_rules(config, generation)


def make_rules(config: dict[str, Any], generation: dict[str, Any]) -> Rules:
    multilingual = generation.get("is_multilingual", True)
    languages = {name.strip("<|>"): token for name, token in (generation.get("lang_to_id") or {}).items()}
    return Rules(
        start=first_of(generation.get("decoder_start_token_id"), config["decoder_start_token_id"]),
        end=first_of(generation.get("eos_token_id"), config["eos_token_id"]),
        words=config["vocab_size"],
        no_timestamps=generation.get("no_timestamps_token_id"),
        languages=languages if multilingual else {},
        tasks=dict(generation.get("task_to_id") or {}) if multilingual else {},
        language=(generation.get("language") or "").strip("<|>") or None,
        task=generation.get("task"),
        suppress=tuple(generation.get("suppress_tokens") or ()),
        suppress_first=tuple(generation.get("begin_suppress_tokens") or ()),
        max_length=generation.get("max_length") or config["max_target_positions"],
        positions=config["max_target_positions"],
        first_timestamp_at_most=generation.get("max_initial_timestamp_index"),
    )


def first_of(value: Any, default: int) -> int:
    value = default if value is None else value
    return int(value[0] if isinstance(value, list) else value)
