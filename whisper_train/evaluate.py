"""Evaluation of models on the sets of a job: transcribe what is not transcribed yet, score, judge."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from whisper_train.augment.settings import check_noise, dump_settings, recordings_digest
from whisper_train.data.prepare import EvalSet, prepare_eval_data
from whisper_train.entities.speech import check_travel, find_orders
from whisper_train.evaluation.results import write_results
from whisper_train.evaluation.share import count_processes, transcribe_sets
from whisper_train.evaluation.transcription import FORMAT, copy_transcription, is_complete
from whisper_train.evaluation.worker import ModelTask, SetTask
from whisper_train.job import Gates, Job, LongFormSet
from whisper_train.job_data import LONG_FORM_SET, SILENCE_SET, Source
from whisper_train.paths import Directories
from whisper_train.planning.room import check_room
from whisper_train.run_folder import installed_versions


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalModel:
    """A model to evaluate: what files call it, what the user calls it, and where it is (folder or hub id)."""

    label: str
    name: str
    place: str
    revision: str | None = None
    key: str = "base"  # where the user named it
    digest: str | None = None  # where it is known without the files; see model_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be evaluated, and where its results go. The first model is the one that is judged."""

    job: Job
    models: list[EvalModel]
    sets: list[str]
    at_most: int | None  # clips of a set
    gates: Gates | None  # None: nothing is judged
    folder: Path
    trained: Path  # the data folder of the job's run, which may not be there
    cache: Path
    known: Sequence[Path] = ()  # folders of transcriptions that may hold what is asked for


