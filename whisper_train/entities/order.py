"""`whisper-train order`: a travel order in, its cities out, from recordings or from text."""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_train.entities.predictions import Label, open_labeller
from whisper_train.entities.sentence import spans_of, split_words
from whisper_train.errors import UserError
from whisper_train.job_entities import Entities
from whisper_train.paths import Directories

BATCH = 32
COLUMNS = ("audio", "order", "departure", "arrival", "via", "text")
TIMES = ("recording", "transcription", "entities")  # seconds: how long it is, and what each of the models took
NO_ORDER = "no travel order"


@dataclass(frozen=True, slots=True)
class Order:
    """What a sentence asks for; without departure and arrival it is no order."""

    text: str
    departure: str | None = None
    arrival: str | None = None
    via: list[str] = field(default_factory=list)
    audio: str | None = None
    times: dict[str, float | None] = field(default_factory=dict)

    @property
    def is_order(self) -> bool:
        return self.departure is not None or self.arrival is not None

    def as_dict(self) -> dict[str, Any]:
        return {
            "audio": self.audio,
            "order": self.is_order,
            "departure": self.departure,
            "arrival": self.arrival,
            "via": self.via,
            "text": self.text,
            "times": self.times,
        }


def orders(
    audio: Sequence[Path],
    texts: Sequence[str],
    asr: str | None,
    entities: str,
    form: str,
    *,
    language: str | None,
    directories: Directories,
    say: Callable[[str], None],
) -> None:
    """Says what each recording and each text asks for, in `form`: json (an object a line), text or csv."""
    if not audio and not texts:
        raise UserError("order: name recordings, or give sentences with --text")
    if audio and not asr:
        raise UserError("order: --asr: is missing; name the speech model: --asr job:travel-demo-speech, or a folder")
    label = open_entities(entities, directories)
    found = [find_order(text, label) for text in texts]
    if audio and asr:
        found = [*hear_orders(audio, asr, label, language, directories), *found]
    if form == "csv":
        say(as_csv(found))
        return
    for one in found:
        say(json.dumps(one.as_dict(), ensure_ascii=False) if form == "json" else as_text(one))


def open_entities(name: str, directories: Directories) -> Label:
    """What labels sentences with the entity model `name`: a job, a folder or a hub id."""
    place = place_of(name, directories, "--entities")
    return open_labeller(
        place, revision=None, key="--entities", seed=None, max_tokens=Entities().max_tokens, size=BATCH
    )


def place_of(name: str, directories: Directories, key: str) -> str:
    """The folder or hub id of a model that the user calls `name`; raises UserError where there is none."""
    from whisper_train.export.source import find_place

    try:
        return find_place(name, directories)
    except UserError as error:
        raise UserError(str(error).replace("convert:", f"{key}:", 1)) from error


def hear_orders(
    audio: Sequence[Path], asr: str, label: Label, language: str | None, directories: Directories
) -> list[Order]:
    from whisper_train.audio import SAMPLE_RATE
    from whisper_train.export.sounds import read
    from whisper_train.export.transcribe import open_folder

    place = Path(place_of(asr, directories, "--asr"))
    if not place.is_absolute():
        raise UserError(f"order: --asr: {asr}: name a job, or a folder with a model (hub models: download it first)")
    sounds = [(path, read(path)) for path in audio]  # what cannot be read is told before anything takes long
    transcribe = open_folder(place, 1)
    found = []
    for path, sound in sounds:
        started = time.perf_counter()
        text = " ".join(cue.text for cue in transcribe(sound, language, False).cues).strip()
        spent = time.perf_counter() - started
        one = find_order(text, label)
        times: dict[str, float | None] = {
            "recording": round(len(sound) / SAMPLE_RATE, 3),
            "transcription": round(spent, 3),
        }
        found.append(Order(text, one.departure, one.arrival, one.via, str(path), {**one.times, **times}))
    return found


def find_order(text: str, label: Label) -> Order:
    """What `text` asks for: the first departure and the first arrival that are found, and every stop."""
    started = time.perf_counter()
    words = split_words(text)
    labels = label([[text[start:end] for start, end in words]])[0] if words else []
    names: dict[str, list[str]] = {}
    for span in spans_of(words, labels):
        names.setdefault(span.label, []).append(text[span.start : span.end])
    times = {"recording": None, "transcription": None, "entities": round(time.perf_counter() - started, 3)}
    first = {entity: names.get(entity, [None])[0] for entity in ("DEPART", "ARRIVEE")}
    return Order(text, first["DEPART"], first["ARRIVEE"], names.get("VIA", []), None, times)


def as_text(order: Order) -> str:
    before = f"{order.audio}: " if order.audio else ""
    if not order.is_order:
        return f"{before}{NO_ORDER} ({order.text})"
    via = f" via {', '.join(order.via)}" if order.via else ""
    return f"{before}{order.departure or '?'} -> {order.arrival or '?'}{via} ({order.text})"


def as_csv(found: Sequence[Order]) -> str:
    """A line for each order; several stops stand in one cell with a semicolon between them."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *(f"{name}_seconds" for name in TIMES)])
    for order in found:
        row = order.as_dict() | {"order": "yes" if order.is_order else "no", "via": "; ".join(order.via)}
        table.writerow([*(row[column] for column in COLUMNS), *(order.times.get(name) for name in TIMES)])
    return text.getvalue().rstrip("\n")
