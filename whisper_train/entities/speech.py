"""Spoken orders: what an entity model finds in what a speech model heard, against what it finds in the true text.

The word error rate does not say it: a wrong article costs nothing, one wrong letter of a city costs the order.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.entities.places import plain
from whisper_train.entities.scores import count_pairs, rates_with_intervals
from whisper_train.entities.sentence import Sentence, spans_of, split_words
from whisper_train.errors import UserError
from whisper_train.evaluation.compare import choose_unit
from whisper_train.evaluation.gates import gate, percent
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.job import Job
from whisper_train.job_data import Source
from whisper_train.job_file import display
from whisper_train.model import resolve_place
from whisper_train.paths import Directories, written_whole

ORDERS = "orders"  # the folder of an evaluation that holds a file for each model
SHOWN_LOST = 40
BATCH = 32
Names = list[tuple[str, Any]]  # (entity, name as it is compared)


def check_travel(job: Job, directories: Directories) -> None:
    """Raises UserError where the entity model that `job` is judged by is not there; before training, not after."""
    from whisper_train.entities.model import load_encoder

    if job.evaluation.travel:
        load_encoder(resolve_place(job.evaluation.travel.entities, directories), key="evaluation.travel.entities")


def find_orders(job: Job, folder: Path, labels: Sequence[str], names: Sequence[str], directories: Directories) -> None:
    """Writes orders/<label>.jsonl: what is found in each clip of the spoken orders, from text and from speech.

    Nothing where the job has none, or its set is not among those evaluated (`names`).
    """
    travel = job.evaluation.travel
    name = travel.set if travel and travel.set else next(iter(job.data.eval))
    for old in (folder / ORDERS).glob("*.jsonl"):
        old.unlink()
    if travel is None or name not in names:
        return
    from whisper_train.entities.predictions import open_labeller

    place = resolve_place(travel.entities, directories)
    label = open_labeller(place, revision=None, key="evaluation.travel.entities", seed=None, max_tokens=128, size=BATCH)
    known = annotations(job.data.eval[name], job, directories.cache)
    (folder / ORDERS).mkdir(parents=True, exist_ok=True)
    for model in labels:
        lines = read_transcription(folder / "transcriptions" / model / f"{name}.jsonl").lines
        texts = [str(line[key]) for line in lines for key in ("reference", "hypothesis")]
        found = [names_of(text, tags) for text, tags in zip(texts, label(list(map(tokens_of, texts))), strict=True)]
        with (
            written_whole(folder / ORDERS / f"{model}.jsonl") as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            file.write(json.dumps({"orders": 1, "set": name, "entities": travel.entities}) + "\n")
            for number, line in enumerate(lines):
                said = true_names(str(line["reference"]), known, name)
                one = {"clip": line.get("clip"), "speaker": line.get("speaker"), "reference": line["reference"]}
                one |= {"hypothesis": line["hypothesis"], "true": said}
                one |= {"from_text": found[2 * number], "from_speech": found[2 * number + 1]}
                file.write(json.dumps(one, ensure_ascii=False) + "\n")


def tokens_of(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def names_of(text: str, labels: Sequence[str]) -> Names:
    """The entities of a text, their names as they are compared: without case, accents and hyphens."""
    return [(span.label, plain(text[span.start : span.end])) for span in spans_of(split_words(text), labels)]


def annotations(sources: Sequence[Source], job: Job, cache: Path) -> dict[str, Sentence]:
    """The true entities of spoken orders by their text, from manifests whose lines have `entities`.

    Texts that the audit drops are left out. Raises UserError naming the line of what is wrong with the others.
    """
    from whisper_train.data.audit import text_problem
    from whisper_train.data.sources import find_table
    from whisper_train.data.tables import read_rows
    from whisper_train.entities.files import read_object

    known: dict[str, Sentence] = {}
    for source in sources:
        if not (source.synthetic or source.manifest):
            raise UserError(
                f"evaluation.travel: {source.label}: its entities are not known; a manifest has them in `entities`, and"
                " synthetic.travel makes them"
            )
        path, _ = find_table(source, None, cache, source.language or job.language)
        if path.suffix != ".jsonl":
            raise UserError(f"evaluation.travel: {display(path)}: entities stand in a JSONL manifest only")
        for number, row in read_rows(path):
            if text_problem(str(row.get("text") or "").strip()):
                continue
            try:
                sentence = read_object(row)
            except ValueError as error:
                raise UserError(f"{display(path)}:{number}: {error}") from error
            known[sentence.text.strip()] = sentence
    return known


def true_names(text: str, known: Mapping[str, Sentence], name: str) -> Names:
    sentence = known.get(text.strip())
    if sentence is None:
        raise UserError(f"evaluation.travel: {name}: no entities are known of {text!r}; its manifest must have them")
    return [(span.label, plain(sentence.text[span.start : span.end])) for span in sentence.spans]


def travel_figures(folder: Path, labels: Sequence[str]) -> dict[str, Any] | None:
    """`travel` of results.json, from the files of orders alone: each model's scores, from speech and from text.

    None where there are no such files.
    """
    models: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for label in labels:
        path = folder / ORDERS / f"{label}.jsonl"
        if not path.is_file():
            continue
        header, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
        facts = {"set": header["set"], "entities": header["entities"], "clips": len(lines)}
        models[label] = figures(lines)
    return {**facts, "models": models} if models else None


def figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores from text and from speech, how many orders the words that were misheard cost, and some of those."""
    true = [as_names(line["true"]) for line in lines]
    speakers = [str(line.get("speaker") or "") for line in lines]
    groups = choose_unit(speakers, [""] * len(lines), [str(number) for number in range(len(lines))]).groups
    counts = {way: count_pairs(true, [as_names(line[way]) for line in lines]) for way in ("from_text", "from_speech")}
    text, speech = counts["from_text"].right, counts["from_speech"].right
    lost = np.flatnonzero((text == 1) & (speech == 0)).tolist()
    shown = [{key: lines[one][key] for key in ("reference", "hypothesis", "true", "from_speech")} for one in lost]
    return {
        **{way: rates_with_intervals(one, groups) for way, one in counts.items()},
        "heard_exactly": sum(plain(line["reference"]) == plain(line["hypothesis"]) for line in lines),
        "lost": len(lost),
        "lost_orders": shown[:SHOWN_LOST],
    }


