"""What people look at after the evaluation of an entity model: the page, and the scores in TensorBoard."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_train.entities.predictions import read_predictions
from whisper_train.entities.results import models_in
from whisper_train.entities.sentence import spans_of
from whisper_train.evaluation.results import TUNED
from whisper_train.job import Job
from whisper_train.paths import read_json, written_whole
from whisper_train.report.card import write_card
from whisper_train.report.charts import Series
from whisper_train.report.figures import Chart, curve, draw_curves, points_of
from whisper_train.report.page import REPORT
from whisper_train.report.render import render
from whisper_train.report.tensorboard import open_writer
from whisper_train.report.words import learning_settings
from whisper_train.report.write import training_history
from whisper_train.run_folder import RunFolder
from whisper_train.training.arguments import report_to

SHOWN_WRONG = 40
Say = Callable[[str], None]


def write_run_reports(job: Job, folder: RunFolder, results: dict[str, Any], cache: Path, say: Say) -> Path:
    """Writes report, card and TensorBoard's scores of a run; returns the report."""
    if "tensorboard" in report_to(job):
        write_scores(folder.logs, job, results, folder.read().get("steps", 0))
    write_card(job, folder)
    audit = folder.data / "audit.json"
    return write_report(
        folder.evaluation, results, training_history(folder), read_json(audit) if audit.is_file() else {}
    )


def write_page(place: Path, results: Mapping[str, Any], cache: Path, say: Say) -> Path:
    """The report of an evaluation that is no run's own."""
    return write_report(place, results, [], {})


def write_report(
    place: Path, results: Mapping[str, Any], history: Sequence[Mapping[str, Any]], audit: Mapping[str, Any]
) -> Path:
    page = render(
        "entities.html",
        results=results,
        names={label if label != "baseline" else "zero-shot": one["model"] for label, one in results["models"].items()},
        models_in=models_in,
        others_in=lambda result: list((result["kinds"] or [{"others": {}}])[0]["others"]),
        wrong=wrong_sentences(place, results),
        curves=curves_of(history),
        audit=audit,
    )
    path = place / REPORT
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def curves_of(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    charts = draw_curves(history)
    if scores := points_of(history, "eval_macro_f1"):
        title = "Macro F1 on the first set"
        charts.append(curve(title, [Series("macro F1", "first", scores)], lambda value: f"{100 * value:.4g} %"))
    return charts


def wrong_sentences(place: Path, results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Sentences in which the judged model is wrong, of each kind in turn, so that no kind hides another."""
    by_kind: dict[tuple[str, str], list[dict[str, str]]] = {}
    for name in results["sets"]:
        for line in read_predictions(place / "predictions" / TUNED / f"{name}.jsonl")[1]:
            if line["labels"] != line["predicted"]:
                shown = {"set": name, "kind": line["kind"], "text": line["text"]}
                shown |= {"right": describe(line["tokens"], line["labels"])}
                shown |= {"found": describe(line["tokens"], line["predicted"])}
                by_kind.setdefault((name, line["kind"]), []).append(shown)
    most = max(1, SHOWN_WRONG // max(len(by_kind), 1))
    return [one for lines in by_kind.values() for one in lines[:most]]


def describe(tokens: Sequence[str], labels: Sequence[str]) -> str:
    """DEPART: Aix - en - Provence; ARRIVEE: Lyon."""
    words = [(number, number + 1) for number in range(len(tokens))]
    spans = spans_of(words, labels)
    return "; ".join(f"{span.label}: {' '.join(tokens[span.start : span.end])}" for span in spans)


def write_scores(logs: Path, job: Job, results: Mapping[str, Any], step: int) -> None:
    """Writes the figures as of `step` into the run's log folder, and its row among all runs."""
    from torch.utils.tensorboard.summary import hparams

    with open_writer(logs, f".evaluation-{step}") as writer:
        for name, result in results["sets"].items():
            for tag in ("macro_f1", "sentence_accuracy"):
                writer.add_scalar(f"evaluation/{name}/{tag}", result[tag], step)
            for entity, found in result["entities"].items():
                if found["f1"] is not None:
                    writer.add_scalar(f"evaluation/{name}/f1_{entity}", found["f1"], step)
    name, first = next(iter(results["sets"].items()))
    scores = {"hparam/macro_f1": first["macro_f1"], "hparam/sentence_accuracy": first["sentence_accuracy"]}
    settings = {**learning_settings(job, step), "set": name, "normalizer": "none"}
    with open_writer(logs, ".hparams") as writer:
        for summary in hparams(settings, scores):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        for tag, value in scores.items():
            if math.isfinite(value):
                writer.add_scalar(tag, value, step)
