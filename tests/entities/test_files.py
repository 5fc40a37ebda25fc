"""Annotated sentences in files: what is wrong with them is told by line, and both forms hold the same."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import MakeJob, RunCli
from whisper_train.entities.files import as_spans, read_conll, read_spans, write_sentences
from whisper_train.entities.generate import Generator
from whisper_train.entities.predictions import read_predictions, write_predictions
from whisper_train.entities.sentence import Span, sentence_of, spans_of, split_words
from whisper_train.errors import UserError
from whisper_train.job_entities import Travel

TEXT = "Je vais de Lyon à Aix-en-Provence."


def entity(start: int, end: int, label: str = "DEPART") -> dict[str, object]:
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([entity(11, 99)], "11 to 99: lies outside the text, which has 34 characters"),
        ([entity(15, 11)], "15 to 11: lies outside"),
        ([entity(-4, 2)], "-4 to 2: lies outside"),
        ([entity(11, 15), entity(13, 20, "VIA")], "'Lyon' (11 to 15) and 'on à Ai' (13 to 20) overlap"),
        ([entity(11, 15), entity(11, 15, "VIA")], "overlap"),
        ([entity(11, 14)], "'Lyo' (11 to 14) does not begin and end with a word"),
        ([entity(10, 15)], "' Lyon' (10 to 15) does not begin and end with a word"),
        ([entity(11, 15, "DEPARTURE")], "'DEPARTURE': is not known; did you mean DEPART?"),
        ([entity(11, 15, "CITY")], "'CITY': is not known; there are DEPART, ARRIVEE, VIA"),
        ([{"start": 1, "end": 2}], "entities.0: needs start, end and label"),
        ([{"start": "11", "end": 15, "label": "VIA"}], "entities.0: start and end must be whole numbers"),
        ({"start": 1}, "entities: must be a list"),
    ],
)
def test_wrong_spans_are_told_by_line(tmp_path: Path, entities: object, message: str) -> None:
    path = tmp_path / "orders.jsonl"
    good = {"text": TEXT, "entities": [entity(11, 15), entity(18, 33, "ARRIVEE")]}
    path.write_text("\n".join(json.dumps(line) for line in (good, {"text": TEXT, "entities": entities})))
    with pytest.raises(UserError) as error:
        list(read_spans(path))
    assert "orders.jsonl:2: " in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON object"),
        ("[]", "is no JSON object"),
        ('{"entities": []}', "text: is missing"),
        ('{"text": "a", "text": "b"}', "key 'text' is given twice"),
        ('{"text": "Ly\\u001bon"}', "text: holds the control character"),
        ('{"text": "Lyon", "kind": "\\ud800"}', "kind: holds the control character"),
        (f'{{"text": "{"a" * 2**22}"}}', "a row has more than 4,194,304 characters"),
    ],
)
def test_a_line_that_is_no_sentence(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=f"orders.jsonl:1: .*{message}"):
        list(read_spans(path))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("de O\nLyon I-DEPART", "from line 4: word 2: label: I-DEPART: comes after O and continues nothing"),
        ("Lyon B-DEPART\nNord I-VIA", "word 2: label: I-VIA: comes after B-DEPART"),
        ("Lyon B-DEPARTURE", "'B-DEPARTURE': is not known; did you mean B-DEPART?"),
        ("Lyon X", "'X': is not known; there are O, B-DEPART"),
        ("Lyon", "4: 'Lyon': needs a word and its label"),
        ("Ly\x1bon O", "4: line: holds the control character"),
    ],
)
def test_wrong_label_sequences_are_told_by_line(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "orders.conll"
    path.write_text(f"à O\nNice B-ARRIVEE\n\n{lines}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        list(read_conll(path))
    assert "orders.conll" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("orders.conll", "Lyon I-DEPART\n", "continues nothing"),
        ("orders.conll", "Lyon B-CITY\n", "is not known"),
        ("orders.jsonl", json.dumps({"text": TEXT, "entities": [entity(30, 40)]}), "lies outside the text"),
        ("orders.jsonl", json.dumps({"text": TEXT, "entities": [entity(11, 15), entity(11, 15)]}), "overlap"),
    ],
)
def test_a_job_with_wrong_data_ends_with_status_2_and_one_message(
    tmp_path: Path, make_job: MakeJob, run_cli: RunCli, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    source = {"conll" if name.endswith("conll") else "spans": name}
    job = make_job(
        {"train": [source], "eval": {"test": [source]}},
        language="fr",
        task="entities",
        architecture=None,
        entities={"encoder": {"width": 8, "layers": 1, "attention_heads": 2, "feed_forward": 8}},
    )
    done = run_cli("train", job)
    assert done.exit_code == 2, done.output
    errors = [line for line in done.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert name in errors[0]
    assert message in errors[0]


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "orders.jsonl")
    with pytest.raises(UserError, match="cannot be read: is no regular file"):
        list(read_spans(tmp_path / "orders.jsonl"))


def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    """Other signs that Python takes for the end of a line may stand in a text."""
    path = tmp_path / "orders.jsonl"
    path.write_text(json.dumps({"text": "de Lyon\u2028merci"}, ensure_ascii=False) + "\n", encoding="utf-8")
    sentences = list(read_spans(path))
    assert [one.text for one in sentences] == ["de Lyon\u2028merci"]
    write_predictions(tmp_path / "found.jsonl", {}, sentences, [one.labels for one in sentences])
    assert len(read_predictions(tmp_path / "found.jsonl")[1]) == 1


def test_both_forms_hold_the_same(tmp_path: Path) -> None:
    made = list(Generator(Travel(sentences=90, seed=7)))
    write_sentences(tmp_path / "orders.jsonl", made)
    write_sentences(tmp_path / "orders.conll", made)
    assert list(read_spans(tmp_path / "orders.jsonl")) == made
    read = list(read_conll(tmp_path / "orders.conll"))
    assert [(one.tokens, one.labels, one.kind) for one in read] == [(one.tokens, one.labels, one.kind) for one in made]


def test_a_hyphen_between_two_cities_parts_them_and_within_one_does_not() -> None:
    text = "un Lyon-Nice pour Aix-en-Provence"
    spans = [Span(3, 7, "DEPART"), Span(8, 12, "ARRIVEE"), Span(18, 33, "VIA")]
    sentence = sentence_of(text, spans)
    assert sentence.spans == spans
    assert sentence.labels.count("I-VIA") == 4
    assert as_spans(sentence)["entities"][2] == {"start": 18, "end": 33, "label": "VIA"}


def test_an_apostrophe_parts_the_preposition_from_the_city() -> None:
    assert [("d'Étretat"[start:end]) for start, end in split_words("d'Étretat")] == ["d'", "Étretat"]


def test_what_a_model_labels_i_alone_begins_an_entity() -> None:
    words = [(0, 4), (5, 9), (10, 14)]
    assert spans_of(words, ["I-VIA", "I-VIA", "I-DEPART"]) == [Span(0, 9, "VIA"), Span(10, 14, "DEPART")]
