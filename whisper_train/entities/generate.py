"""Annotated travel sentences from the grammar: every sentence with its kind and the pattern it was made by."""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

from whisper_train.entities import grammar
from whisper_train.entities.files import write_sentences
from whisper_train.entities.invented import invent
from whisper_train.entities.places import Places, places_of, with_preposition, without_accents
from whisper_train.entities.sentence import Sentence, Span, sentence_of
from whisper_train.errors import UserError
from whisper_train.job_entities import COMMON_KINDS, HARD_KINDS, Travel

TEST_PATTERNS = 0.25  # of the patterns that openers and phrases make; those marked in the grammar come beside them
MAX_TRIES = 200  # for a sentence that is new
COMPOUND_SHARE = 0.5  # of the names that are invented, where a sentence may have either kind
SLOT = re.compile(r"(?:(\S*(?:\bde|à)) )?\{(\w)\}")  # with the preposition before it, if it contracts
ROLES = {"D": "DEPART", "A": "ARRIVEE", "V": "VIA"}
FRAMES = {
    "telegraphic": grammar.TELEGRAPHIC,
    "person": grammar.PERSONS,
    "distractor": grammar.DISTRACTORS,
    "no-order": grammar.NO_ORDERS,
}
NEIGHBOURS = dict(zip("abcdefghijlmnoprstuv", "zvxsrgfjukknipteryib", strict=True))  # keys beside, or signs alike


class Generator:
    """Makes the sentences of one recipe; the same recipe gives the same sentences."""

    def __init__(self, recipe: Travel) -> None:
        self.recipe = recipe
        self.chance = random.Random(f"{recipe.seed} {recipe.part}")
        self.places: Places = places_of(recipe.part, recipe.places)
        self.kinds: list[str] = list(recipe.kinds or (*COMMON_KINDS, *HARD_KINDS))

    def __iter__(self) -> Iterator[Sentence]:
        """Yields recipe.sentences different sentences, the kinds in turn; raises UserError where there are too few."""
        known: set[str] = set()
        for number in range(self.recipe.sentences):
            kind = self.kinds[number % len(self.kinds)]
            for _ in range(MAX_TRIES):
                sentence = self.make(kind)
                if sentence.text not in known:
                    break
            else:
                raise UserError(
                    f"travel.sentences: {self.recipe.sentences:,}: there are not so many different sentences of the"
                    f" kind {kind}; ask for fewer, for more places, or leave the kind out"
                )
            known.add(sentence.text)
            yield sentence

    def make(self, kind: str) -> Sentence:
        if kind in ("misspelt", "unaccented", "lowercase"):
            return damage(self.make(self.chance.choice(COMMON_KINDS)), kind, self.chance)
        if kind in FRAMES:
            frame = self.chance.choice(grammar.phrases_of(FRAMES[kind], self.recipe.part))
            return self.fill(self.finish(frame), kind, frame)
        return self.compose(kind)

    def compose(self, kind: str) -> Sentence:
        """A sentence of opener, phrases, perhaps a time and an ending, whose pattern belongs to the recipe's part."""
        form = kind if kind in grammar.ORDERS else self.chance.choice(tuple(grammar.ORDERS))
        while True:
            marked = self.recipe.part == "test" and self.chance.random() < TEST_PATTERNS
            openers = grammar.phrases_of(grammar.OPENERS, "test" if marked else "train")
            phrases = {
                "D": self.chance.choice(grammar.DEPARTURES),
                "A": self.chance.choice(grammar.ARRIVALS),
                "V": self.chance.choice(grammar.VIAS),
            }
            if form == "vias":
                phrases["V"] = phrases["V"].replace("{V}", "{W}")
            order = self.chance.choice(grammar.ORDERS[form]).split()
            pattern = " ".join([self.chance.choice(openers), *(phrases[role] for role in order)])
            if marked or is_test_pattern(pattern) == (self.recipe.part == "test"):
                break
        text = pattern
        if kind == "dated" or self.chance.random() < 0.15:
            text = f"{{T}} {text}" if self.chance.random() < 0.25 else f"{text} {{T}}"
        if self.chance.random() < 0.25:
            text = f"{text}{self.chance.choice((' ', ', '))}{self.chance.choice(grammar.TAILS)}"
        if self.chance.random() < 0.12:
            text = f"{self.chance.choice(grammar.GREETINGS)}, {text}"
        return self.fill(self.finish(text), kind, pattern)

    def finish(self, text: str) -> str:
        """With a capital letter and a sign at the end, as most people write, or without."""
        asks = text.startswith(("quel", "y a", "est-ce", "comment", "à quelle", "peux", "pouvez", "combien", "auriez"))
        sign = self.chance.choice(("?", " ?", " ?", "") if asks else (".", ".", ""))
        return f"{text}{sign}" if self.chance.random() < 0.1 else f"{text[0].upper()}{text[1:]}{sign}"

    def fill(self, frame: str, kind: str, pattern: str) -> Sentence:
        """The sentence of a frame, its slots filled, each city at most once."""
        used: set[str] = set()
        text, spans, place = "", [], 0
        for match in SLOT.finditer(frame):
            text += frame[place : match.start()]
            place = match.end()
            preposition, slot = match.groups()
            between = self.chance.choice(grammar.LISTS).split("{}")[1:-1] if slot == "W" else []
            for separator in [None, *between]:
                role = "V" if slot == "W" else slot
                filling = self.draw(role, kind, used)
                used.add(filling)
                if separator is None and preposition:
                    written = with_preposition(preposition, filling)
                else:
                    written = f"{separator or ''}{filling}"
                name = filling if written.endswith(filling) else filling.partition(" ")[2]  # du Mans
                text += written
                if role in ROLES:
                    spans.append(Span(len(text) - len(name), len(text), ROLES[role]))
        text += frame[place:]
        return sentence_of(text, spans, kind, pattern)

    def draw(self, slot: str, kind: str, used: set[str]) -> str:
        """What fills a slot."""
        chance, places = self.chance, self.places
        if slot == "T":
            return chance.choice(grammar.TIMES)
        if slot == "P":
            known = grammar.FIRST_NAMES[self.recipe.part]
            return chance.choice(known if chance.random() < 0.7 or not places.simple else places.simple)
        for _ in range(MAX_TRIES):
            if kind != "station" and self.recipe.invented and chance.random() < self.recipe.invented:
                city = invent(chance, compound=kind == "compound" or chance.random() < COMPOUND_SHARE)
            elif kind == "compound" and places.compound:
                city = chance.choice(places.compound)
            elif kind == "station" and chance.random() < 0.7:
                city = chance.choice(places.stations)
            else:
                city = chance.choice(places.cities)
            if city not in used:
                return city
        raise UserError(f"travel.places: {self.recipe.places}: are too few for a sentence of several cities; raise it")


