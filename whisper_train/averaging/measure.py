"""What the models between base and tuned model reach, measured as an evaluation does it: by transcribing clips."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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
from whisper_train.evaluation.transcription import copy_transcription, read_transcription
from whisper_train.evaluation.worker import ModelTask
from whisper_train.job import Job
from whisper_train.model import files_digest
from whisper_train.paths import Directories, make_directory
from whisper_train.run_folder import RunFolder

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of the averages: the evaluation that follows, and the part of its clips that they are tried on."""

    whole: Request  # of the tuned model (the first of its models) and the base
    part: Request
    sets: dict[str, EvalSet]
    positions: dict[str, set[int]]  # of the part, in each set
    environment: Mapping[str, str]

    @property
    def base(self) -> EvalModel:
        return next(model for model in self.whole.models if model.label == BASELINE)


def make_question(
    job: Job, folder: RunFolder, directories: Directories, environment: Mapping[str, str], say: Say
) -> Question:
    """Audits the eval sets of `job` where that is not done, and chooses their clips."""
    from whisper_train.evaluation.passages import choose_clips

    assert job.averaging is not None
    at_most = job.averaging.clips
    models = choose_models(job, folder, [], None, directories)
    whole = make_request(job, models, folder, folder.evaluation, directories)
    check_models(whole.models)
    sets = prepare_eval_data(job, whole.sets, whole.trained, whole.folder / "data", cache=whole.cache, say=say)
    positions = {name: set(choose_clips(Index(one.index, whole.cache), at_most)) for name, one in sets.items()}
    part = replace(whole, at_most=at_most, folder=whole.folder / "averaging")
    return Question(whole=whole, part=part, sets=sets, positions=positions, environment=environment)


def measure(ends: Ends, asked: Question, aside: Path, say: Say) -> tuple[list[Point], dict[str, str]]:
    """The rates of the base, of the averages and of the tuned model on the same clips, by rising weight.

    And what the rate of each set is (wer or cer). The base transcribes whole sets, as the evaluation needs them. The
    averages are made in the folder `aside`, one at a time.
    """
    assert ends.job.averaging is not None
    weights = sorted({0.0, 1.0, *ends.job.averaging.weights})
    say(f"averaging: the base and {', '.join(f'{weight:g}' for weight in weights[1:])} of the tuned model")
    transcribe_clips(asked, asked.whole, plan_clips(asked, asked.whole, asked.base), say)
    rates, metrics = rates_of(asked, asked.whole, asked.base)
    curve = [Point(0.0, rates)]
    for weight in weights[1:]:
        model = average_model(ends, asked.base, weight, aside)
        if (task := plan_clips(asked, asked.part, model)).sets:
            make_average(ends, weight, make_directory(aside, named_by="MODEL_DIR"))
            transcribe_clips(asked, asked.part, task, say)
        curve.append(Point(weight, rates_of(asked, asked.part, model)[0]))
    if aside.exists():
        shutil.rmtree(aside)
    return curve, metrics


def average_model(ends: Ends, base: EvalModel, weight: float, place: Path) -> EvalModel:
    """The average with `weight` of the tuned model, which need not lie in `place` yet: what it is made of names it."""
    made_of = [repr(weight), model_digest(base), files_digest(ends.tuned)]
    return EvalModel(
        label=f"weight-{weight}",
        name=f"{weight:g} of the tuned model, the rest of {base.name}",
        place=str(place),
        digest=hashlib.sha256(" ".join(made_of).encode()).hexdigest(),
    )


def hand_over(ends: Ends, asked: Question, weight: float, aside: Path) -> None:
    """Gives the evaluation what the chosen average has heard, where that was the whole of a set.

    The average lies in the run folder by now. The texts are those that the evaluation would get: same weights, same
    batches.
    """
    average = average_model(ends, asked.base, weight, aside)
    for task in plan_clips(asked, asked.whole, asked.whole.models[0]).sets:
        if len(asked.positions[task.name]) == len(Index(asked.sets[task.name].index, asked.whole.cache)):
            copy_transcription(transcription_file(asked.part, average, task.name), Path(task.file), task.header)


def plan_clips(asked: Question, request: Request, model: EvalModel) -> ModelTask:
    """What `model` has still to transcribe of the sets of `request`: neither joined clips nor silence."""
    task = plan_model(request, model, asked.sets, asked.environment)
    return replace(task, sets=[one for one in task.sets if one.name in asked.sets])


def transcribe_clips(asked: Question, request: Request, task: ModelTask, say: Say) -> None:
    if task.sets:
        request.folder.mkdir(parents=True, exist_ok=True)
        transcribe_sets(task, request.job.machine, asked.environment, request.folder / ".eval-plan.json", say)


def rates_of(asked: Question, request: Request, model: EvalModel) -> tuple[dict[str, float], dict[str, str]]:
    """The error rate of `model` on the chosen clips of each set, and what rate that is."""
    normalizer = request.job.evaluation.normalizer
    rates, metrics = {}, {}
    for name, chosen in asked.positions.items():
        read = read_transcription(transcription_file(request, model, name))
        pairs = [(line["reference"], line["hypothesis"]) for line in read.lines if line["position"] in chosen]
        scored = count_pairs(pairs, [normalizer], len(os.sched_getaffinity(0)))[normalizer]
        metrics[name] = metric_of({"languages": languages_of(read)})
        rates[name] = (scored.words if metrics[name] == "wer" else scored.characters).rate
    return rates, metrics
