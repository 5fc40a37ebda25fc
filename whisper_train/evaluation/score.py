"""Corpus word and character error rates through jiwer, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Errors:
    """Edits and reference units (words or characters) per clip, arrays of shape (clips,)."""

    edits: np.ndarray
    units: np.ndarray

    @property
    def rate(self) -> float:
        """Edits per reference unit over the whole corpus, not the mean of the clips' rates."""
        return float(self.edits.sum() / max(self.units.sum(), 1))

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % interval of the rate by bootstrap over clips (Bisani and Ney 2004)."""
        chance = np.random.default_rng(seed)
        count = len(self.edits)
        rates = np.empty(RESAMPLES)
        for number in range(RESAMPLES):
            drawn = chance.integers(0, count, count)
            rates[number] = self.edits[drawn].sum() / max(self.units[drawn].sum(), 1)
        low, high = np.percentile(rates, PERCENTILES)
        return float(low), float(high)


def count_errors(references: Sequence[str], hypotheses: Sequence[str], unit: str) -> Errors:
    """Word (`unit` "word") or character ("character") errors of each normalized pair.

    A reference that the normalizer left empty counts every word of its hypothesis as inserted.
    """
    import jiwer

    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    edits = np.zeros(len(references), np.int64)
    units = np.zeros(len(references), np.int64)
    filled = [position for position, reference in enumerate(references) if reference]
    for position, reference in enumerate(references):
        if not reference:
            hypothesis = hypotheses[position]
            edits[position] = len(hypothesis.split()) if unit == "word" else len(hypothesis)
    if filled:
        output = process([references[position] for position in filled], [hypotheses[position] for position in filled])
        for position, chunks, words in zip(filled, output.alignments, output.references, strict=True):
            units[position] = len(words)
            edits[position] = sum(
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in chunks
                if chunk.type != "equal"
            )
    return Errors(edits, units)
