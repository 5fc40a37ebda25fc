"""Scores equal error counts known by construction, at word and at character level, and jiwer's own corpus rates."""

import random
import tracemalloc
from collections import Counter
from itertools import chain

import jiwer
import numpy as np
import pytest

from whisper_train.evaluation.score import Counts, Unit, count_errors, count_pairs

REFERENCES = ["der mann sucht den apfel", "ja", "die frau kauft ein buch"]
HYPOTHESES = ["der mann sucht apfel", "ja ja", "die frau kauft ein buch"]
CLIPS = 4_000

Errors = Counter[tuple[str, str]]


def make_clip(symbols: list[str], strangers: list[str], chance: random.Random) -> tuple[list[str], list[str], Errors]:
    """A reference of distinct symbols, a hypothesis with errors of known kinds, and the pairs that differ.

    At least three symbols that are right lie between two errors, so that shifting the one onto the other costs more
    than both: the smallest alignment is the one built here and no other.
    """
    reference = chance.sample(symbols, chance.randint(4, 24))
    strange = iter(chance.sample(strangers, len(reference)))
    hypothesis: list[str] = []
    errors: Errors = Counter()
    right = 3
    for symbol in reference:
        kind = chance.choice(["right", "substitution", "deletion", "insertion"]) if right >= 3 else "right"
        right = right + 1 if kind == "right" else 0
        said = "" if kind == "insertion" else symbol
        heard = "" if kind == "deletion" else symbol if kind == "right" else next(strange)
        hypothesis += [heard] if heard else []
        if kind == "insertion":
            hypothesis.append(symbol)
            right = 1
        if kind != "right":
            errors[said, heard] += 1
    return reference, hypothesis, errors


def known_counts(clips: list[tuple[list[str], list[str], Errors]]) -> Counts:
    rows = []
    for reference, _, errors in clips:
        deletions = sum(count for (_, heard), count in errors.items() if not heard)
        insertions = sum(count for (said, _), count in errors.items() if not said)
        substitutions = errors.total() - deletions - insertions
        rows.append((len(reference) - substitutions - deletions, substitutions, deletions, insertions))
    return Counts(*np.array(rows).T)


def same(one: Counts, other: Counts) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Counts.__slots__)


def test_as_many_references_as_hypotheses_are_asked_for() -> None:
    with pytest.raises(ValueError, match="3 references but 2 hypotheses"):
        count_errors(REFERENCES, HYPOTHESES[:2], "word")


@pytest.mark.parametrize("unit", ["word", "character"])
def test_nothing_to_score_is_no_error(unit: Unit) -> None:
    for texts in ([], [""]):
        counts = count_errors(texts, texts, unit)
        assert (counts.rate, counts.mer, counts.wil, len(counts.edits)) == (0, 0, 0, len(texts))
    assert count_pairs([], ["raw"])["raw"].words.rate == 0


@pytest.mark.parametrize(
    ("references", "hypotheses"),
    [
        (["", "ja"], ["vielen dank fürs zuschauen", "ja"]),
        ([""], ["vielen dank"]),
        (["guten tag", "ja"], ["", "ja"]),
        (["guten tag"], [""]),
        (["a b c"], ["x y z"]),
    ],
)
def test_empty_texts_count_as_jiwer_counts_them(references: list[str], hypotheses: list[str]) -> None:
    words = count_errors(references, hypotheses, "word")
    assert words.rate == jiwer.wer(references, hypotheses)
    assert words.mer == jiwer.mer(references, hypotheses)
    assert words.wil == jiwer.wil(references, hypotheses)
    assert count_errors(references, hypotheses, "character").rate == jiwer.cer(references, hypotheses)


def test_words_where_nothing_was_said_are_insertions() -> None:
    words = count_errors(["", "ja"], ["vielen dank fürs zuschauen", "ja"], "word")
    assert words.insertions.tolist() == [4, 0]
    assert words.units.tolist() == [0, 1]
    assert words.rate == 4.0


def test_the_rates_are_those_of_the_corpus_not_means_of_clips() -> None:
    words = count_errors(REFERENCES, HYPOTHESES, "word")
    assert words.rate == jiwer.wer(REFERENCES, HYPOTHESES) == pytest.approx(2 / 11)
    assert count_errors(REFERENCES, HYPOTHESES, "character").rate == jiwer.cer(REFERENCES, HYPOTHESES)
    assert words.edits.tolist() == [1, 1, 0]
    assert words.units.tolist() == [5, 1, 5]


