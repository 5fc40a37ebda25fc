"""Normalizers: each name stands for one behaviour, shown rule by rule; what differs in truth stays different."""

import hashlib
import json
import random
from itertools import pairwise
from typing import get_args

import pytest
from click.testing import CliRunner
from whisper_normalizer.basic import BasicTextNormalizer  # type: ignore[import-untyped]
from whisper_normalizer.english import EnglishTextNormalizer  # type: ignore[import-untyped]

from tests.conftest import RunCli
from tests.evaluation.normalizer_cases import (
    FRENCH_DIFFERENT,
    FRENCH_EQUAL,
    GERMAN_DIFFERENT,
    GERMAN_EQUAL,
    OPENAI_ENGLISH,
)
from whisper_train.cli import main
from whisper_train.errors import UserError
from whisper_train.evaluation.normalize import VERSIONS, explain, make_normalizer, normalizers_for
from whisper_train.job import Evaluation

# SHA-256 of whisper/normalizers/english.json of openai-whisper 20250625, keys sorted.
ENGLISH_JSON = "a9514fed7a5a462d97b9a7a2f93d38e7ec098ad2dd4171096b9d9e7b2a8ccdec"
STRANGE = ["", " ", "\n\t", "\x00", "🙂❤️1️⃣", "नमस्ते दुनिया", "你好，世界", "مرحبا ٣", "a\u0301\u200d\ufeff", "\ud800x"]
STRANGE += ["İ ſ ﬁ ½ Ⅳ ²", "[([<", ">])", "'", "''''", ",", "1,,2", "1.000.", "-", "--5", "%", "9" * 5000]
REPEATED = ["[", "(", "<", "()", " ", "'", " '", "9", "9 ", "1,", "-", "a-", "million ", "one ", "tausend "]
REPEATED += ["ein ", "drei komma ", "mille ", "quatre vingt ", "virgule ", "🙂", "字", "a\u0301", "$5 ", "and a half "]
PIECES = [text for pair in GERMAN_EQUAL + FRENCH_EQUAL for side in pair for text in side.split()] + STRANGE
PIECES += [text for text, _ in OPENAI_ENGLISH] + [
    "Mr.",
    "it's",
    "kinda",
    "colour",
    "and a half",
    "half",
    "and",
    "point",
]


def sentences(number: int) -> list[str]:
    """`number` sentences put together by chance, the same ones every time, some without spaces."""
    chance = random.Random(1)
    return [
        chance.choice(["", " ", " ", " "]).join(chance.choices(PIECES, k=chance.randint(0, 12))) for _ in range(number)
    ]


def openai_english() -> EnglishTextNormalizer:
    """OpenAI's, from the package whisper-normalizer, without what that adds."""
    library = EnglishTextNormalizer()
    for word in ("kinda", "sorta", "dunno", "cause"):
        del library.replacers[rf"\b{word}\b"]
    return library


# What is refused.


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("germann", "did you mean german?"),
        ("whisper_english", "did you mean whisper-english?"),
        ("German", "did you mean german?"),
        ("", "there are raw, whisper-basic, whisper-english, german, french"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, way_out: str) -> None:
    with pytest.raises(UserError, match=f"normalizer: {name}: no such normalizer; ") as caught:
        make_normalizer(name)
    assert str(caught.value).endswith(way_out)


def test_the_command_refuses_an_unknown_name_before_it_reads(run_cli: RunCli) -> None:
    result = run_cli("normalize", "--with", "frenhc")

    assert result.exit_code == 2
    assert result.output == "error: normalizer: frenhc: no such normalizer; did you mean french?\n"


def test_the_command_refuses_what_is_no_utf8() -> None:
    result = CliRunner().invoke(main, ["normalize", "--with", "raw"], input=b"gut\nsch\xf6n\n")

    assert result.exit_code == 2
    assert result.output == "gut\nerror: normalize: standard input: line 2: is not UTF-8; convert it first\n"


# What holds for all of them.


def test_a_job_may_name_every_normalizer() -> None:
    assert list(get_args(Evaluation.model_fields["normalizer"].annotation)) == list(VERSIONS)


def test_the_languages_choose_their_packs() -> None:
    assert normalizers_for([]) == normalizers_for(["as", "xx"]) == ["raw", "whisper-basic"]
    assert normalizers_for(["fr", "en", "fr"]) == ["raw", "whisper-basic", "whisper-english", "french"]
    assert normalizers_for(iter(["de"])) == ["raw", "whisper-basic", "german"]


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_any_text_is_taken(name: str, text: str) -> None:
    normalized = make_normalizer(name)(text)

    assert normalized == normalized.strip()


@pytest.mark.parametrize("name", VERSIONS)
def test_long_texts_take_no_more_than_their_share_of_time(name: str) -> None:
    for piece in REPEATED:
        make_normalizer(name)((piece * 100_000)[:100_000])  # hours, where the time grows with the square


