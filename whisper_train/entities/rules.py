"""What a list of places and the word before a name find, without any training: a baseline that is more than chance."""

from collections.abc import Sequence
from functools import cache

from whisper_train.entities.places import plain, read_places

LONGEST = 9  # words of a place, its hyphens among them
BEFORE = {
    "DEPART": ("de", "d'", "du", "des", "depuis", "départ"),
    "ARRIVEE": ("à", "a", "au", "aux", "vers", "pour", "direction", "arrivée"),
    "VIA": ("via", "par", "arrêt", "correspondance", "escale"),
}
ROLES = {word: entity for entity, words in BEFORE.items() for word in words}


@cache
def known_places() -> frozenset[str]:
    """Every commune and station as it is compared; of Le Mans also Mans, which stands behind du and au."""
    communes, stations = read_places()
    names = {plain(name) for name in (*communes, *(station for _, station in stations))}
    return frozenset(names | {name.split(" ", 1)[1] for name in names if name.startswith(("le ", "les "))})


def label_by_rules(tokens: Sequence[str]) -> list[str]:
    """Labels of a sentence's words: the longest known name from each word on, by the word before it.

    Without a telling word before it, a name is the departure where nothing came before, then the arrival.
    """
    labels = ["O"] * len(tokens)
    place = 0
    while place < len(tokens):
        length = next(
            (
                size
                for size in range(min(LONGEST, len(tokens) - place), 0, -1)
                if plain("".join(tokens[place : place + size]))
                and plain(" ".join(tokens[place : place + size])) in known_places()
            ),
            0,
        )
        if not length:
            place += 1
            continue
        before = tokens[place - 1].lower().replace("’", "'") if place else ""
        entity = ROLES.get(before) or ("ARRIVEE" if "B-DEPART" in labels else "DEPART")
        labels[place : place + length] = [f"B-{entity}", *[f"I-{entity}"] * (length - 1)]
        place += length
    return labels
