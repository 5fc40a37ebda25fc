"""What the models between base and tuned model reach, measured as an evaluation does it: by transcribing clips."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_train.averaging.choice import Point
from whisper_train.averaging.weights import Ends, make_average
from whisper_train.data.index import Index
from whisper_train.data.prepare import EvalSet, prepare_eval_data
from whisper_train.evaluate import EvalModel, Request, check_models, model_digest, plan_model, transcription_file
from whisper_train.evaluate_job import choose_models, make_request
from whisper_train.evaluation.gates import metric_of
from whisper_train.evaluation.results import BASELINE, languages_of
from whisper_train.evaluation.score import count_pairs
from whisper_train.evaluation.share import transcribe_sets
from whisper_train.evaluation.transcription import read_transcription
from whisper_train.evaluation.worker import ModelTask
from whisper_train.model import files_digest
from whisper_train.paths import Directories, make_directory
from whisper_train.run_folder import RunFolder

ASIDE = ".averaging"  # in the run folder: one averaged model at a time, as long as it transcribes


def measure(
    ends: Ends, folder: RunFolder, directories: Directories, environment: Mapping[str, str], say: Callable[[str], None]
) -> tuple[list[Point], dict[str, dict[str, Any]]]:
    """The rates of the base, of the averages and of the tuned model on the same clips, by rising weight.

    And by set what its rate is (`metrics`: wer or cer) and how many `clips` it comes from. The base transcribes whole
    sets: the evaluation compares with that afterwards.
    """
    job = ends.job
    assert job.averaging is not None
    models = choose_models(job, folder, [], None, directories)
    base = next(model for model in models if model.label == BASELINE)
    check_models([base])
    whole = make_request(job, [base], folder, folder.evaluation, directories)
    part = replace(whole, at_most=job.averaging.clips, folder=folder.evaluation / "averaging")
    audited = whole.folder / "data"
    sets = prepare_eval_data(job, whole.sets, whole.trained, audited, cache=whole.cache, say=say)
    positions = choose_positions(sets, part)
    weights = sorted({0.0, 1.0, *job.averaging.weights})
    say(f"averaging: the base and {', '.join(f'{weight:g}' for weight in weights[1:])} of the tuned model")
    transcribe_clips(plan_clips(whole, base, sets, environment), whole, environment, say)
    rates, metrics = rates_of(whole, base, positions)
    curve = [Point(0.0, rates)]
    digests = model_digest(base), files_digest(ends.tuned)
    aside = folder.path / ASIDE
    for weight in weights[1:]:
        model = average_model(weight, base, digests, aside)
        if (task := plan_clips(part, model, sets, environment)).sets:
            make_average(ends, weight, make_directory(aside, named_by="MODEL_DIR"))
            transcribe_clips(task, part, environment, say)
        curve.append(Point(weight, rates_of(part, model, positions)[0]))
    if aside.exists():
        shutil.rmtree(aside)
    return curve, {"metrics": metrics, "clips": {name: len(chosen) for name, chosen in positions.items()}}


def average_model(weight: float, base: EvalModel, digests: tuple[str, str], place: Path) -> EvalModel:
    """The average with `weight` of the tuned model, which need not lie in `place` yet: what it is made of names it."""
    made_of = hashlib.sha256(" ".join([repr(weight), *digests]).encode()).hexdigest()
    name = f"{weight:g} of the tuned model, the rest of {base.name}"
    return EvalModel(label=f"weight-{weight}", name=name, place=str(place), digest=made_of)


def plan_clips(
    request: Request, model: EvalModel, sets: Mapping[str, EvalSet], environment: Mapping[str, str]
) -> ModelTask:
    """What `model` has still to transcribe of `sets`: neither joined clips nor silence."""
    task = plan_model(request, model, sets, environment)
    return replace(task, sets=[one for one in task.sets if one.name in sets])


def transcribe_clips(
    task: ModelTask, request: Request, environment: Mapping[str, str], say: Callable[[str], None]
) -> None:
    if task.sets:
        request.folder.mkdir(parents=True, exist_ok=True)
        transcribe_sets(task, request.job.machine, environment, request.folder / ".eval-plan.json", say)


def choose_positions(sets: Mapping[str, EvalSet], request: Request) -> dict[str, set[int]]:
    """The clips of each set that `request` asks for."""
    from whisper_train.evaluation.passages import choose_clips

    return {name: set(choose_clips(Index(one.index, request.cache), request.at_most)) for name, one in sets.items()}


def rates_of(
    request: Request, model: EvalModel, positions: Mapping[str, set[int]]
) -> tuple[dict[str, float], dict[str, str]]:
    """The error rate of `model` on the clips at `positions` of each set, and what rate that is."""
    normalizer = request.job.evaluation.normalizer
    rates, metrics = {}, {}
    for name, chosen in positions.items():
        read = read_transcription(transcription_file(request, model, name))
        pairs = [(line["reference"], line["hypothesis"]) for line in read.lines if line["position"] in chosen]
        scored = count_pairs(pairs, [normalizer], len(os.sched_getaffinity(0)))[normalizer]
        metrics[name] = metric_of({"languages": languages_of(read)})
        rates[name] = (scored.words if metrics[name] == "wer" else scored.characters).rate
    return rates, metrics
