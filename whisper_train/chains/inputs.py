"""What a result depends on, beside its job: the code that learns, the weights it began from, the data."""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from whisper_train.augment.settings import dump_settings, recordings_digest, training_settings
from whisper_train.data.prepare import hash_of, set_fingerprint
from whisper_train.job import Job
from whisper_train.job_augment import Augment
from whisper_train.job_data import Source
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.machine import list_gpus
from whisper_train.model import files_digest, model_files, resolve_place
from whisper_train.paths import Directories, read_json, write_json

# The parts of this package that decide what a run learns, and what an evaluation makes of it.
LEARNING_CODE: tuple[str, ...] = ("training", "data", "augment", "audio.py", "create.py", "labels.py")
LEARNING_CODE += ("model.py", "model_parts.py", "quantization", "evaluation/words.py")
EVALUATION_CODE: tuple[str, ...] = ("augment", "averaging", "evaluation", "evaluate.py", "evaluate_job.py")
EVALUATION_CODE += ("quantization",)
ENTITIES_CODE = ("entities", "job_entities.py")  # of jobs that learn to find entities, in both
KNOWN_DIGEST = ".model-digest.json"


def learning_inputs(job: Job, directories: Directories) -> dict[str, str]:
    """What run.json keeps as `inputs`: digests of what the weights of a run depend on, beside the job itself."""
    return {
        "code": code_digest(learning_code(job)),
        "base": base_digest(job, directories),
        "data": heard_fingerprint(job, job.data.training_sources, training_settings(job.data)),
    }


def evaluation_inputs(job: Job, folder: Path) -> str:
    """A digest of what the results and reports of the run in `folder` depend on, its weights included."""
    asked = job.model_dump(mode="json", include={"evaluation", "gates", "card", "averaging", "language", "task"})
    sets = {name: eval_fingerprint(job, sources) for name, sources in job.data.eval.items()}
    return hash_of([code_digest(evaluation_code(job)), asked, decoding_inputs(job), sets, model_digest(folder)])


def learning_code(job: Job) -> tuple[str, ...]:
    """What decides what `job` learns; a speech job that learns made-up travel orders depends on their grammar too."""
    orders = any(source.synthetic and source.synthetic.travel for source in job.data.training_sources)
    return LEARNING_CODE + (ENTITIES_CODE if job.task == ENTITIES_TASK or orders else ())


def evaluation_code(job: Job) -> tuple[str, ...]:
    return EVALUATION_CODE + (ENTITIES_CODE if job.task == ENTITIES_TASK or job.evaluation.travel else ())


def decoding_inputs(job: Job) -> list[Any]:
    """What decides how `job` has text generated, and in which precision, as far as it is known without torch."""
    generation = {key: value for key, value in sorted(job.training.items()) if key.startswith("generation_")}
    half = [job.training.get(key) for key in ("bf16", "fp16")]
    on_gpu = job.machine.device == "auto" and bool(list_gpus(os.environ))
    return [generation, half, job.machine.precision, on_gpu]


def heard_fingerprint(job: Job, sources: Sequence[Source], settings: Sequence[Augment | None]) -> str:
    """Changes when the sources change, or what `settings` do to the audio of each, the noise they add included."""
    return hash_of([set_fingerprint(job, sources), dump_settings(settings), recordings_digest(settings)])


def eval_fingerprint(job: Job, sources: Sequence[Source]) -> str:
    return heard_fingerprint(job, sources, [source.augment for source in sources])


def base_digest(job: Job, directories: Directories) -> str:
    """Tells the weights that `job` starts from from any others; of the hub only the revision that the job names.

    Empty for the result of a job that has none yet.
    """
    if job.base == "new":
        return "new"
    place = resolve_place(job.base, directories)
    if job.base.startswith("job:"):
        return model_digest(Path(place))
    return files_digest(Path(place)) if Path(place).is_dir() else f"{job.base}@{job.base_revision}"


def model_digest(folder: Path) -> str:
    """A run folder's files_digest, which is read from the disk again only when one of its files has changed."""
    known = folder / KNOWN_DIGEST
    states = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in model_files(folder)]
    if not states:
        return ""
    before: dict[str, Any] = read_json(known) if known.is_file() else {}
    if before.get("files") != states:
        before = {"files": states, "digest": files_digest(folder)}
        write_json(known, before)
    return str(before["digest"])


@cache
def code_digest(parts: tuple[str, ...]) -> str:
    """A hash of the source files of these modules and packages of whisper_train."""
    package = Path(__file__).parent.parent
    total = hashlib.sha256()
    for part in parts:
        place = package / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place] * place.is_file():
            described = [str(path.relative_to(package)), path.read_text(encoding="utf-8")]
            total.update(json.dumps(described).encode())
    return total.hexdigest()
