"""Turns the sources of a job into the audited indexes of its run folder, once; a resumed run finds them there."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.data.audit import OUTSIDE, DropLog, Limits, Tally, audit_set, drop_repeats, started_readers
from whisper_train.data.bounds import folders_of
from whisper_train.data.clip import NO_SUCH_FILE, Clip
from whisper_train.data.index import VERSION, Index, is_cached
from whisper_train.data.parquet import find_local_files, hub_revision
from whisper_train.data.sources import read_source
from whisper_train.data.tables import find_common_voice, find_folder_table
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source, parse_split
from whisper_train.paths import file_digest, read_json, unseen_hint, write_json

SHOWN_REASONS = 4
WHOLE_RECORDINGS = Limits(max_seconds=4 * 3600)  # what is evaluated may be long; 4 hours take 1 GB of memory


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSet:
    """An audited eval set: where its clips are listed, and what tells it from any other."""

    index: Path
    digest: str
    sources: list[str]
    revisions: list[str | None]


def prepare_data(
    job: Job,
    folder: Path,
    *,
    cache: Path,
    count_tokens: Callable[[str], int],
    max_tokens: int,
    window_seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Audits every set of `job` into `folder` and returns the audit, also kept there as audit.json.

    Raises UserError when a set is empty or more than data.max_dropped_fraction of it had to be dropped.
    """
    fingerprint = fingerprint_of(job, window_seconds)
    done = folder / "audit.json"
    if done.is_file() and (audit := read_json(done)).get("fingerprint") == fingerprint:
        if not all(is_cached(index_path(folder, name), cache) for name in audit["sets"]):
            say("data: audited before, and not in the cache any more; fetching and reading it again")
        elif not any(problem_of(name, audit, job, folder) for name in audit["sets"]):
            say(f"data: audited before, {audit['sets']['train']['kept']:,} clips to train on ({done})")
            return dict(audit)
        else:
            say("data: too much was dropped before; reading it again, as it may be mended")
    max_seconds = min(job.data.max_seconds, window_seconds)
    sets = {"train": job.data.training_sources, **{f"eval.{name}": sources for name, sources in job.data.eval.items()}}
    limits = dict.fromkeys(sets, WHOLE_RECORDINGS) | {"train": Limits(max_seconds, count_tokens, max_tokens)}
    facts = {"fingerprint": fingerprint, "max_seconds": max_seconds, "max_tokens": max_tokens}
    return make_audit(sets, limits, job, folder, facts, cache=cache, say=say)


def prepare_eval_data(
    job: Job, names: Sequence[str], trained: Path, own: Path, *, cache: Path, say: Callable[[str], None]
) -> dict[str, EvalSet]:
    """The eval sets `names` of `job`: as its training audited them in `trained`, where they are the same still.

    Others are audited into `own`. Raises UserError as prepare_data does.
    """
    wanted = {f"eval.{name}": set_fingerprint(job, job.data.eval[name]) for name in names}
    found = find_audited(wanted, trained, job, cache)
    rest = {name: job.data.eval[name.removeprefix("eval.")] for name in wanted if name not in found}
    audited = find_audited(wanted, own, job, cache)
    if not rest.keys() <= audited.keys():  # all of them anew: a folder holds one audit
        audit = make_audit(rest, dict.fromkeys(rest, WHOLE_RECORDINGS), job, own, {}, cache=cache, say=say)
        audited = {name: eval_set(name, own, audit) for name in rest}
    found = audited | found
    return {name: found[f"eval.{name}"] for name in names}


def find_audited(wanted: Mapping[str, str], folder: Path, job: Job, cache: Path) -> dict[str, EvalSet]:
    """Those of the `wanted` sets (name -> fingerprint) that were audited into `folder` as they are now, and will do.

    None of whose clips `cache` has lost.
    """
    if not (folder / "audit.json").is_file():
        return {}
    audit = read_json(folder / "audit.json")
    there = audit.get("fingerprints", {})
    same = [name for name in wanted if there.get(name) == wanted[name] and is_cached(index_path(folder, name), cache)]
    return {name: eval_set(name, folder, audit) for name in same if not problem_of(name, audit, job, folder)}


def eval_set(name: str, folder: Path, audit: Mapping[str, Any]) -> EvalSet:
    return EvalSet(
        index=index_path(folder, name),
        digest=audit["sets"][name]["digest"],
        sources=audit["sources"][name],
        revisions=audit["revisions"][name],
    )


