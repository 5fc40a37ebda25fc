"""What a model writes that nobody said, told from texts and durations alone: loops, too much text, words in silence."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from whisper_train.evaluation.words import count_words, split_words

LONGEST_PHRASE = 20  # words; loops of whole sentences are as common as those of single words
EXTRA_COPIES = 3  # beyond those in the reference: "ja" for "ja ja ja" is a slip of the transcript
EXTRA_COPIES_OF_PHRASE = 2  # enough for a phrase of PHRASE words, which nobody says three times by chance
PHRASE = 3
LONGEST_SYLLABLE = 12  # characters, of a loop within a word such as "hahahaha" or "hmmmmmm"
EXTRA_CHARACTERS = 12  # what such a loop must add: 1000000000 is a number
# Fluent readers say 5.2 (Mandarin) to 7.8 syllables (Japanese) a second, German 6.0 (Pellegrino, Coupé and Marsico
# 2011, "A cross-language perspective on speech information rate"): 18 to 22 characters with spaces. Twice that.
CHARACTERS_PER_SECOND = 40.0
CHARACTERS_PER_SYLLABLE = 3  # what a kana, Han or Hangul character stands for, being a syllable of its own
SYLLABLE = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def find_hallucinations(
    references: Sequence[str], hypotheses: Sequence[str], seconds: Sequence[float] | np.ndarray
) -> "Hallucinations":
    """Clips with loops or too much text. Texts as written; a clip of unknown length (NaN) is judged by its loops only.

    Raises ValueError when the lengths differ.
    """
    clips = list(zip(references, hypotheses, seconds, strict=True))
    return Hallucinations(
        loops=[position for position, (said, heard, _) in enumerate(clips) if has_loop(said, heard)],
        too_long=[position for position, clip in enumerate(clips) if is_too_long(*clip)],
        judged=len(clips),
    )


def heard_in_silence(hypotheses: Sequence[str], seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Words written for clips in which nobody speaks: `clips`, `seconds`, `words` and `words_per_minute` of audio."""
    words = sum(count_words(hypothesis) for hypothesis in hypotheses)
    total = float(np.nansum(seconds))
    return {
        "clips": len(hypotheses),
        "seconds": round(total, 3),
        "words": words,
        "words_per_minute": words / total * 60 if total else 0.0,
    }


def has_loop(reference: str, hypothesis: str) -> bool:
    """Whether the hypothesis says something over and over that the reference does not."""
    if hypothesis == reference:
        return False
    words = split_words(hypothesis)
    if len(words) - len(set(words)) >= EXTRA_COPIES:
        extra = count_copies(words, LONGEST_PHRASE) - count_copies(split_words(reference), LONGEST_PHRASE)
        if (extra >= EXTRA_COPIES).any() or (extra[PHRASE - 1 :] >= EXTRA_COPIES_OF_PHRASE).any():
            return True
    long_words = [word for word in words if len(word) > EXTRA_CHARACTERS]
    if not long_words:
        return False
    said = count_copies("".join(split_words(reference)), LONGEST_SYLLABLE)
    extra = np.max([count_copies(word, LONGEST_SYLLABLE) for word in long_words], axis=0) - said
    return bool(((extra >= EXTRA_COPIES) & (extra * np.arange(1, LONGEST_SYLLABLE + 1) >= EXTRA_CHARACTERS)).any())


def count_copies(tokens: Sequence[Hashable], longest: int) -> np.ndarray:
    """For n = 1 to `longest`, the most copies of one n-gram that follow each other, at least 1: int64, (longest,)."""
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(token, len(numbers)) for token in tokens], np.int64)
    copies = np.ones(longest, np.int64)
    for size in range(1, min(longest, len(codes)) + 1):
        differing = np.flatnonzero(codes[size:] != codes[:-size])
        borders = np.concatenate(([-1], differing, [len(codes) - size]))
        copies[size - 1] = (int(np.diff(borders).max()) - 1) // size + 1
    return copies


def is_too_long(reference: str, hypothesis: str, seconds: float) -> bool:
    """Whether nobody can say the hypothesis within the clip, and the reference does not blame the clip for it."""
    written = spoken_length(hypothesis)
    return written > seconds * CHARACTERS_PER_SECOND and written > spoken_length(reference)


def spoken_length(text: str) -> int:
    """Characters, a syllable's character counted as CHARACTERS_PER_SYLLABLE."""
    return len(text) + (CHARACTERS_PER_SYLLABLE - 1) * len(SYLLABLE.findall(text))


@dataclass(frozen=True, slots=True)
class Hallucinations:
    """Positions of the clips with loops and of those with too much text, among `judged` clips."""

    loops: list[int]
    too_long: list[int]
    judged: int

    @property
    def clips(self) -> list[int]:
        """Positions of the clips with any of them, ascending."""
        return sorted({*self.loops, *self.too_long})

    def as_dict(self) -> dict[str, float]:
        """Their numbers as results.json holds them."""
        return {
            "loops": len(self.loops),
            "too_long": len(self.too_long),
            "clips": len(self.clips),
            "share": len(self.clips) / self.judged if self.judged else 0.0,
        }