def test_every_word_score_equals_what_is_known_by_construction() -> None:
    chance = random.Random(1)
    words, strangers = [f"wort{number}" for number in range(500)], [f"fremd{number}" for number in range(500)]
    clips = [make_clip(words, strangers, chance) for _ in range(CLIPS)]
    pairs = [(" ".join(reference), " ".join(hypothesis)) for reference, hypothesis, _ in clips]
    references, hypotheses = [list(texts) for texts in zip(*pairs, strict=True)]
    known = known_counts(clips)
    assert min(known.substitutions.sum(), known.deletions.sum(), known.insertions.sum()) > CLIPS / 2
    scored = count_pairs(pairs, ["raw"])["raw"]
    assert same(scored.words, known)
    assert same(count_errors(references, hypotheses, "word"), known)
    assert scored.confusions == Counter(chain.from_iterable(errors.elements() for _, _, errors in clips))
    hits, edits = known.hits.sum(), known.edits.sum()
    said, heard = known.units.sum(), sum(len(hypothesis) for _, hypothesis, _ in clips)
    assert scored.words.rate == edits / said == jiwer.wer(references, hypotheses)
    assert scored.words.mer == edits / (hits + edits) == jiwer.mer(references, hypotheses)
    assert scored.words.wil == 1 - (hits / said) * (hits / heard) == jiwer.wil(references, hypotheses)


def test_every_character_score_equals_what_is_known_by_construction() -> None:
    chance = random.Random(2)
    characters, strangers = [chr(0x4E00 + number) for number in range(500)], [chr(0xAC00 + n) for n in range(500)]
    clips = [make_clip(characters, strangers, chance) for _ in range(CLIPS)]
    pairs = [("".join(reference), "".join(hypothesis)) for reference, hypothesis, _ in clips]
    references, hypotheses = [list(texts) for texts in zip(*pairs, strict=True)]
    known = known_counts(clips)
    scored = count_pairs(pairs, ["raw"])["raw"]
    assert same(scored.characters, known)
    assert same(count_errors(references, hypotheses, "character"), known)
    assert scored.characters.rate == known.edits.sum() / known.units.sum() == jiwer.cer(references, hypotheses)


def test_a_space_is_a_character() -> None:
    characters = count_errors(["ab cd"], ["abcd"], "character")
    assert (characters.deletions.tolist(), characters.units.tolist()) == ([1], [5])


def test_normalizers_stand_side_by_side() -> None:
    scored = count_pairs([("Guten Tag, Herr Müller!", "guten tag herr müller")] * 3, ["raw", "whisper-basic"])
    assert list(scored) == ["raw", "whisper-basic"]
    assert scored["raw"].words.substitutions.tolist() == [4, 4, 4]
    assert scored["raw"].confusions["Tag,", "tag"] == 3
    assert scored["whisper-basic"].words.edits.tolist() == [0, 0, 0]
    assert not scored["whisper-basic"].confusions


def test_worker_processes_change_nothing() -> None:
    chance = random.Random(3)
    pairs = [(f"das ist {chance.randrange(9)}", f"das war {chance.randrange(9)}") for _ in range(12_345)]
    alone, shared = count_pairs(pairs, ["raw"])["raw"], count_pairs(pairs, ["raw"], processes=2)["raw"]
    assert same(alone.words, shared.words)
    assert same(alone.characters, shared.characters)
    assert alone.confusions == shared.confusions


def test_confusions_do_not_grow_with_the_clips() -> None:
    pairs = [(f"r{number} {number}a der", f"h{number} {number}b die") for number in range(60_000)]
    confusions = count_pairs(pairs, ["raw"])["raw"].confusions
    assert len(confusions) <= 100_000
    assert confusions.most_common(1) == [(("der", "die"), 60_000)]


def test_alignments_do_not_pile_up() -> None:
    texts = [f"{number} eins zwei drei vier fünf sechs sieben acht neun zehn" for number in range(5_000)]
    heard = [text.replace("e", "i") for text in texts]
    tracemalloc.start()
    try:
        count_errors(texts, heard, "character")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6
