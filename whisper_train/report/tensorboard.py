"""The final scores in TensorBoard: beside the curves of the run, and as its row in the comparison of all runs."""

import math
from pathlib import Path
from typing import Any

from whisper_train.job import Job
from whisper_train.report.words import escape, gate_lines, learning_settings, results_table

METRICS = ("wer", "cer")


def write_scores(logs: Path, job: Job, results: dict[str, Any], step: int) -> None:
    """Writes the figures of `results` (results.json, version 2), fractions, as of `step` into the run's log folder.

    Writing again replaces what was written for the same step, and the run's row among the hyperparameters.
    """
    # Files of their own, so that they can be replaced: to purge a step would take the last of the curves with it.
    write_figures(open_writer(logs, f".evaluation-{step}"), results, step)
    write_row(open_writer(logs, ".hparams"), job, results, step)


def open_writer(logs: Path, suffix: str) -> Any:
    """A SummaryWriter on a new event file whose name ends in `suffix`, in place of the one that was there."""
    from torch.utils.tensorboard import SummaryWriter

    for path in logs.glob(f"events.out.tfevents.*{suffix}"):
        path.unlink()
    return SummaryWriter(str(logs), filename_suffix=suffix)


def write_figures(writer: Any, results: dict[str, Any], step: int) -> None:
    """Figures per set as scalars, the table and what it says as text."""
    with writer:
        for name, measured in results["sets"].items():
            for tag, value in figures(measured).items():
                writer.add_scalar(f"evaluation/{name}/{tag}", value, step)
        sentences = [
            f"- {escape(name)}: {escape(measured['comparison']['sentence'])}"
            for name, measured in results["sets"].items()
            if measured.get("comparison")
        ]
        text = [results_table(results), *(["\n".join(sentences)] if sentences else []), gate_lines(results)]
        writer.add_text("evaluation/results", "\n\n".join(text), step)


def figures(measured: dict[str, Any]) -> dict[str, float]:
    """One set's rates and their intervals, and the baseline's, by what their tags end with; what is missing is out."""
    found = {}
    for model, ending in ((measured, ""), (measured.get("baseline") or {}, "_baseline")):
        for metric in METRICS:
            low, high = model.get(f"{metric}_interval") or (None, None)
            found[f"{metric}{ending}"] = model.get(metric)
            found[f"{metric}{ending}_low"], found[f"{metric}{ending}_high"] = low, high
    return {tag: value for tag, value in found.items() if value is not None and math.isfinite(value)}


def write_row(writer: Any, job: Job, results: dict[str, Any], step: int) -> None:
    """What the job set and what came out on its first set, as one row of the tab that compares all runs."""
    from torch.utils.tensorboard.summary import hparams

    name, measured = next(iter(results["sets"].items()))
    settings = {**learning_settings(job, step), "set": name, "normalizer": measured["normalizer"]}
    scores = {f"hparam/{metric}": measured[metric] for metric in METRICS}
    with writer:
        # Every run describes all columns: TensorBoard takes the description of any one of them.
        for summary in hparams(settings, scores):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        for tag, value in scores.items():
            if value is not None and math.isfinite(value):
                writer.add_scalar(tag, value, step)
