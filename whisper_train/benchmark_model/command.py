"""`whisper-train benchmark-model`, top to bottom: candidates, clips, rounds, figures, and what people read of them."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whisper_train.benchmark_model.candidates import (
    Candidate,
    as_facts,
    convert_missing,
    given_candidates,
    list_candidates,
    write_bfloat16,
)
from whisper_train.benchmark_model.figures import compare_trained, hearing, lines_of, memory, other_texts, speed
from whisper_train.benchmark_model.picture import draw
from whisper_train.benchmark_model.rounds import run_rounds
from whisper_train.benchmark_model.runtimes import weight_bytes
from whisper_train.benchmark_model.table import make_table
from whisper_train.benchmark_model.turn import Spec
from whisper_train.benchmark_model.verdict import LIMIT, conclude
from whisper_train.errors import RunFailed, UserError
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.export.clips import ClipSet, choose_sets
from whisper_train.housekeeping.in_use import cache_in_use
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.paths import Directories, make_directory, write_json, write_text, written_whole
from whisper_train.run_folder import (
    LAUNCHER_LOCK,
    RunFolder,
    git_commit,
    installed_versions,
    locked,
    now,
    run_folder,
)
from whisper_train.tasks import check_of_speech

VERSION = 1
FOLDER = "benchmark"  # in the run folder
PACKAGES = ("onnx", "onnxruntime", "ctranslate2", "matplotlib")
CLIPS, ROUNDS, REPEATS = 200, 3, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the user chose."""

    folders: Sequence[Path] = ()  # instead of the job's own files; the first is what the others are compared with
    sets: Sequence[str] = ()
    clips: int = CLIPS  # at most, of each set
    rounds: int = ROUNDS
    threads: int | None = None