def make_audit(
    sets: Mapping[str, list[Source]],
    limits: Mapping[str, Limits],
    job: Job,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    cache: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Audits `sets` into `folder`; the audit, `facts` among it, is returned and kept there as audit.json."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "audit.json"
    done.unlink(missing_ok=True)  # it must never stand beside the indexes of another audit
    log = DropLog(folder / "dropped.jsonl")
    try:
        tallies = audit_sets(sets, limits, log, job, folder, cache=cache, say=say)
    finally:
        log.close()
    audit = {
        **facts,
        "fingerprints": {name: set_fingerprint(job, sources) for name, sources in sets.items()},
        "sets": {
            name: {**tally.as_dict(), "digest": file_digest(index_path(folder, name))}
            for name, tally in tallies.items()
        },
        "revisions": {name: [revision_of(source, job) for source in sources] for name, sources in sets.items()},
        "sources": {name: [source.label for source in sources] for name, sources in sets.items()},
    }
    write_json(done, audit)
    for name, counted in audit["sets"].items():
        say(f"data: {name}: {describe(counted)}")
    check_audit(audit, job, folder)
    return audit


def audit_sets(
    sets: Mapping[str, list[Source]],
    limits: Mapping[str, Limits],
    log: DropLog,
    job: Job,
    folder: Path,
    *,
    cache: Path,
    say: Callable[[str], None],
) -> dict[str, Tally]:
    """Reads every set into its index, then drops repeats, and from train what is also evaluated."""
    tallies = {}
    with started_readers(job.machine.audit_workers or len(os.sched_getaffinity(0))) as readers:
        for name, sources in sets.items():
            say(f"data: reading {name}: {'; '.join(source.label for source in sources)}")
            tallies[name] = audit_set(
                clips_of(sources, job, cache),
                index_path(folder, name),
                columns=[source.audio_column for source in sources],
                streamed=[source.streaming and name == "train" for source in sources],
                folders=[folders_of(source) for source in sources],
                limits=limits[name],
                readers=readers,
                cache=cache,
                drop=log.in_set(name),
            )
    evaluated = [Index(index_path(folder, name), cache).column("audio_hash") for name in sets if name != "train"]
    for name in sets:
        others = np.concatenate([np.empty(0, np.uint64), *(evaluated if name == "train" else [])])
        learned = len(job.data.train) if name == "train" else len(sets[name])
        drop_repeats(index_path(folder, name), tallies[name], others, learned, log.in_set(name))
    return tallies


def clips_of(sources: list[Source], job: Job, cache: Path) -> Iterator[Clip]:
    return chain.from_iterable(
        read_source(source, position, language=job.language, cache=cache) for position, source in enumerate(sources)
    )


def revision_of(source: Source, job: Job) -> str | None:
    return hub_revision(source, source.language or job.language) if source.hub else None


def index_path(folder: Path, name: str) -> Path:
    """Where the index of the set `train` or `eval.<name>` lies."""
    return folder / f"{name}.arrow"


def describe(counted: dict[str, Any]) -> str:
    """One set of an audit as a line of text."""
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in counted["dropped"].items())
    hours = f"{counted['hours']:.2f} h" if counted["hours"] else "length not known beforehand"
    return f"{counted['kept']:,} of {counted['clips']:,} clips kept, {hours}; dropped: {dropped or 'none'}"


def check_audit(audit: dict[str, Any], job: Job, folder: Path) -> None:
    """Raises UserError when too much was dropped for the result to mean anything."""
    for name in audit["sets"]:
        if problem := problem_of(name, audit, job, folder):
            raise UserError(problem + (unseen_hint() if all_are_missing(name, folder) else ""))


def all_are_missing(name: str, folder: Path) -> bool:
    """Whether clips were dropped from the set `name`, each because it has no file."""
    with (folder / "dropped.jsonl").open(encoding="utf-8") as lines:
        return {line.get("detail") for line in map(json.loads, lines) if line["set"] == name} == {NO_SUCH_FILE}


def problem_of(name: str, audit: Mapping[str, Any], job: Job, folder: Path) -> str | None:
    """Why the set `name` as it was audited will not do: it is empty, or too much of it was dropped."""
    counted, limit = audit["sets"][name], job.data.max_dropped_fraction
    lost = counted["clips"] - counted["kept"]
    most = sorted(counted["dropped"].items(), key=lambda item: -item[1])[:SHOWN_REASONS]
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in most)
    if OUTSIDE in counted["dropped"]:
        reasons += "; DATA_DIR=<folder> in .env allows another one"
    if not counted["kept"]:
        return f"data.{name}: no usable clip among {counted['clips']:,} ({reasons}); see {folder / 'dropped.jsonl'}"
    if lost > limit * counted["clips"]:
        return (
            f"data.{name}: {lost:,} of {counted['clips']:,} clips dropped ({reasons}), more than"
            f" data.max_dropped_fraction {limit:g} allows;"
            f" mend the data ({folder / 'dropped.jsonl'} names them) or raise it"
        )
    return None


def fingerprint_of(job: Job, window_seconds: float) -> str:
    """Changes when the sources, the files they name, the base's window or the limits change."""
    described: list[Any] = [job.task, job.base, job.data.max_seconds, window_seconds]
    if job.architecture:
        described.append(job.architecture.model_dump(mode="json"))
    described.append(set_fingerprint(job, job.data.training_sources))
    if job.data.replay:
        described.append(len(job.data.train))  # a repeat is told among those to learn, not between them and the others
    described.append({name: set_fingerprint(job, sources) for name, sources in job.data.eval.items()})
    return hash_of(described)


def set_fingerprint(job: Job, sources: Sequence[Source]) -> str:
    """Changes when the sources of one set or the files they name change."""
    described: list[Any] = [VERSION, job.language]
    for source in sources:
        described.append(describe_source(source))
        described += [[path.name, path.stat().st_mtime_ns, path.stat().st_size] for path in files_of(source)]
    return hash_of(described)


def describe_source(source: Source) -> dict[str, Any]:
    """The source as a fingerprint has it: a kind that came with a later version is left out where it is not used."""
    unused = {"conll", "spans", "travel"} - {source.kind}
    described = source.model_dump(mode="json", exclude={"weight", "augment", *unused})
    if source.synthetic and source.synthetic.travel is None:
        del described["synthetic"]["travel"]
    return described


def files_of(source: Source) -> list[Path]:
    """The files on this disk that say what the clips of a source are; those that are not there are told later."""
    name = parse_split(source.split)[0] if source.split else None
    try:
        if source.parquet:
            return [Path(path) for path in find_local_files(source, name)]
        if source.common_voice:
            return [find_common_voice(source, name)]
        if source.folder:
            table = find_folder_table(source, name)
            return [table] if table else sorted(path for path in Path(source.folder).rglob("*") if path.is_file())
    except UserError:
        return []
    named = source.manifest or source.conll or source.spans
    return [path for path in [Path(str(named))] if named and path.is_file()]


def hash_of(described: Any) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()