def is_test_pattern(pattern: str) -> bool:
    return int(hashlib.sha256(pattern.encode()).hexdigest()[:8], 16) / 2**32 < TEST_PATTERNS


def damage(sentence: Sentence, kind: str, chance: random.Random) -> Sentence:
    """The sentence as people in a hurry write it, or as speech recognition gives it: its spans go with it."""
    letters = list(sentence.text)
    if kind == "lowercase":
        letters = [" " if letter in ".,?!-" else letter.lower() for letter in letters]
    elif kind == "unaccented":
        letters = [without_accents(letter) if len(without_accents(letter)) == 1 else letter for letter in letters]
        if chance.random() < 0.5:
            letters = [letter.lower() for letter in letters]
    else:
        long = [word for word in sentence.words if word[1] - word[0] > 3]
        for start, end in chance.sample(long, min(2, len(long))):
            misspell(letters, start, end, chance)
    return rebuilt(letters, sentence, kind)


def misspell(letters: list[str], start: int, end: int, chance: random.Random) -> None:
    """Changes one letter inside a word: doubled, left out, swapped with the next, or another key."""
    place = chance.randrange(start + 1, end - 1)
    match chance.choice(("double", "drop", "swap", "replace")):
        case "double":
            letters[place] *= 2
        case "drop":
            letters[place] = ""
        case "swap":
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
        case _:
            letters[place] = NEIGHBOURS.get(letters[place].lower(), "e")


def rebuilt(letters: list[str], sentence: Sentence, kind: str) -> Sentence:
    """The sentence of changed `letters`, one entry for each letter of the old text; runs of spaces become one."""
    for place in range(1, len(letters)):
        if letters[place] == " " and letters[place - 1].endswith((" ", "")) and "".join(letters[:place]).endswith(" "):
            letters[place] = ""
    while letters and letters[-1].strip() == "":
        letters.pop()
    starts = [0]
    for letter in letters:
        starts.append(starts[-1] + len(letter))
    starts += [starts[-1]] * (len(sentence.text) + 1 - len(starts))
    text = "".join(letters)
    spans = [Span(starts[span.start], starts[span.end], span.label) for span in sentence.spans]
    return sentence_of(text, spans, kind, sentence.pattern)


def make_travel(recipe: Travel, path: Path) -> dict[str, int]:
    """Writes the sentences of `recipe` to `path`; returns how many there are of each kind."""
    counts: dict[str, int] = {}
    sentences = list(Generator(recipe))
    for sentence in sentences:
        counts[sentence.kind] = counts.get(sentence.kind, 0) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sentences(path, sentences)
    return counts
