"""`whisper-train score`: every figure again, from saved transcriptions alone; no model and no audio is needed."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from whisper_train.errors import DONE as EXIT_DONE
from whisper_train.errors import GATE_MISSED as EXIT_GATE_MISSED
from whisper_train.errors import UserError
from whisper_train.evaluation.results import file_figures, make_results, write_results
from whisper_train.evaluation.table import align, make_table
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.job import Job
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.job_file import display
from whisper_train.paths import read_json
from whisper_train.plan import load_resolved
from whisper_train.report.write import write_page
from whisper_train.run_folder import RunFolder

DEFAULT_NORMALIZER = "whisper-basic"


def score(paths: Sequence[Path], normalizer: str | None, as_json: bool, cache: Path, say: Callable[[str], None]) -> int:
    """Scores run folders, evaluation folders (their results.json and report are written anew) and JSON lines files.

    Raises UserError for anything else; returns the exit status that the gates of the folders leave.
    """
    status = EXIT_DONE
    rows: list[tuple[str, ...]] = []
    for path in paths:
        if path.is_dir():
            results = score_folder(path, normalizer, cache)
            say(json.dumps(results, indent=2, ensure_ascii=False) if as_json else table_of(results))
            status = EXIT_GATE_MISSED if results["promoted"] is False else status
        else:
            transcription = read_transcription(path)
            if not transcription.lines:
                raise UserError(f"{display(path)}: holds no clip; one a line, as JSON")
            figures = file_figures(transcription, [normalizer] if normalizer else [])
            rows += list_figures(path, figures)
            if as_json:
                say(json.dumps({"file": str(path), **figures}, indent=2, ensure_ascii=False))
    if rows and not as_json:
        heading = ("file", "normalizer", "clips", "WER", "CER", "MER", "WIL", "subst.", "del.", "ins.")
        say("\n".join(align([heading, *rows])))
    return status


def table_of(results: dict[str, Any]) -> str:
    if results.get("task") != ENTITIES_TASK:
        return make_table(results)
    from whisper_train.entities.results import make_table as make_entity_table

    return make_entity_table(results)


def score_folder(path: Path, normalizer: str | None, cache: Path) -> dict[str, Any]:
    """The results of a run or evaluation folder, judged by the gates of the job that lies there; written there anew.

    Under another `normalizer` than that of the job nothing is judged, and nothing written: it is a look at them.
    """
    folder = path / "evaluation" if (path / "evaluation").is_dir() else path
    job = find_job(folder)
    if job and job.task == ENTITIES_TASK:
        return score_entities(job, folder)
    before = {} if job else last_sets(folder)
    chosen = job.evaluation.normalizer if job else next((one["normalizer"] for one in before.values()), None)
    names = list(job.data.eval) if job else list(before) or None
    own = chosen or DEFAULT_NORMALIZER
    if normalizer not in (None, own):
        return make_results(folder, normalizer, None, names)[0]
    results = write_results(
        folder,
        normalizer=own,
        gates=job.gates if job else None,
        long_form=bool(job and job.evaluation.long_form),
        names=names,
    )
    run = RunFolder(folder.parent, folder.parent) if job else None
    write_page(folder, results, cache, partial(print, file=sys.stderr), run)  # standard output may be JSON
    return results


def score_entities(job: Job, folder: Path) -> dict[str, Any]:
    """The same of a run of task: entities, from its predictions."""
    from whisper_train.entities.report import write_report
    from whisper_train.entities.results import write_results as write_entity_results
    from whisper_train.report.write import training_history

    labels = list(read_json(folder / "results.json")["models"])
    results = write_entity_results(folder, job, job.gates, list(job.data.eval), labels)
    audit = folder.parent / "data" / "audit.json"
    history = training_history(RunFolder(folder.parent, folder.parent))
    write_report(folder, results, history, read_json(audit) if audit.is_file() else {})
    return results


def last_sets(folder: Path) -> dict[str, Any]:
    """The sets that the folder's results have, in their order; nothing where it has none yet."""
    try:
        return dict(read_json(folder / "results.json")["sets"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def find_job(folder: Path) -> Job | None:
    """The resolved job of an evaluation folder, which lies beside its run's own."""
    resolved = folder.parent / "job.yaml"
    if folder.name != "evaluation" or not resolved.is_file():
        return None
    job = load_resolved(resolved)
    return job if job.data.train else None


def list_figures(path: Path, figures: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, own in figures["by_normalizer"].items():
        rates = [f"{own[rate]:.2%}" for rate in ("wer", "cer", "mer", "wil")]
        counts = [f"{own[kind]:,}" for kind in ("substitutions", "deletions", "insertions")]
        rows.append((display(path), name, f"{figures['clips']:,}", *rates, *counts))
    return rows
