"""The functions of jobs that learn to hear; tasks.py says what each of them does."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path
from whisper_train.evaluate import check_models, evaluate
from whisper_train.evaluation.table import make_table
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.plan import RunPlan
from whisper_train.prepare import prepare
from whisper_train.report.write import write_page, write_run_reports
from whisper_train.run_folder import RunFolder
from whisper_train.run_log import HEAR

__all__ = ["check_models", "evaluate", "make_table", "prepare", "write_page", "write_run_reports"]


def build_trainer(plan: RunPlan, request: Any, say: Any) -> tuple[Any, Any, Any]:
    from whisper_train.training.build import build_trainer as build

    return build(plan, request, say)


def describe_training(trainer: Any, job: Job) -> list[str]:
    if not job.data.windows:
        return []
    return [f"train: {len(trainer.train_dataset):,} clips in {len(trainer.order.grouping):,} windows"]


def save_best(job: Job, folder: RunFolder, base: str, say: Any) -> None:
    from whisper_train.training.run import save_best as save

    save(job, folder, base, say)


def next_command(job: Job, folder: RunFolder, cache: Path, environment: Mapping[str, str]) -> str:
    """What transcribes a clip of the first eval set (or one's own file) with the new model."""
    clip = Index(index_path(folder.data, f"eval.{next(iter(job.data.eval))}"), cache)[0]
    audio = display(Path(clip["audio"])) if clip["row_group"] < 0 else "your.wav"
    model, python = display(folder.path), environment.get("PYTHON_COMMAND") or display(Path(sys.executable))
    return (
        f"{HEAR}\n  "
        f'{python} -c "from transformers import pipeline; from whisper_train.audio import decode;'
        f" print(pipeline('automatic-speech-recognition', '{model}')(decode('{audio}'))['text'])\""
    )
