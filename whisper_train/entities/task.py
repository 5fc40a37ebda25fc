"""The functions of jobs that learn to find entities; tasks.py says what each of them does."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_train.entities.evaluate import check_models, evaluate
from whisper_train.entities.prepare import prepare
from whisper_train.entities.report import write_page, write_run_reports
from whisper_train.entities.results import make_table
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.plan import RunPlan
from whisper_train.run_folder import RunFolder

__all__ = ["check_models", "evaluate", "make_table", "prepare", "write_page", "write_run_reports"]


def build_trainer(plan: RunPlan, request: Any, say: Any) -> tuple[Any, Any, Any]:
    from whisper_train.entities.build import build_trainer as build

    return build(plan, request, say)


def describe_training(trainer: Any, job: Job) -> list[str]:
    patterns = len({sentence.pattern for sentence in trainer.train_dataset.sentences} - {""})
    told = f" of {patterns:,} patterns" if patterns else ""
    return [f"train: {len(trainer.train_dataset):,} sentences{told}"]


def save_best(job: Job, folder: RunFolder, base: str, say: Any) -> None:
    from whisper_train.entities.build import save_best as save

    save(job, folder, base, say)


def next_command(job: Job, folder: RunFolder, cache: Path, environment: Mapping[str, str]) -> str:
    """What finds the cities of an order with the new model."""
    python = environment.get("PYTHON_COMMAND") or display(Path(sys.executable))
    sentence = "je voudrais aller de Lyon à Saint-Étienne en passant par Vienne"
    return f'next, try it:\n  {python} -m whisper_train order --entities {display(folder.path)} --text "{sentence}"'