def as_names(value: Sequence[Sequence[str]]) -> Names:
    return [(entity, name) for entity, name in value]


def judge_travel(limit: float, travel: Mapping[str, Any] | None) -> dict[str, Any]:
    own = (travel or {}).get("models", {}).get("tuned")
    if travel is None or own is None:
        sentence = "the spoken orders of evaluation.travel were not measured; evaluate again"
        return gate("travel_f1", ORDERS, "rate", limit, None, False, sentence)
    speech, text = own["from_speech"], own["from_text"]
    sentence = (
        f"macro F1 of cities in {travel['set']} is {percent(speech['macro_f1'])} from speech"
        f" ({percent(text['macro_f1'])} from the true text); at least {percent(limit)} was asked for"
    )
    met = speech["macro_f1"] >= limit
    return gate("travel_f1", travel["set"], "rate", limit, speech["macro_f1"], met, sentence)


def table_rows(travel: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table of orders from text against speech, its heading first."""
    rows: list[tuple[str, ...]] = [
        ("orders", "model", "from", "macro F1", "all right", "95 % interval", "lost by hearing")
    ]
    for label, one in travel["models"].items():
        for way, words in (("from_text", "true text"), ("from_speech", "speech")):
            ends = one[way]["sentence_accuracy_interval"]
            between = f"{percent(ends[0])} to {percent(ends[1])}" if ends else "-"
            lost = f"{one['lost']:,}" if way == "from_speech" else ""
            cells = (percent(one[way]["macro_f1"]), percent(one[way]["sentence_accuracy"]), between, lost)
            rows.append((travel["set"], label, words, *cells))
    return rows
