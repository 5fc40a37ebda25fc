"""The sentences of a job's sets: read, audited, and kept in the run folder."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.data.prepare import hash_of, set_fingerprint
from whisper_train.data.sources import sliced
from whisper_train.entities.files import read_conll, read_spans
from whisper_train.entities.generate import Generator
from whisper_train.entities.sentence import Sentence
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source, parse_split
from whisper_train.paths import file_digest, read_json, write_json, written_whole

REPEATED, EVALUATED, TOO_LONG = "repeated", "also evaluated", "too many word pieces"


@dataclass(frozen=True, slots=True)
class Sentences:
    """A set as ClipOrder takes it: the sentences, and the source of each."""

    sentences: list[Sentence]
    sources: list[int]

    def __len__(self) -> int:
        return len(self.sentences)

    def column(self, name: str) -> np.ndarray:
        """`source` of each sentence, or its `row_group`, which it has none of."""
        return np.array(self.sources if name == "source" else [-1] * len(self.sources), np.int64)


def read_source(source: Source) -> Iterable[Sentence]:
    """The sentences of one source; raises UserError when it has none."""
    name, start, stop = parse_split(source.split) if source.split else (None, None, None)
    if name:
        raise UserError(f"{source.label}: split: {name}: these sources have no named splits; give a slice: [:1000]")
    reading: dict[str, Callable[[], Any]] = {
        "conll": lambda: read_conll(Path(str(source.conll))),
        "spans": lambda: read_spans(Path(str(source.spans))),
        "travel": lambda: iter(Generator(source.travel)),  # type: ignore[arg-type]
    }
    found: list[Any] = list(sliced(reading[source.kind], start, stop, source.label))
    if not found:
        raise UserError(f"{source.label}: holds no sentence; check the source and its split")
    return found


def read_set(sources: Sequence[Source]) -> Sentences:
    made = [(sentence, number) for number, source in enumerate(sources) for sentence in read_source(source)]
    return Sentences([sentence for sentence, _ in made], [number for _, number in made])


def read_sets(job: Job) -> dict[str, Sentences]:
    """Every set of `job`: train, and eval.<name>; raises UserError for what is wrong with a source."""
    sets = {"train": read_set(job.data.train)} if job.data.train else {}
    return sets | {f"eval.{name}": read_set(sources) for name, sources in job.data.eval.items()}


def audit(
    sets: Mapping[str, Sentences], job: Job, folder: Path, count_pieces: Callable[[Sequence[str]], int], most: int
) -> dict[str, Any]:
    """Writes what is kept of `sets` into `folder`, and audit.json, which is returned.

    Of the training sentences those go that come twice, that are evaluated too, or that have more than `most` pieces.
    An eval set loses what it holds twice. Raises UserError when too much is lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").unlink(missing_ok=True)
    evaluated = {one.text for name, read in sets.items() if name != "train" for one in read.sentences}
    counted: dict[str, Any] = {}
    for name, read in sets.items():
        lost: dict[str, int] = {}
        seen: set[str] = set()
        kept = Sentences([], [])
        for sentence, source in zip(read.sentences, read.sources, strict=True):
            reason = None
            if sentence.text in seen:
                reason = REPEATED
            elif name == "train" and sentence.text in evaluated:
                reason = EVALUATED
            elif name == "train" and count_pieces(sentence.tokens) > most:
                reason = TOO_LONG
            seen.add(sentence.text)
            if reason:
                lost[reason] = lost.get(reason, 0) + 1
            else:
                kept.sentences.append(sentence)
                kept.sources.append(source)
        write_set(folder / f"{name}.jsonl", kept)
        counted[name] = {"clips": len(read), "kept": len(kept), "hours": 0.0, "dropped": lost}
        counted[name]["digest"] = file_digest(folder / f"{name}.jsonl")
        check_dropped(name, counted[name], job)
    sources = {"train": job.data.train, **{f"eval.{name}": one for name, one in job.data.eval.items()}}
    facts = {
        "fingerprints": {name: set_fingerprint(job, sources[name]) for name in sets},
        "sets": counted,
        "revisions": {name: [None for _ in sources[name]] for name in sets},
        "sources": {name: [source.label for source in sources[name]] for name in sets},
    }
    write_json(folder / "audit.json", facts)
    return facts


def check_dropped(name: str, counted: Mapping[str, Any], job: Job) -> None:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counted["dropped"].items())
    if not counted["kept"]:
        raise UserError(f"data.{name}: no usable sentence among {counted['clips']:,} ({reasons})")
    lost = counted["clips"] - counted["kept"]
    if lost > job.data.max_dropped_fraction * counted["clips"]:
        raise UserError(
            f"data.{name}: {lost:,} of {counted['clips']:,} sentences dropped ({reasons}),"
            f" more than data.max_dropped_fraction {job.data.max_dropped_fraction:g} allows; mend the data or raise it"
        )


def write_set(path: Path, read: Sentences) -> None:
    """Keeps a set as it was read, its words as they were told apart."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sentence, source in zip(read.sentences, read.sources, strict=True):
            line: dict[str, Any] = {"text": sentence.text, "words": sentence.words, "labels": sentence.labels}
            line |= {"kind": sentence.kind, "pattern": sentence.pattern, "source": source}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def open_set(folder: Path, name: str) -> Sentences:
    """The set that `audit` kept as train or eval.<name>."""
    read = Sentences([], [])
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            words = tuple((start, end) for start, end in line["words"])
            read.sentences.append(Sentence(line["text"], words, tuple(line["labels"]), line["kind"], line["pattern"]))
            read.sources.append(line["source"])
    return read


def is_audited(job: Job, name: str, folder: Path) -> bool:
    """Whether the eval set `name` lies in `folder` as the job's sources are now."""
    path = folder / "audit.json"
    if not path.is_file():
        return False
    known = read_json(path).get("fingerprints", {}).get(f"eval.{name}")
    return bool(known == set_fingerprint(job, job.data.eval[name]))


def audited_digest(folder: Path, name: str) -> str:
    return hash_of(file_digest(folder / f"eval.{name}.jsonl"))