def evaluate(request: Request, environment: Mapping[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """Returns the results, which are in results.json as well."""
    check_models(request.models)
    directories = Directories(cache=request.cache, models=request.trained.parents[1], logs=request.folder)
    check_travel(request.job, directories)
    check_noise(request.job.data, request.sets)
    request.folder.mkdir(parents=True, exist_ok=True)

    # 1. data
    audited = request.folder / "data"
    sets = prepare_eval_data(request.job, request.sets, request.trained, audited, cache=request.cache, say=say)
    check_evaluation_room(request, sets, say)

    # 2. transcribe
    for model in request.models:
        task = plan_model(request, model, sets, environment)
        if task.sets:
            transcribe_sets(task, request.job.machine, environment, request.folder / ".eval-plan.json", say)

    # 3. score and judge
    job = request.job
    find_orders(job, request.folder, [model.label for model in request.models], request.sets, directories)
    return write_results(
        request.folder,
        normalizer=job.evaluation.normalizer,
        gates=request.gates,
        long_form=job.evaluation.long_form is not None,
        names=request.sets,
        labels=[model.label for model in request.models],
    )


def check_evaluation_room(request: Request, sets: Mapping[str, EvalSet], say: Callable[[str], None]) -> None:
    """Says what is to be fetched and written, and raises UserError where the disk has no room for it."""
    from whisper_train.data.index import Index
    from whisper_train.model import load_config
    from whisper_train.planning.takes import download_takes, evaluation_takes

    takes = []
    missing = [
        model
        for model in request.models
        if not all(transcription_file(request, model, name).is_file() for name in sets)
    ]
    for model in missing:
        config = load_config(model.place, revision=model.revision, key=model.key)
        takes += download_takes(model.place, config, request.cache, model.revision)
    counts = [len(Index(one.index, request.cache)) for one in sets.values()]
    clips = [min(count, request.at_most or count) for count in counts]
    takes += evaluation_takes(request.folder, clips, len(missing))
    way_out = "MODEL_DIR and CACHE_DIR name other disks, --max-samples takes fewer clips"
    check_room(takes, say, key="MODEL_DIR", way_out=way_out)


def check_models(models: Sequence[EvalModel]) -> None:
    """Raises UserError for one that cannot be loaded, before anything is read or transcribed, perhaps for hours."""
    from whisper_train.model import load_config, load_processor
    from whisper_train.quantization.saved import read_facts

    for model in models:
        load_config(model.place, revision=model.revision, key=model.key)
        read_facts(model.place, revision=model.revision)
        load_processor(model.place, revision=model.revision, key=model.key)


def plan_model(
    request: Request, model: EvalModel, sets: Mapping[str, EvalSet], environment: Mapping[str, str]
) -> ModelTask:
    """What is still to be transcribed with `model`."""
    from whisper_train.evaluation.transcribe import make_decoding

    job = request.job
    decoding = make_decoding(job, workers=job.machine.dataloader_num_workers)
    processes = count_processes(job.machine, environment)
    facts = {
        "transcription": FORMAT,
        "label": model.label,
        "model": model.name,
        "model_digest": model_digest(model),
        "job": job.name,
        "language": job.language,
        "task": job.task,
        "decoding": {"beams": decoding.beams, "max_length": decoding.max_length, "precision": decoding.precision},
        "batch_size": decoding.batch_size,
        "device": device_name(),
        "versions": installed_versions(),
    }
    tasks = [task for task in list_tasks(request, model, sets, facts) if not is_there(task, request.known)]
    if model.place == str(request.trained.parent):  # another model has not seen what this job trained on
        tasks = [with_contamination(task, request) if task.name in sets else task for task in tasks]
    return ModelTask(
        label=model.label,
        place=model.place,
        revision=model.revision,
        cache=str(request.cache),
        decoding=asdict(decoding),
        threads=job.machine.threads or max(1, len(os.sched_getaffinity(0)) // processes),
        processes=processes,
        sets=tasks,
    )


def is_there(task: SetTask, known: Sequence[Path]) -> bool:
    """Whether the set is transcribed, be it by another evaluation that asked the same model the same: it is copied."""
    file = Path(task.file)
    if is_complete(file, task.header):
        return True
    for folder in known:
        if is_complete(folder / file.name, task.header):
            copy_transcription(folder / file.name, file, {key: task.header[key] for key in ("label", "model")})
            return True
    return False


def device_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "cpu"


def list_tasks(
    request: Request, model: EvalModel, sets: Mapping[str, EvalSet], facts: Mapping[str, Any]
) -> list[SetTask]:
    """Every set as it is transcribed, with the header of its file: those of the job, joined clips, and silence."""
    job = request.job

    def make(name: str, chosen: Any, eval_set: EvalSet | None, sources: Sequence[Source]) -> SetTask:
        columns = [source.audio_column for source in sources]
        settings = [source.augment for source in sources]
        known: dict[str, Any] = {"augment": dump_settings(settings), "recordings": recordings_digest(settings)}
        if eval_set:
            known |= {"set_digest": eval_set.digest, "sources": eval_set.sources, "revisions": eval_set.revisions}
        return SetTask(
            name=name,
            file=str(transcription_file(request, model, name)),
            header={**facts, "set": name, "chosen": chosen, "audio_columns": columns, **known},
            index=str(eval_set.index) if eval_set else None,
            columns=columns,
            augment=known["augment"],
            language=job.language,
        )

    tasks = [
        replace(make(name, request.at_most, eval_set, job.data.eval[name]), at_most=request.at_most)
        for name, eval_set in sets.items()
    ]
    long_form = job.evaluation.long_form
    if long_form is None and request.gates and request.gates.long_form:
        long_form = LongFormSet()
    if long_form and (name := long_form.set or next(iter(job.data.eval))) in sets:
        joined = (float(long_form.seconds), float(long_form.minutes))
        tasks.append(replace(make(LONG_FORM_SET, list(joined), sets[name], job.data.eval[name]), joined=joined))
    return [*tasks, make(SILENCE_SET, None, None, [])]


def transcription_file(request: Request, model: EvalModel, name: str) -> Path:
    """Where the transcription of the set `name` by `model` lies."""
    return request.folder / "transcriptions" / model.label / f"{name}.jsonl"


def with_contamination(task: SetTask, request: Request) -> SetTask:
    """The task whose header names the clips that were trained on too, as far as the run's own data tell."""
    from whisper_train.data.index import Index
    from whisper_train.data.prepare import index_path
    from whisper_train.evaluation.contamination import same_audio, same_texts
    from whisper_train.evaluation.normalize import make_normalizer

    path = index_path(request.trained, "train")
    if not path.is_file() or task.index is None:
        return task
    train, evaluated = Index(path, request.cache), Index(Path(task.index), request.cache)
    texts = evaluated.table.column("text").to_pylist()
    seen = {
        "same_text": same_texts(train.texts(), texts, make_normalizer("whisper-basic")),
        "same_audio": same_audio(train.column("audio_hash"), evaluated.column("audio_hash")),
    }
    header = {**task.header, "contamination": {name: [int(one) for one in where] for name, where in seen.items()}}
    return replace(task, header=header)


def model_digest(model: EvalModel) -> str:
    """What tells the weights and settings of a model from any other's: a hash of its files, or the hub's commit."""
    from whisper_train.model import files_digest, load_config

    if model.digest:
        return model.digest
    if Path(model.place).is_dir():
        return files_digest(Path(model.place))
    commit = getattr(load_config(model.place, revision=model.revision), "_commit_hash", None)
    return str(commit or f"{model.place}@{model.revision}")