def benchmark(job: Job, directories: Directories, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every file of `job`, or those of `settings`; returns the results, which are in results.json as well."""
    folder = run_folder(job, directories)
    check(job, folder, settings)
    make_directory(directories.cache, named_by="CACHE_DIR")
    place = make_directory(folder.path, named_by="MODEL_DIR") / FOLDER
    place.mkdir(exist_ok=True)
    with locked(folder.path / LAUNCHER_LOCK), unwinding_on_sigterm(), cache_in_use(directories.cache):
        candidates, failed = given_candidates(settings.folders), dict[str, str]()
        if not candidates:
            candidates = list_candidates(job, directories)
            failed = convert_missing(job, candidates, directories, say)
        results, found = measure(job, candidates, failed, place, directories, settings, say)
        write(results, found, place, say)
    return results


def measure(
    job: Job,
    candidates: Sequence[Candidate],
    failed: Mapping[str, str],
    place: Path,
    directories: Directories,
    settings: Settings,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results, and by candidate its turns; RunFailed where the baseline could not be measured."""
    baseline = candidates[0]
    sets = choose(job, settings, place, directories, baseline.folder, say)
    rounds = min(settings.rounds, sum(len(one.positions) for one in sets))  # each hears a clip at least
    with tempfile.TemporaryDirectory(dir=directories.cache, prefix="benchmark-") as aside:
        ready = [in_bfloat16(one, Path(aside), say) for one in candidates if one.name not in failed]
        specs = [make_spec(one, job, settings, sets, baseline.folder, directories.cache) for one in ready]
        found = run_rounds(specs, rounds, Path(aside), say)
        sizes = {one.name: weight_bytes(Path(one.folder), one.format) for one in ready}
    found |= {name: {"failed": reason} for name, reason in failed.items()}
    if "failed" in found[baseline.name]:
        raise RunFailed(f"{baseline.name}: {found[baseline.name]['failed']}; it is what the others are compared with")
    return make_results(job, candidates, found, sizes, sets, specs[0], rounds), found


def check_packages(command: str) -> None:
    """Raises UserError for `command` where a runtime is missing that files are measured in."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"{command}: needs {' and '.join(missing)}: pip install 'whisper-train[qat]'")


def check(job: Job, folder: RunFolder, settings: Settings) -> None:
    """Raises UserError for what cannot be measured, before anything is converted or read."""
    from whisper_train.evaluate_job import check_finished, check_model_is_there, check_not_running, check_sets

    check_of_speech(job, "benchmark-model")
    check_sets(job, settings.sets)
    check_packages("benchmark-model")
    check_not_running(job, folder)
    if not settings.folders:
        check_model_is_there(job, folder)
        check_finished(job, folder)


def choose(
    job: Job, settings: Settings, place: Path, directories: Directories, processor: str, say: Callable[[str], None]
) -> list[ClipSet]:
    from whisper_train.export.transcribe import open_processor

    extractor = open_processor(Path(processor)).feature_extractor
    sets = choose_sets(
        job,
        [name for name in job.data.eval if not settings.sets or name in settings.sets],
        settings.clips,
        trained=directories.models / job.name / "data",
        own=place / "data",
        cache=directories.cache,
        window_seconds=extractor.n_samples / extractor.sampling_rate,
        say=say,
    )
    if not any(one.positions for one in sets):
        raise UserError(
            f"{job.name}: data.eval: every clip is longer than the model's window; name a set of shorter ones"
        )
    return [one for one in sets if one.positions]


def in_bfloat16(candidate: Candidate, folder: Path, say: Callable[[str], None]) -> Candidate:
    """The same with a file of its own where it is to be bfloat16, which nobody has saved."""
    if candidate.precision != "bf16":
        return candidate
    say(f"{candidate.name}: writing it to {display(folder)}, for the time of the benchmark")
    own = folder / "bf16"
    write_bfloat16(Path(candidate.folder), own)
    return replace(candidate, folder=str(own))


def make_spec(
    candidate: Candidate, job: Job, settings: Settings, sets: Sequence[ClipSet], processor: str, cache: Path
) -> Spec:
    return Spec(
        name=candidate.name,
        format=candidate.format,
        precision=candidate.precision,
        folder=candidate.folder,
        processor=processor,
        threads=settings.threads or len(os.sched_getaffinity(0)),
        repeats=REPEATS,
        language=job.language,
        task=job.task,
        beams=job.training.get("generation_num_beams") or 1,
        max_length=job.training.get("generation_max_length"),
        cache=str(cache),
        sets=[asdict(one) for one in sets],
    )


def make_results(
    job: Job,
    candidates: Sequence[Candidate],
    found: Mapping[str, Any],
    sizes: Mapping[str, int],
    sets: Sequence[ClipSet],
    spec: Spec,
    rounds: int,
) -> dict[str, Any]:
    """Everything but the transcripts, by candidate in their order."""
    from whisper_train.evaluation.normalize import VERSIONS

    baseline, normalizer = candidates[0].name, job.evaluation.normalizer
    turns = {name: one["turns"] for name, one in found.items() if "turns" in one}
    heard = hearing(turns, baseline, [one.name for one in sets], normalizer)
    entries = []
    for one in candidates:
        if one.name not in turns:
            entries.append({**as_facts(one), "failed": found[one.name]["failed"]})
            continue
        own = turns[one.name]
        measured = speed(own, None if one.name == baseline else turns[baseline])
        size = {"size_bytes": sizes[one.name], "size_ratio": sizes[one.name] / sizes[baseline]}
        facts = {"computes_in": own[0]["computes_in"], "memory": memory(own), "in_batches": other_texts(own)}
        entries.append({**as_facts(one), **size, **facts, **measured, **heard[one.name]})
    pairs = compare_trained(entries, turns, baseline, normalizer)
    retention = job.gates.retention if job.gates else None
    limit = retention.max_loss if retention else LIMIT
    first = turns[baseline][0]
    return {
        "version": VERSION,
        "date": now(),
        "commit": git_commit(),
        "job": job.name,
        "language": job.language,
        "baseline": baseline,
        "candidates": entries,
        "qat": pairs,
        "verdict": conclude(entries, pairs, baseline, limit),
        "batches": list(first["batches"]),
        "window_seconds": first["window_seconds"],
        "sets": {
            one.name: {"clips": len(one.positions), "left_out": one.left_out, "digest": one.digest} for one in sets
        },
        "settings": {
            "rounds": rounds,
            "repeats": spec.repeats,
            "tokens": first["tokens"],
            "threads": spec.threads,
            "beams": spec.beams,
            "max_length": spec.max_length,
            "normalizer": normalizer,
            "normalizer_version": VERSIONS[normalizer],
            "limit": limit,
        },
        "machine": describe_machine(),
        "versions": installed_versions(),
    }


def describe_machine() -> dict[str, Any]:
    processor = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), processor)
    return {"processor": processor, "cores": len(os.sched_getaffinity(0))}


def write(results: Mapping[str, Any], found: Mapping[str, Any], place: Path, say: Callable[[str], None]) -> None:
    """results.json, transcriptions.jsonl, table.md and the picture; the table is said as well."""
    with written_whole(place / "transcriptions.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, one in found.items():
            for line in lines_of(one.get("turns", ())):
                file.write(json.dumps({"candidate": name, **line}, ensure_ascii=False) + "\n")
    write_json(place / "results.json", results)
    table = make_table(results)
    write_text(place / "table.md", table)
    say(table)
    aside = place / ".picture"
    aside.mkdir(exist_ok=True)
    draw(results, aside / "benchmark")
    for path in aside.iterdir():
        path.replace(place / path.name)
    shutil.rmtree(aside)
    say(f"results: {display(place)}")