@pytest.mark.parametrize("name", VERSIONS)
def test_steps_lead_to_the_result_and_each_of_them_changes_something(name: str) -> None:
    normalizer = make_normalizer(name)
    for text in sentences(300):
        texts = [text, *(after for _, after in explain(name, text))]
        assert texts[-1] == normalizer(text)
        assert all(before != after for before, after in pairwise(texts))


@pytest.mark.parametrize("name", ["raw", "whisper-basic", "german", "french"])
def test_a_normalized_text_stays_as_it_is(name: str) -> None:
    normalizer = make_normalizer(name)
    spaced = [text for text in sentences(2000) if " " in text]
    assert [text for text in spaced if normalizer(normalizer(text)) != normalizer(text)] == []


# Each of them.


def test_raw_ignores_nothing_but_spaces_around() -> None:
    assert make_normalizer("raw")("  Guten  Tag! ") == "Guten  Tag!"


def test_whisper_basic_is_openais() -> None:
    basic, library = make_normalizer("whisper-basic"), BasicTextNormalizer()
    assert basic("Guten Tag, Herr Müller! [lacht] (leise)") == "guten tag herr müller"
    assert [text for text in sentences(3000) if basic(text) != library(text).strip()] == []


@pytest.mark.parametrize(("text", "normalized"), OPENAI_ENGLISH)
def test_whisper_english_meets_openais_own_tests(text: str, normalized: str) -> None:
    assert make_normalizer("whisper-english")(text) == normalized


def test_whisper_english_is_openais_whole() -> None:
    english, library = make_normalizer("whisper-english"), openai_english()
    for text in sentences(3000):
        if "9" * 5000 not in text:  # where OpenAI's fails
            assert english(text) == library(text).strip(), ascii(text)


def test_whisper_english_has_openais_spellings_and_contractions_only() -> None:
    mapping = openai_english().standardize_spellings.mapping
    digest = hashlib.sha256(json.dumps(mapping, sort_keys=True).encode()).hexdigest()
    assert digest == ENGLISH_JSON
    assert make_normalizer("whisper-english")("kinda sorta dunno cause") == "kinda sorta dunno cause"
    assert len(openai_english().replacers) == 49


@pytest.mark.parametrize(("one", "other"), GERMAN_EQUAL)
def test_german_spellings_of_the_same_words_are_equal(one: str, other: str) -> None:
    assert make_normalizer("german")(one) == make_normalizer("german")(other)


def test_german_writes_no_umlauts_where_there_were_none() -> None:
    assert make_normalizer("german")("Neue Poesie, aktuell") == "neue poesie aktuell"


@pytest.mark.parametrize(("one", "other"), GERMAN_DIFFERENT)
def test_different_german_words_stay_different(one: str, other: str) -> None:
    assert make_normalizer("german")(one) != make_normalizer("german")(other)


@pytest.mark.parametrize(("one", "other"), FRENCH_EQUAL)
def test_french_spellings_of_the_same_words_are_equal(one: str, other: str) -> None:
    assert make_normalizer("french")(one) == make_normalizer("french")(other)


@pytest.mark.parametrize(("one", "other"), FRENCH_DIFFERENT)
def test_different_french_words_stay_different(one: str, other: str) -> None:
    assert make_normalizer("french")(one) != make_normalizer("french")(other)


# The command.


def test_the_command_shows_all_normalizers_side_by_side(run_cli: RunCli) -> None:
    result = run_cli("normalize", "Dreiundzwanzig Straßen, 50 %!")

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "raw:             Dreiundzwanzig Straßen, 50 %!",
        "whisper-basic:   dreiundzwanzig straßen 50",
        "whisper-english: dreiundzwanzig strassen 50",
        "german:          23 strassen 50 prozent",
        "french:          dreiundzwanzig straßen 50 pourcent",
    ]


def test_the_command_reads_lines_and_prints_just_the_text_of_one_normalizer() -> None:
    result = CliRunner().invoke(main, ["normalize", "--with", "german"], input="\ufeffZwölf Äpfel\r\n\nJa!")

    assert (result.exit_code, result.output) == (0, "12 aepfel\n\nja\n")


def test_the_command_explains_each_step_that_changes_something(run_cli: RunCli) -> None:
    result = run_cli("normalize", "--with", "french", "--with", "raw", "--explain", "L’œuf")

    assert result.exit_code == 0
    assert [line.rstrip() for line in result.output.splitlines()] == [
        "french, version 1",
        "                                          L’œuf",
        "  one kind of apostrophe                  L'œuf",
        "  lower case, one form of each character  l'œuf",
        "  writes œ, æ as oe, ae                   l'oeuf",
        "  parts words at other apostrophes        l oeuf",
        "raw, version 1",
        "    L’œuf",
    ]
