"""Word-level differences of a reference and a hypothesis, as they were counted: on the normalized text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

EQUAL, DELETED, INSERTED, SUBSTITUTED = "equal", "deleted", "inserted", "substituted"
KINDS = {"equal": EQUAL, "delete": DELETED, "insert": INSERTED, "substitute": SUBSTITUTED}  # jiwer's names


class Chunk(NamedTuple):
    """A run of words of one kind; a deleted one has no hypothesis words, an inserted one no reference words."""

    kind: str
    reference: list[str]
    hypothesis: list[str]


def diff_words(reference: str, hypothesis: str, normalize: Callable[[str], str]) -> list[Chunk]:
    """The alignment of both texts after `normalize`, from first word to last."""
    import jiwer

    expected, heard = normalize(reference).split(), normalize(hypothesis).split()
    if not expected:  # jiwer refuses an empty reference
        return [Chunk(INSERTED, [], heard)] if heard else []
    output = jiwer.process_words(" ".join(expected), " ".join(heard))
    return [
        Chunk(
            KINDS[part.type],
            expected[part.ref_start_idx : part.ref_end_idx],
            heard[part.hyp_start_idx : part.hyp_end_idx],
        )
        for part in output.alignments[0]
    ]


def count_edits(chunks: Sequence[Chunk]) -> int:
    return sum(max(len(chunk.reference), len(chunk.hypothesis)) for chunk in chunks if chunk.kind != EQUAL)


def cut_chunks(chunks: Sequence[Chunk], characters: int) -> tuple[list[Chunk], int]:
    """The first chunks, about `characters` long in all, and the number of words (of the longer side) left out."""
    kept: list[Chunk] = []
    left_out = 0
    for chunk in chunks:
        words = max(len(chunk.reference), len(chunk.hypothesis))
        fitting = 0
        while fitting < words and characters > 0:
            pair = [*chunk.reference[fitting : fitting + 1], *chunk.hypothesis[fitting : fitting + 1]]
            characters -= max(map(len, pair)) + 1
            fitting += 1
        if fitting:
            kept.append(Chunk(chunk.kind, chunk.reference[:fitting], chunk.hypothesis[:fitting]))
        left_out += words - fitting
    return kept, left_out
