"""Evaluation of entity models on the sets of a job: label, score, compare, judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_train.entities.model import load_encoder, load_tokenizer
from whisper_train.entities.predictions import Label, by_rules, open_labeller, write_predictions
from whisper_train.entities.prepare import settings_of
from whisper_train.entities.results import write_results
from whisper_train.entities.sentence import Sentence
from whisper_train.entities.sets import Sentences, is_audited, open_set, read_set
from whisper_train.evaluate import EvalModel, Request, model_digest
from whisper_train.evaluation.passages import choose_clips
from whisper_train.evaluation.results import BASELINE, TUNED
from whisper_train.model import resolve_place
from whisper_train.out_of_memory import evaluating
from whisper_train.paths import Directories
from whisper_train.run_folder import installed_versions

RULES = "rules"
RULES_NAME = "a list of places and the word before"


def check_models(models: Sequence[EvalModel]) -> None:
    """Raises UserError for one that cannot be loaded, or, if it is not the base, was not trained to label."""
    for model in models:
        load_tokenizer(model.place, revision=model.revision, key=model.key)
        load_encoder(model.place, revision=model.revision, key=model.key, seed=0 if model.label == BASELINE else None)


def evaluate(request: Request, environment: Mapping[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """Returns the results, which are in results.json as well."""
    from whisper_train.entities.room import check_evaluation_room

    models = with_baselines(request, say)
    request.folder.mkdir(parents=True, exist_ok=True)
    sets = {name: choose(open_eval_set(request, name), request.at_most) for name in request.sets}
    check_evaluation_room(request, models, [len(chosen) for chosen in sets.values()], say)
    for model in models:
        label, digest = open_model(request, model)
        for name, chosen in sets.items():
            header: dict[str, Any] = {"label": model.label, "model": model.name, "model_digest": digest, "set": name}
            header |= {"job": request.job.name, "language": request.job.language, "versions": installed_versions()}
            header |= seen_in_training(request, chosen) if model.label == TUNED else {}
            with evaluating(request.job.machine.per_device_eval_batch_size):
                labelled = label([sentence.tokens for sentence in chosen])
            write_predictions(predictions_file(request.folder, model.label, name), header, chosen, labelled)
    return write_results(request.folder, request.job, request.gates, request.sets, [model.label for model in models])


def choose(read: Sentences, at_most: int | None) -> list[Sentence]:
    """The sentences of a set that are measured."""
    return [read.sentences[one] for one in choose_clips(read.sentences, at_most)]


def predictions_file(folder: Path, label: str, name: str) -> Path:
    return folder / "predictions" / label / f"{name}.jsonl"


def with_baselines(request: Request, say: Callable[[str], None]) -> list[EvalModel]:
    """The models asked for; of a job's own evaluation also the base as it was, the rules, and what is named beside.

    A model beside that is not trained yet is told of, and left out.
    """
    if request.gates is None:
        return request.models
    job, models = request.job, list(request.models)
    if not any(model.label == BASELINE for model in models):
        place = str(request.trained.parent / "base")
        models.append(EvalModel(label=BASELINE, name="its random weights", place=place))
    models = [replace(one, name=f"zero-shot: {one.name}") if one.label == BASELINE else one for one in models]
    models.append(EvalModel(label=RULES, name=RULES_NAME, place="", digest=RULES))
    for name in settings_of(job).beside:
        place = resolve_place(name, Directories(cache=request.cache, models=request.trained.parents[1], logs=Path()))
        if name.startswith("job:") and not (Path(place) / "model.safetensors").is_file():
            say(f"beside: {name}: is not trained yet, and left out; make train EXP={name.removeprefix('job:')} does it")
            continue
        label = name.removeprefix("job:").strip("./~").replace("/", "--")
        models.append(EvalModel(label=label, name=name, place=place, key="entities.beside"))
    return models


def open_model(request: Request, model: EvalModel) -> tuple[Label, str]:
    """What labels sentences, and the digest of its weights."""
    if model.label == RULES:
        return by_rules, RULES
    job = request.job
    label = open_labeller(
        model.place,
        revision=model.revision,
        key=model.key,
        seed=job.training.get("seed", 42) if model.label == BASELINE else None,
        max_tokens=settings_of(job).max_tokens,
        size=job.machine.per_device_eval_batch_size,
    )
    return label, model_digest_of(model)


def model_digest_of(model: EvalModel) -> str:
    """As of a speech model; a base on the hub is known by name and revision."""
    return model_digest(model) if Path(model.place).is_dir() else f"{model.place}@{model.revision}"


def open_eval_set(request: Request, name: str) -> Sentences:
    """The eval set as the job's training audited it, or from its sources where those have changed since."""
    if is_audited(request.job, name, request.trained):
        return open_set(request.trained, f"eval.{name}")
    return read_set(request.job.data.eval[name])


def seen_in_training(request: Request, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """How many sentences, patterns and places of a set were in the training data too; nothing where they are gone."""
    if not (request.trained / "train.jsonl").is_file():
        return {}
    train = open_set(request.trained, "train").sentences
    texts = {sentence.text for sentence in train}
    patterns = {sentence.pattern for sentence in train} - {""}
    places = {name for sentence in train for name in names_in(sentence)}
    named = [name for sentence in sentences for name in names_in(sentence)]
    seen = {
        "same_text": sum(sentence.text in texts for sentence in sentences),
        "same_pattern": sum(sentence.pattern in patterns for sentence in sentences),
        "without_pattern": sum(not sentence.pattern for sentence in sentences),
        "places": len(named),
        "same_place": sum(name in places for name in named),
    }
    return {"contamination": seen}


def names_in(sentence: Sentence) -> list[str]:
    from whisper_train.entities.places import plain

    return [plain(sentence.text[span.start : span.end]) for span in sentence.spans]
