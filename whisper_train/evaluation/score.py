"""Errors of transcriptions per clip through jiwer, and the corpus rates made of them.

With H hits, S substitutions, D deletions and I insertions, summed over the whole corpus:
WER and CER = (S + D + I) / (H + S + D), MER = (S + D + I) / (H + S + D + I) and
WIL = 1 - H / (H + S + D) * H / (H + S + I) (Morris, Maier and Green 2004, "From WER and RIL to MER and WIL").
"""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest
from typing import Any, Literal

import numpy as np

from whisper_train.evaluation.normalize import make_normalizer

Unit = Literal["word", "character"]

PAIRS_AT_ONCE = 100  # the more alignment objects live at once, the longer the garbage collector looks through them
PAIRS_PER_TASK = 5_000
PAIRS_WORTH_PROCESSES = 10_000  # below that, starting the workers takes longer than what they save
MOST_CONFUSIONS = 100_000  # about 20 MB; a weak model makes a million different ones on 100,000 clips


def count_errors(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> "Counts":
    """Word or character errors of each pair of normalized texts, as jiwer counts them: a space is a character.

    Every word of a hypothesis without a reference is an insertion. Raises ValueError when the lengths differ.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    return join_counts(
        count_chunk(references[start : start + PAIRS_AT_ONCE], hypotheses[start : start + PAIRS_AT_ONCE], unit)[0]
        for start in range(0, len(references), PAIRS_AT_ONCE)
    )


def count_pairs(
    pairs: Sequence[tuple[str, str]], normalizers: Sequence[str], processes: int = 1
) -> dict[str, "Scored"]:
    """Scores of one transcription, (reference, hypothesis) pairs as written, under each normalizer.

    Up to `processes` worker processes share the work where there are enough pairs to be worth starting them.
    """
    tasks = [pairs[start : start + PAIRS_PER_TASK] for start in range(0, len(pairs), PAIRS_PER_TASK)]
    if processes > 1 and len(pairs) >= PAIRS_WORTH_PROCESSES:
        # Spawned, not forked: the parent may hold threads (tokenizers, Arrow) that a fork would break.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(tasks)), mp_context=context) as pool:
            return join_scores(pool.map(score_task, tasks, repeat(normalizers)), normalizers)
    return join_scores(map(score_task, tasks, repeat(normalizers)), normalizers)


def score_task(pairs: Sequence[tuple[str, str]], normalizers: Sequence[str]) -> dict[str, "Scored"]:
    normalize = {name: make_normalizer(name) for name in normalizers}
    return join_scores(
        (score_chunk(pairs[start : start + PAIRS_AT_ONCE], normalize) for start in range(0, len(pairs), PAIRS_AT_ONCE)),
        normalizers,
    )


def score_chunk(
    pairs: Sequence[tuple[str, str]], normalizers: Mapping[str, Callable[[str], str]]
) -> dict[str, "Scored"]:
    """Scores of a few pairs, at least one. What several normalizers make the same text of is aligned only once."""
    texts = {text for pair in pairs for text in pair}
    numbers: dict[tuple[str, str], int] = {}  # of the distinct normalized pairs
    chosen: dict[str, list[int]] = {}
    for name, normalize in normalizers.items():
        normalized = {text: normalize(text) for text in texts}
        normalized_pairs = [(normalized[reference], normalized[hypothesis]) for reference, hypothesis in pairs]
        chosen[name] = [numbers.setdefault(pair, len(numbers)) for pair in normalized_pairs]
    references, hypotheses = zip(*numbers, strict=True)
    words, alignment = count_chunk(references, hypotheses, "word")
    characters, _ = count_chunk(references, hypotheses, "character")
    confusions = find_confusions(alignment)
    return {
        name: Scored(
            words.take(rows), characters.take(rows), Counter(chain.from_iterable(confusions[row] for row in rows))
        )
        for name, rows in chosen.items()
    }


def count_chunk(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> tuple["Counts", Any]:
    """The counts of a few pairs, at least one, and jiwer's alignment of them."""
    import jiwer

    process = {"word": jiwer.process_words, "character": jiwer.process_characters}[unit]
    output: Any = process(list(references), list(hypotheses))
    rows = []
    for chunks in output.alignments:
        row = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
        for chunk in chunks:
            # An insertion spans no reference unit and a deletion none of the hypothesis; the others as many of both.
            row[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        rows.append(tuple(row.values()))
    return Counts(*np.array(rows, np.int64).T), output


def find_confusions(alignment: Any) -> list[list[tuple[str, str]]]:
    """(reference word, hypothesis word) of every error of each pair; an empty text stands for the missing side."""
    confusions = []
    for said, heard, chunks in zip(alignment.references, alignment.hypotheses, alignment.alignments, strict=True):
        pairs: list[tuple[str, str]] = []
        for chunk in chunks:
            if chunk.type != "equal":  # a substitution spans as many words on both sides, the others none on one
                references = said[chunk.ref_start_idx : chunk.ref_end_idx]
                hypotheses = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
                pairs += zip_longest(references, hypotheses, fillvalue="")
        confusions.append(pairs)
    return confusions


def join_counts(parts: Iterable["Counts"]) -> "Counts":
    """The clips of all parts one after the other."""
    columns = [(part.hits, part.substitutions, part.deletions, part.insertions) for part in parts]
    empty = (np.zeros(0, np.int64),) * 4
    return Counts(*(np.concatenate(column) for column in zip(empty, *columns, strict=True)))


def join_scores(parts: Iterable[dict[str, "Scored"]], normalizers: Sequence[str]) -> dict[str, "Scored"]:
    words: dict[str, list[Counts]] = {name: [] for name in normalizers}
    characters: dict[str, list[Counts]] = {name: [] for name in normalizers}
    confusions: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in normalizers}
    for part in parts:
        for name, scored in part.items():
            words[name].append(scored.words)
            characters[name].append(scored.characters)
            confusions[name].update(scored.confusions)
            if len(confusions[name]) > MOST_CONFUSIONS:
                confusions[name] = Counter(dict(confusions[name].most_common(MOST_CONFUSIONS // 2)))
    return {
        name: Scored(join_counts(words[name]), join_counts(characters[name]), confusions[name]) for name in normalizers
    }


def rates(scored: "Scored") -> dict[str, Any]:
    """The corpus rates, as fractions, and the sums they are made of."""
    words = scored.words
    return {
        "wer": words.rate,
        "cer": scored.characters.rate,
        "mer": words.mer,
        "wil": words.wil,
        "hits": int(words.hits.sum()),
        "substitutions": int(words.substitutions.sum()),
        "deletions": int(words.deletions.sum()),
        "insertions": int(words.insertions.sum()),
        "words": int(words.units.sum()),
    }


@dataclass(frozen=True, slots=True)
class Counts:
    """Hits and errors per clip, arrays of shape (clips,), int64; the rates are those of the corpus.

    A rate without anything to divide by counts as jiwer has it: the insertions themselves for `rate`, 0 without errors.
    """

    hits: np.ndarray
    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray

    @property
    def units(self) -> np.ndarray:
        """Words or characters of each reference."""
        units: np.ndarray = self.hits + self.substitutions + self.deletions
        return units

    @property
    def edits(self) -> np.ndarray:
        edits: np.ndarray = self.substitutions + self.deletions + self.insertions
        return edits

    def take(self, clips: Sequence[int]) -> "Counts":
        """The counts of these clips, which may come several times."""
        return Counts(self.hits[clips], self.substitutions[clips], self.deletions[clips], self.insertions[clips])

    @property
    def rate(self) -> float:
        """WER or CER: edits per reference unit over the whole corpus, not the mean of the clips' rates."""
        return int(self.edits.sum()) / max(int(self.units.sum()), 1)

    @property
    def mer(self) -> float:
        edits = int(self.edits.sum())
        return edits / max(int(self.hits.sum()) + edits, 1)

    @property
    def wil(self) -> float:
        hits, said = int(self.hits.sum()), int(self.units.sum())
        heard = hits + int(self.substitutions.sum()) + int(self.insertions.sum())
        return 1 - (hits / max(said, 1)) * (hits / max(heard, 1)) if said or heard else 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """What one normalizer makes of a transcription.

    `confusions` counts (reference word, hypothesis word), ("", word) for an insertion and (word, "") for a deletion;
    beyond MOST_CONFUSIONS different ones the rarest are forgotten, so that memory does not grow with the clips.
    """

    words: Counts
    characters: Counts
    confusions: Counter[tuple[str, str]]
