"""`whisper-train eval`: a job's own model on the job's sets, with its verdict; or other models on them."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_train.averaging.state import check_settled
from whisper_train.chains.inputs import evaluation_inputs
from whisper_train.errors import DONE as EXIT_DONE
from whisper_train.errors import GATE_MISSED as EXIT_GATE_MISSED
from whisper_train.errors import UserError
from whisper_train.evaluate import EvalModel, Request
from whisper_train.evaluation.results import BASELINE, TUNED
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.housekeeping.in_use import cache_in_use
from whisper_train.job import Gates, Job
from whisper_train.job_file import display, dump_job
from whisper_train.machine import choose_gpus
from whisper_train.model import resolve_place
from whisper_train.paths import Directories, find_directories, make_directory, write_text
from whisper_train.plan import load_resolved
from whisper_train.run_folder import (
    DONE,
    EVALUATION_LOG,
    FAILED,
    GATE_MISSED,
    LAUNCHER_LOCK,
    MAY_CHANGE,
    RANKS_LOCK,
    RUNNING,
    STOPPED,
    TRAINED,
    RunFolder,
    check_same_job,
    is_locked,
    locked,
    make_command,
    now,
    read_holder,
    run_folder,
    stop_command,
    this_process,
)
from whisper_train.run_log import duration, errors_logged, open_log
from whisper_train.tasks import parts_of
from whisper_train.training_settings import TrainingSettings

LONGEST_NAME = 200  # of a folder; file systems take 255 bytes
EXIT_STATUS = {DONE: EXIT_DONE, GATE_MISSED: EXIT_GATE_MISSED}

LENGTH_KEYS = ("max_steps", "num_train_epochs")  # more of them is more to train

# What may be evaluated otherwise than the model was trained.
EVALUATION_KEYS: tuple[str, ...] = ("data.eval", "evaluation", "training.generation_", "training.per_device_eval")


def evaluate_named(
    job: Job,
    models: Sequence[str],
    baseline: str | None,
    sets: Sequence[str],
    max_samples: int | None,
    environment: Mapping[str, str],
) -> int:
    """Evaluates the job's own model, or `models` if there are any; returns the exit status.

    The gates judge the whole evaluation of the job's own model alone, which decides on its promotion.
    Raises UserError when there is no model, or no such set.
    """
    directories = find_directories(environment)
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    folder = run_folder(job, directories)
    check_sets(job, sets)
    check_not_running(job, folder)
    sets = [name for name in job.data.eval if name in sets]  # the same question in whatever order
    whole = not models and not baseline and not sets and max_samples is None
    if not models:
        check_model_is_there(job, folder)
    if whole:
        check_finished(job, folder)
    choose_gpus(job, environment)
    make_directory(directories.cache, named_by="CACHE_DIR")
    make_directory(folder.path, named_by="MODEL_DIR")
    make_directory(folder.logs, named_by="LOG_DIR")
    chosen = choose_models(job, folder, models, baseline, directories)
    parts = parts_of(job)
    parts.check_models(chosen)  # `make eval DETACH=1` waits for the next line, and tells what went wrong until then
    own = locked(folder.path / LAUNCHER_LOCK)
    with own, unwinding_on_sigterm(), cache_in_use(directories.cache), errors_logged():
        say = open_log(folder.logs / EVALUATION_LOG)
        follow = make_command("logs", job.name, this_process())
        say(f"{job.name}: evaluation in {display(folder.path)}; follow it with: {follow}")
        if whole:
            check_same_job(job, folder, MAY_CHANGE + EVALUATION_KEYS)
        if whole and job.data.train:
            return EXIT_STATUS[evaluate_run(as_trained(job, folder), folder, directories, environment, say)]
        place = folder.evaluation if whole else folder.path / "evaluations" / describe(chosen, sets, max_samples)
        request = make_request(job, chosen, folder, place, directories, sets=sets, at_most=max_samples)
        results = parts.evaluate(request, environment, say)
        page = parts.write_page(place, results, directories.cache, say)
        say(parts.make_table(results))
        say(f"report: {display(page)}")
    return EXIT_DONE


def check_sets(job: Job, sets: Sequence[str]) -> None:
    for name in sets:
        if name not in job.data.eval:
            raise UserError(f"{job.name}: --sets: {name}: no such set; data.eval has {', '.join(job.data.eval)}")


def check_not_running(job: Job, folder: RunFolder) -> None:
    """Raises UserError for a job that runs, whose model is not there yet or is not to stay."""
    for lock in (folder.path / LAUNCHER_LOCK, folder.path / RANKS_LOCK):
        if is_locked(lock):
            holder, status = read_holder(lock), folder.read().get("status")
            doing = "evaluated" if status in (TRAINED, *EXIT_STATUS) else "trained"
            raise UserError(
                f"{job.name}: is running already as {holder}: it is being {doing} now, and ends with an evaluation;"
                f" wait for that ({make_command('logs', job.name, holder)}), or stop it"
                f" ({stop_command(job.name, holder)})"
            )


def check_model_is_there(job: Job, folder: RunFolder) -> None:
    """Raises UserError when the job has no model of its own to evaluate."""
    if job.data.train and not (folder.path / "config.json").is_file():
        raise UserError(
            f"{job.name}: has no model yet in {display(folder.path)}; train it (make train EXP={job.name}), or name"
            " another one (--model openai/whisper-small)"
        )
    if not job.data.train and job.base == "new":
        raise UserError(
            f"{job.name}: data.train: is missing, and without it `base: new` is nothing to measure;"
            " name a model (--model)"
        )


def check_finished(job: Job, folder: RunFolder) -> None:
    """Raises UserError for a run that is to go on: the model that lies there is none, or an older one."""
    state = folder.read()
    status, saved = state.get("status"), state.get("kept")
    if status in (RUNNING, STOPPED, FAILED) or (status == TRAINED and not saved):
        raise UserError(
            f"{job.name}: is {status}; train it to its end (make train EXP={job.name}), or evaluate a checkpoint"
            f" (--model {display(folder.checkpoints)}/checkpoint-…)"
        )
    check_settled(job, state)


def as_trained(job: Job, folder: RunFolder) -> Job:
    """`job` with the steps that its run was trained for: a job that asks for more has still to be trained."""
    trained = load_resolved(folder.path / "job.yaml").training
    others = {key: value for key, value in job.training.items() if key not in LENGTH_KEYS}
    training = TrainingSettings({**others, **{key: trained[key] for key in LENGTH_KEYS if key in trained}})
    return job.model_copy(update={"training": training})


def evaluate_run(
    job: Job, folder: RunFolder, directories: Directories, environment: Mapping[str, str], say: Callable[[str], None]
) -> str:
    """Evaluates the model that a run has saved, against its base; returns the run's status by its gates."""
    started = time.monotonic()
    models = choose_models(job, folder, [], None, directories)
    request = make_request(job, models, folder, folder.evaluation, directories, gates=job.gates)
    results = parts_of(job).evaluate(request, environment, say)
    folder.add_time("evaluation", time.monotonic() - started)
    return conclude(job, folder, results, directories.cache, say)


