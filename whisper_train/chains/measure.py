"""Every stage of a chain on every set of the chain: what its own evaluation leaves out is transcribed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from whisper_train.chains.inputs import (
    EVALUATION_CODE,
    base_digest,
    code_digest,
    decoding_inputs,
    eval_fingerprint,
    model_digest,
)
from whisper_train.data.prepare import hash_of
from whisper_train.errors import UserError
from whisper_train.evaluate import evaluate
from whisper_train.evaluate_job import choose_models, make_request
from whisper_train.evaluation.results import BASELINE, TUNED
from whisper_train.evaluation.transcription import read_header
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.housekeeping.in_use import cache_in_use
from whisper_train.job import Evaluation, Gates, Job
from whisper_train.job_data import Source
from whisper_train.paths import Directories, read_json, write_json
from whisper_train.run_folder import EVALUATION_LOG, LAUNCHER_LOCK, locked, run_folder
from whisper_train.run_log import open_log

CHAIN = "chain"  # the folder in a run's evaluations/ for the sets of other stages
Sets = Mapping[str, list[Source]]


def all_sets(jobs: Sequence[Job]) -> dict[str, list[Source]]:
    """The eval sets of all `jobs` by name; raises UserError where their results could not stand in one table."""
    found: dict[str, list[Source]] = {}
    owners: dict[str, Job] = {}
    for job in jobs:
        check_alike(jobs[0], job)
        for name, sources in job.data.eval.items():
            known = [source.model_copy(update={"language": source.language or job.language}) for source in sources]
            if found.setdefault(name, known) != known:
                raise UserError(
                    f"{job.name}: data.eval.{name}: is another set in {owners[name].name}; one chain has one table:"
                    " give one of them another name"
                )
            owners.setdefault(name, job)
    return found


def check_alike(first: Job, job: Job) -> None:
    """Raises UserError where two stages would be asked differently: their results would not be comparable."""
    generation = {key for key in (*first.training, *job.training) if key.startswith("generation_")}
    for key in sorted(generation):
        if first.training.get(key) != job.training.get(key):
            raise UserError(
                f"{job.name}: training.{key}: {job.training.get(key)}: is {first.training.get(key)} in {first.name};"
                " one chain has one table: give it one value"
            )
    if first.task != job.task:
        raise UserError(f"{job.name}: task: {job.task}: is {first.task} in {first.name}; one chain has one task")


def measure_others(
    job: Job, sets: Sets, directories: Directories, environment: Mapping[str, str], *, with_base: bool
) -> None:
    """Transcribes those of `sets` that are none of the job's own with its model, and with its base if so asked."""
    others = {name: sources for name, sources in sets.items() if name not in job.data.eval}
    if not others:
        return
    folder = run_folder(job, directories)
    place = folder.path / "evaluations" / CHAIN
    widened = job.model_copy(
        update={
            "data": job.data.model_copy(update={"eval": others}),
            "gates": Gates(),
            "evaluation": Evaluation(normalizer=job.evaluation.normalizer),
        }
    )
    inputs = hash_of(
        [
            code_digest(EVALUATION_CODE),
            decoding_inputs(job),
            {name: eval_fingerprint(widened, sources) for name, sources in others.items()},
            model_digest(folder.path),
            base_digest(job, directories) if with_base else None,
        ]
    )
    if (place / "inputs.json").is_file() and read_json(place / "inputs.json")["digest"] == inputs:
        return
    with locked(folder.path / LAUNCHER_LOCK), unwinding_on_sigterm(), cache_in_use(directories.cache):
        say = open_log(folder.logs / EVALUATION_LOG)
        say(f"{job.name}: evaluating on the other sets of the chain: {', '.join(others)}")
        models = choose_models(widened, folder, [], None, directories)
        request = make_request(widened, models if with_base else models[:1], folder, place, directories)
        evaluate(request, environment, say)
        write_json(place / "inputs.json", {"digest": inputs})


def transcription_files(job: Job, sets: Sets, directories: Directories, *, of_base: bool = False) -> dict[str, Path]:
    """Set -> the file of what the job's model (or its base) heard; without those that were not transcribed.

    What an earlier model of the same job heard does not count.
    """
    folder, label = run_folder(job, directories).path, BASELINE if of_base else TUNED
    digest = model_digest(folder)
    found = {}
    for name in sets:
        own = folder / "evaluation" if name in job.data.eval else folder / "evaluations" / CHAIN
        path = own / "transcriptions" / label / f"{name}.jsonl"
        if path.is_file() and (of_base or read_header(path).get("model_digest") == digest):
            found[name] = path
    return found
