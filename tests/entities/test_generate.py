"""The generator: the two parts share no city and no pattern, every sentence is annotated rightly and has its kind."""

from pathlib import Path

import pytest

from tests.conftest import RunCli
from whisper_train.entities.generate import Generator
from whisper_train.entities.places import places_of, plain, with_preposition
from whisper_train.entities.sentence import Sentence, check_labels
from whisper_train.errors import UserError
from whisper_train.job_entities import COMMON_KINDS, HARD_KINDS, Travel


def make(part: str, kinds: list[str] | None = None, sentences: int = 1_500) -> list[Sentence]:
    return list(Generator(Travel(sentences=sentences, part=part, kinds=kinds, seed=3)))


def test_too_many_sentences_are_refused() -> None:
    recipe = Travel(sentences=5_000, part="test", kinds=["no-order"], places=4)
    with pytest.raises(UserError, match=r"travel.sentences: 5,000: there are not so many .* kind no-order"):
        list(Generator(recipe))


def test_the_parts_share_no_city_and_no_pattern() -> None:
    train, test = make("train"), make("test")
    names = [
        {plain(one.text[s.start : s.end]) for one in part for s in one.spans if one.kind in COMMON_KINDS}
        for part in (train, test)
    ]
    assert not names[0] & names[1]
    assert not {one.pattern for one in train} & {one.pattern for one in test}
    assert not set(places_of("train").cities) & set(places_of("test").cities)


def test_invented_cities_are_those_of_no_list() -> None:
    made = list(Generator(Travel(sentences=600, invented=1.0, kinds=["direct", "compound"], seed=3)))
    names = [one.text[span.start : span.end] for one in made for span in one.spans]
    known = {plain(city) for part in ("train", "test") for city in places_of(part).cities}
    assert not {plain(name) for name in names} & known
    assert len(set(names)) > 0.9 * len(names)
    compound = [one.text[span.start : span.end] for one in made if one.kind == "compound" for span in one.spans]
    assert sum(" " in name or "-" in name or "'" in name for name in compound) > 0.9 * len(compound)  # not Le X: du X


def test_no_city_comes_twice_in_a_sentence_invented_ones_neither() -> None:
    made = list(Generator(Travel(sentences=4_000, invented=1.0, kinds=["vias"], seed=0)))
    names = [[one.text[span.start : span.end] for span in one.spans] for one in made]
    assert [found for found in names if len({*found}) < len(found)] == []


def test_every_kind_comes_and_no_sentence_twice() -> None:
    made = make("train")
    assert {one.kind for one in made} == {*COMMON_KINDS, *HARD_KINDS}
    assert len({one.text for one in made}) == len(made)
    for one in made:
        check_labels(one.labels)


def test_the_same_recipe_gives_the_same_sentences() -> None:
    assert make("test", sentences=100) == make("test", sentences=100)


@pytest.mark.parametrize(
    ("kind", "entities"),
    [("direct", ["DEPART", "ARRIVEE"]), ("reversed", ["ARRIVEE", "DEPART"]), ("arrival-only", ["ARRIVEE"])],
)
def test_a_kind_has_its_entities_in_its_order(kind: str, entities: list[str]) -> None:
    for one in make("train", [kind], 60):
        assert [span.label for span in one.spans] == entities


def test_no_order_has_no_entity_and_vias_several() -> None:
    assert all(not one.spans for one in make("train", ["no-order"], 60))
    assert all(sum(span.label == "VIA" for span in one.spans) >= 2 for one in make("train", ["vias"], 60))


def test_what_is_damaged_keeps_its_spans() -> None:
    lower = make("train", ["lowercase"], 60)
    assert all(one.text == one.text.lower() and "-" not in one.text and one.spans for one in lower)
    assert all(one.text.isascii() for one in make("train", ["unaccented"], 60))
    assert all(one.spans for one in make("train", ["misspelt"], 60))


@pytest.mark.parametrize(
    ("preposition", "place", "written"),
    [
        ("de", "Agen", "d'Agen"),
        ("de", "Étretat", "d'Étretat"),
        ("de", "Lyon", "de Lyon"),
        ("de", "Le Mans", "du Mans"),
        ("au départ de", "Les Arcs", "au départ des Arcs"),
        ("jusqu'à", "Le Havre", "jusqu'au Havre"),
        ("à", "La Rochelle", "à La Rochelle"),
    ],
)
def test_prepositions_are_contracted(preposition: str, place: str, written: str) -> None:
    assert with_preposition(preposition, place) == written


def test_make_travel_writes_a_source(tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("make-travel", tmp_path / "orders.conll", "--sentences", "40", "--kind", "via", "--part", "test")
    assert done.exit_code == 0, done.output
    assert "40  sentences of part test" in done.output
    assert (tmp_path / "orders.conll").read_text(encoding="utf-8").count("# kind = via") == 40


@pytest.mark.parametrize(
    ("words", "message"),
    [(("orders.csv",), "end its name in .jsonl"), (("orders.jsonl", "--kind", "vai"), "--kind: vai: is not known")],
)
def test_make_travel_refuses_what_it_does_not_know(run_cli: RunCli, words: tuple[str, ...], message: str) -> None:
    done = run_cli("make-travel", *words)
    assert done.exit_code == 2
    assert message in done.output