def conclude(job: Job, folder: RunFolder, results: dict[str, Any], cache: Path, say: Callable[[str], None]) -> str:
    """Tells the results, writes what people read of them, and puts into the run what its gates make of it."""
    status = DONE if results["promoted"] else GATE_MISSED
    write_text(folder.path / "job.yaml", dump_job(job))
    evaluated = evaluation_inputs(job, folder.path)
    folder.update(status=status, promoted=results["promoted"], finished=now(), error=None, evaluated=evaluated)
    parts = parts_of(job)
    page = parts.write_run_reports(job, folder, results, cache, say)
    say(parts.make_table(results))
    say(f"{status} in {duration(sum(folder.read().get('timings', {}).values()))}; report: {display(page)}")
    return status


def choose_models(
    job: Job, folder: RunFolder, models: Sequence[str], baseline: str | None, directories: Directories
) -> list[EvalModel]:
    """The judged model first: the first of `models`, or the job's own; then what it is compared with, then the others.

    Without `models` the baseline is the job's base, where it has one that was not made for it.
    """
    base = EvalModel(
        label=BASELINE, name=job.base, place=resolve_place(job.base, directories), revision=job.base_revision
    )
    if models:
        places = [resolve_place(name, directories) for name in models]
        labels = make_labels(models)
        chosen = [
            EvalModel(label=label, name=name, place=place, key="--model")
            for label, name, place in zip(labels, models, places, strict=True)
        ]
    elif job.data.train:
        chosen = [EvalModel(label=TUNED, name=display(folder.path), place=str(folder.path))]
    else:
        chosen = [replace(base, label=TUNED)]
    if baseline:
        place = resolve_place(baseline, directories)
        chosen.insert(1, EvalModel(label=BASELINE, name=baseline, place=place, key="--baseline"))
    elif not models and job.data.train and job.base != "new":
        chosen.insert(1, base)
    return chosen


def make_request(
    job: Job,
    models: list[EvalModel],
    folder: RunFolder,
    place: Path,
    directories: Directories,
    *,
    sets: Sequence[str] = (),
    at_most: int | None = None,
    gates: Gates | None = None,
) -> Request:
    return Request(
        job=job,
        models=models,
        sets=list(sets) or list(job.data.eval),
        at_most=at_most,
        gates=gates,
        folder=place,
        trained=folder.data,
        cache=directories.cache,
        known=known_transcriptions(job, directories),
    )


def known_transcriptions(job: Job, directories: Directories) -> list[Path]:
    """Where the job that this one starts from keeps what its model heard, which is the baseline here."""
    if not job.base.startswith("job:"):
        return []
    base = Path(resolve_place(job.base, directories))
    return [folder / "transcriptions" / TUNED for folder in (base / "evaluation", *base.glob("evaluations/*"))]


def describe(models: Sequence[EvalModel], sets: Sequence[str], at_most: int | None) -> str:
    """The name of an evaluation's folder: the same for the same question, another for another."""
    parts = [("vs-" if model.label == BASELINE else "") + make_label(model.name) for model in models]
    parts += [*sets, *([f"{at_most}-clips"] if at_most else [])]
    name = "+".join(parts)
    digest = hashlib.sha256(name.encode()).hexdigest()
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{digest[:8]}"


def make_labels(names: Sequence[str]) -> list[str]:
    """What files call these models: the judged one first, and no two the same."""
    labels = [TUNED]
    for name in names[1:]:
        label = make_label(name)
        while label in (*labels, BASELINE):
            label += "-2"
        labels.append(label)
    return labels


def make_label(name: str) -> str:
    """openai/whisper-small -> openai--whisper-small: a model's name as that of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.strip("./~").replace("/", "--")) or "model"
