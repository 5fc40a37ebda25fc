"""The French communes and stations that sentences are made of, in two parts without a city in common."""

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("places.txt")
TEST_SHARE = 0.25  # of the cities
ARTICLES = {"Le ": ("du ", "au "), "Les ": ("des ", "aux ")}  # de Le Mans -> du Mans, à Le Mans -> au Mans
VOWELS = "aeiouyh"


@dataclass(frozen=True, slots=True)
class Places:
    """The cities of one part, simple and compound, and its stations."""

    simple: tuple[str, ...]
    compound: tuple[str, ...]  # of several words, or with an accent
    stations: tuple[str, ...]

    @property
    def cities(self) -> tuple[str, ...]:
        return self.simple + self.compound


@cache
def read_places() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """All communes, and all stations as (commune, station)."""
    lines = [line.strip() for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    stations = [tuple(part.strip() for part in line.split(":")) for line in lines if ":" in line]
    communes = tuple(line for line in lines if line and ":" not in line)
    return communes, tuple((commune, station) for commune, station in stations)


def is_test(city: str) -> bool:
    return int(hashlib.sha256(city.encode()).hexdigest()[:8], 16) / 2**32 < TEST_SHARE


def places_of(part: str, most: int | None = None) -> Places:
    """The places of `part` (train or test); at most `most` cities, the same ones for the same number."""
    communes, stations = read_places()
    test = part == "test"
    cities = [city for city in communes if is_test(city) == test]
    if most is not None:
        cities = sorted(cities, key=lambda city: hashlib.sha256(f"{city}?".encode()).hexdigest())[:most]
    return Places(
        simple=tuple(city for city in cities if not is_compound(city)),
        compound=tuple(city for city in cities if is_compound(city)),
        stations=tuple(station for city, station in stations if is_test(city) == test),
    )


def is_compound(city: str) -> bool:
    return " " in city or "-" in city or not city.isascii()


def with_preposition(preposition: str, place: str) -> str:
    """de Agen -> d'Agen, de Le Mans -> du Mans, jusqu'à Les Arcs -> jusqu'aux Arcs; `preposition` ends in de or à."""
    for article, (of, to) in ARTICLES.items():
        if place.startswith(article) and preposition.endswith(("de", "à")):
            stem, contracted = (preposition[:-2], of) if preposition.endswith("de") else (preposition[:-1], to)
            return f"{stem}{contracted}{place.removeprefix(article)}"
    if preposition.endswith("de") and starts_with_vowel(place):
        return f"{preposition[:-1]}'{place}"
    return f"{preposition} {place}"


def starts_with_vowel(name: str) -> bool:
    return without_accents(name[0]).lower() in VOWELS


def without_accents(text: str) -> str:
    """Saint-Étienne -> Saint-Etienne; the text keeps its length where its letters are composed."""
    decomposed = unicodedata.normalize("NFD", text.replace("œ", "o"))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def plain(name: str) -> str:
    """A place's name as it is compared between a text and what was heard: SAINT-ÉTIENNE -> saint etienne."""
    letters = "".join(letter if letter.isalnum() else " " for letter in without_accents(name.replace("œ", "oe")))
    return " ".join(letters.lower().split())
