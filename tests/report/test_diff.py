"""Differences word by word, on the text that was scored."""

import pytest

from whisper_train.evaluation.normalize import make_normalizer
from whisper_train.report.diff import Chunk, count_edits, cut_chunks, diff_words

BASIC = make_normalizer("whisper-basic")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", []),
        ("...", "vielen Dank", [("inserted", [], ["vielen", "dank"])]),
        ("Guten Tag!", "", [("deleted", ["guten", "tag"], [])]),
        ("Guten Tag!", "guten tag", [("equal", ["guten", "tag"], ["guten", "tag"])]),
        ("a b c", "a x c", [("equal", ["a"], ["a"]), ("substituted", ["b"], ["x"]), ("equal", ["c"], ["c"])]),
    ],
)
def test_the_alignment_is_of_the_normalized_words(
    reference: str, hypothesis: str, expected: list[tuple[str, list[str], list[str]]]
) -> None:
    assert diff_words(reference, hypothesis, BASIC) == expected


def test_edits_are_what_the_rate_counts() -> None:
    assert count_edits(diff_words("a b c d", "a x x2 d e", BASIC)) == 3


def test_a_long_text_is_cut_and_the_rest_counted() -> None:
    chunks = [Chunk("equal", ["a"] * 10, ["a"] * 10), Chunk("deleted", ["b"] * 100, [])]
    kept, left_out = cut_chunks(chunks, 60)
    assert kept == [chunks[0], Chunk("deleted", ["b"] * 20, [])]
    assert left_out == 80
    assert cut_chunks(chunks, 10_000) == (chunks, 0)
