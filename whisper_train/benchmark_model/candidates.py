"""What is measured: the float model in several files, its integers by rounding, and those that were trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed, UserError
from whisper_train.export.convert import EXPORT, convert
from whisper_train.export.forms import Form
from whisper_train.export.transcribe import find_format
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.model import MODEL_FILES, files_digest, hub_problem, resolve_place
from whisper_train.paths import Directories, as_size, read_json
from whisper_train.planning.bases import dimensions_of_folder

FLOAT, POST, TRAINED = "float", "post-training", "QAT"  # where a model's grid comes from
FLOAT_FORMS = tuple(Form(*pair) for pair in (("onnx", "fp32"), ("onnx", "fp16")))
FLOAT_FORMS += tuple(Form(*pair) for pair in (("ctranslate2", "fp32"), ("ctranslate2", "fp16")))
INTEGER_FORMS = tuple(Form(*pair) for pair in (("onnx", "int8"), ("onnx", "int4"), ("ctranslate2", "int8")))
MEASURED = ("onnx", "ctranslate2")  # of what may lie in a folder of exports
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.05, "int4": 0.6}  # of a weight, with its share of the scales


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One file to measure: how it is called, where its grid comes from, and where it lies."""

    name: str
    origin: str
    format: str  # onnx, ctranslate2 or transformers
    precision: str  # fp32, fp16, bf16, int8 or int4
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model folder whose exports are measured; `convert` knows it as `name`, and `exports` is where they lie."""

    name: str
    folder: Path
    exports: Path
    origin: str  # of its integers


def make_candidate(origin: str, form: Form, folder: Path) -> Candidate:
    name = f"{form.format} {form.precision}" + ("" if origin == FLOAT else f" {origin}")
    return Candidate(name=name, origin=origin, format=form.format, precision=form.precision, folder=str(folder))


def models_of(job: Job, directories: Directories) -> tuple[Model, Model | None]:
    """The float model of `job`, and the one that it trained for integers, if it did; UserError where there is none."""
    own = directories.models / job.name
    if not job.data.train:
        return open_model(job.base, job.base_revision, directories, job.name), None
    if job.quantization is None:
        return Model(name=str(own), folder=own, exports=own / "exports", origin=POST), None
    if job.base == "new":
        raise UserError(
            f"{job.name}: base: new: there is no float model to compare with; quantize one that is trained"
            " (base: job:<name>)"
        )
    trained = Model(name=str(own), folder=own, exports=own / "exports", origin=TRAINED)
    return open_model(job.base, job.base_revision, directories, job.name), trained


def open_model(base: str, revision: str | None, directories: Directories, job: str) -> Model:
    """The model that a job's `base` names, on this disk; its exports lie where `whisper-train convert` puts them."""
    place = Path(resolve_place(base, directories))
    if not place.is_absolute():
        place = fetch(base, revision)
    if not (place / "config.json").is_file():
        raise UserError(f"{job}: base: {base}: no model there ({place}); train it first, or check the path")
    name = place.name if Path(resolve_place(base, directories)).is_absolute() else Path(base).name
    return Model(name=str(place), folder=place, exports=directories.models / name / "exports", origin=POST)


def fetch(name: str, revision: str | None) -> Path:
    """The folder in the hub's cache that holds the model `name`."""
    from huggingface_hub import snapshot_download

    try:
        patterns = [*MODEL_FILES, "README.md", "LICENSE*"]
        found = snapshot_download(
            name, revision=revision, allow_patterns=patterns, local_files_only=hub_problem() is not None
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"base: {name}: cannot be fetched ({reason}); fetch it where there is a network") from error
    return Path(found)


def forms_of(model: Model, job: Job) -> list[Form]:
    """What is measured of `model`: of a trained one its own grid, and what else of it has been converted already."""
    if model.origin == POST:
        return [*FLOAT_FORMS, *INTEGER_FORMS]
    assert job.quantization is not None
    own = [Form(job.quantization.target, job.quantization.scheme)]
    there = [form for form in INTEGER_FORMS if form not in own and (model.exports / form.folder / EXPORT).is_file()]
    return own + there


