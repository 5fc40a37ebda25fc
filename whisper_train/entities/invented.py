"""Names of places that do not exist, in the forms of French ones.

With them a model learns where a name stands in an order, and how long it can be, but no names. One that learns from
random weights knows no others than those it is shown.
"""

import random
import re
from functools import cache

from whisper_train.entities.places import plain, read_places, starts_with_vowel

STARTS = """
Ar Bel Bour Bré Cha Châ Cla Cor Dom É Fer Gau Har Jou Lan Lou Mar Mon Mou Nes Or Per Plou Quim Ras Sau Ta Tou U Ver Vi
Y Ai Or
"""
MIDDLES = ("", "", "", "be", "che", "gno", "li", "mo", "na", "ran", "ro", "sé", "ti", "va")
ENDS = """
ac ay bourg court cy dun gne gny lès lon mont nay neuil ny res ron ry sart tin tot vaux ville villers zac ge les ne re
se teau ux x
"""
BEHIND = ("sur", "sur", "sous", "en", "lès", "les", "de", "des", "du", "de", "le", "la", "aux")
ARTICLE = re.compile(r"^(?:Les? |La |L')")
MAX_TRIES = 100


def invent(chance: random.Random, *, compound: bool) -> str:
    """A name of one word, or of several (`compound`); never that of a place in the list, of either part."""
    for _ in range(MAX_TRIES):
        name = invent_compound(chance) if compound else invent_word(chance)
        if not {plain(name), plain(ARTICLE.sub("", name))} & known_names():  # du Mans has lost its article
            return name
    raise AssertionError("every name that was invented is in the list of places")


@cache
def known_names() -> frozenset[str]:
    """All places as they are compared: Épernay and Epernay are one."""
    return frozenset(plain(name) for name in read_places()[0])


def invent_word(chance: random.Random) -> str:
    return chance.choice(STARTS.split()) + chance.choice(MIDDLES) + chance.choice(ENDS.split())


def invent_compound(chance: random.Random) -> str:
    """La Verny, L'Orgny, Saint-Claron-de-Marlon, Belville-d'Arnay, Domry-Perac, Plouville-sur-Nesron, …"""
    form, first = chance.random(), invent_word(chance)
    if form < 0.3:
        if starts_with_vowel(first):
            return f"L'{first}"
        article = chance.choice(("La", "La", "Le", "Les"))
        name = f"{article} {first}{'s' if article == 'Les' and first[-1] not in 'sx' else ''}"
        return f"{name}-{behind(chance)}" if chance.random() < 0.4 else name
    if form < 0.5:
        name = f"{chance.choice(('Saint', 'Saint', 'Sainte'))}-{first}"
        return f"{name}-{behind(chance)}" if chance.random() < 0.4 else name
    if form < 0.7:
        return f"{first}-{invent_word(chance)}"
    return f"{first}-{behind(chance)}"


def behind(chance: random.Random) -> str:
    """sur-Orne, d'Arnay, des-Verres"""
    word, name = chance.choice(BEHIND), invent_word(chance)
    if word in ("de", "le", "la") and starts_with_vowel(name):
        return f"{word[0]}'{name}"
    return f"{word}-{name}"