def list_candidates(job: Job, directories: Directories) -> list[Candidate]:
    """Every candidate of `job`, whether it has been converted or not; the float model in torch first."""
    model, trained = models_of(job, directories)
    found = [make_candidate(FLOAT, Form("transformers", "fp32"), model.folder)]
    found.append(make_candidate(FLOAT, Form("transformers", "bf16"), model.folder))
    for one in (model, trained):
        for form in forms_of(one, job) if one else []:
            origin = FLOAT if form.bits is None else one.origin if one else POST
            found.append(make_candidate(origin, form, (one or model).exports / form.folder))
    return found


def given_candidates(folders: Sequence[Path]) -> list[Candidate]:
    """Candidates that the user names: exported folders, or models in transformers' form; the first is the measure."""
    found = []
    for folder in folders:
        facts = find_format(folder)
        if facts == "ggml":
            raise UserError(f"benchmark-model: {folder}: whisper.cpp is not measured; name another format")
        path = folder.absolute() / EXPORT
        export = read_json(path) if path.is_file() else {}
        if facts == "safetensors":
            form, origin = Form("transformers", "fp32"), FLOAT
        elif not export:
            raise UserError(f"benchmark-model: {folder}: has no {EXPORT}; convert the model (whisper-train convert)")
        else:
            form = Form(export["format"], export["precision"])
            origin = FLOAT if form.bits is None else TRAINED if export.get("trained_for") else POST
        one = make_candidate(origin, form, folder.absolute())
        name = f"{one.name} ({folder.absolute().parent.parent.name if export else folder.absolute().name})"
        found.append(Candidate(name=name, origin=origin, format=one.format, precision=one.precision, folder=one.folder))
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"benchmark-model: {twice}: is named twice; name each folder once")
    return found


def check_current(candidate: Candidate, source: Path) -> None:
    """Raises UserError for an export that was made of another model than the one in `source`."""
    facts = read_json(Path(candidate.folder) / EXPORT)
    if facts.get("source_digest") != files_digest(source):
        raise UserError(
            f"{display(Path(candidate.folder))}: was converted of another model than {display(source)} holds now;"
            " remove that folder, and the same command converts it again"
        )


def convert_missing(
    job: Job, candidates: Sequence[Candidate], directories: Directories, say: Callable[[str], None]
) -> dict[str, str]:
    """Converts what is not there yet, as `whisper-train convert` does; says beforehand what disk that takes.

    Returns by candidate why it could not be converted: the others are measured all the same.
    """
    model, trained = models_of(job, directories)
    missing: list[tuple[Candidate, Model]] = []
    for one in candidates:
        source = trained if trained and one.origin == TRAINED else model
        if one.format == "transformers":
            continue
        if (Path(one.folder) / EXPORT).is_file():
            check_current(one, source.folder)
        else:
            missing.append((one, source))
    if not missing:
        return {}
    parameters = dimensions_of_folder(model.folder).parameters
    size = sum(parameters * BYTES[one.precision] for one, _ in missing)
    say(f"converting {len(missing)} files that are missing; they will take about {as_size(size)}")
    failed = {}
    for one, source in missing:
        form = Form(one.format, one.precision)
        try:
            convert(
                source.name, form, directories, output=Path(one.folder), language=job.language, say=prefixed(say, one)
            )
        except RunFailed as error:
            failed[one.name] = f"its conversion failed: {error}"
            say(f"{one.name}: {failed[one.name]}")
    return failed


def prefixed(say: Callable[[str], None], candidate: Candidate) -> Callable[[str], None]:
    """Says what the conversion says, with the candidate's name before it."""
    return lambda line: say(f"{candidate.name}: {line}")


def write_bfloat16(source: Path, folder: Path) -> None:
    """The model of `source` in bfloat16, as transformers saves it: the file whose size and speed are measured."""
    import torch

    from whisper_train.model import load_model, load_processor

    load_model(str(source)).to(torch.bfloat16).save_pretrained(folder)
    load_processor(str(source)).save_pretrained(folder)


def as_facts(candidate: Candidate) -> dict[str, Any]:
    return {key: getattr(candidate, key) for key in ("name", "origin", "format", "precision", "folder")}
