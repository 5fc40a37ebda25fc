"""The flat form: one config.yaml of plain keys with flags over it, as small fine-tuning scripts have it, as a job."""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from whisper_train.data.tables import find_folder_table, read_rows
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source
from whisper_train.job_errors import Layer
from whisper_train.job_file import build_job, display, read_yaml, substitute
from whisper_train.paths import Directories, find_config_dir, find_directories
from whisper_train.run_folder import RunFolder
from whisper_train.run_log import print_line
from whisper_train.training_keys import OWNED, RENAMED
from whisper_train.training_settings import KNOWN_KEYS

FLAT_KEYS: tuple[str, ...] = (
    "lang",
    "dataset_name",
    "dataset_cache",
    "model_name",
    "model_cache",
    "gpu_device",
    "whisper_pretrained",
)
FLAT_KEYS += ("checkpoint_name", "checkpoint_dir", "hf_token")
REQUIRED = ("lang", "dataset_name", "model_name")
FLAG_KEYS = {  # click's name of a flag -> flat key; the others are called the same
    "gpu": "gpu_device",
    "name": "dataset_name",
    "cache": "dataset_cache",
}
EVAL_SPLITS = ("test", "validation", "valid", "val", "dev")
MANIFEST_SUFFIXES = (".jsonl", ".csv", ".tsv")


def train_flat(
    path: Path, flags: Mapping[str, Any], machine: str | None, overrides: Sequence[str], environment: dict[str, str]
) -> int:
    """Trains what the flat file says, with the flags over it; returns the exit status."""
    from whisper_train.machine import choose_profile, list_gpus
    from whisper_train.runner import train_job

    values = read_flat(path, flags, environment)
    environment = apply_environment(values, path, environment)
    profile, why = choose_profile(machine, find_config_dir(environment), list_gpus(environment))
    layer = Layer(display(path), flat_to_job(values))
    try:
        job = build_job([layer], machine_path=profile, overrides=overrides, environment=environment)
    except UserError as error:
        raise UserError(in_flat_words(str(error), layer.origin)) from error
    print_line(why)
    return train_job(job, environment, folder=flat_folder(values, job, find_directories(environment)))


def read_flat(path: Path, flags: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The checked values of a flat file; raises UserError naming every key that is unknown or missing."""
    origin = display(path)
    values: dict[str, Any] = read_yaml(path)
    token = values.pop("hf_token", None)
    values = dict(substitute(values, environment, origin))
    given = {FLAG_KEYS.get(flag, flag): value for flag, value in flags.items() if value is not None}
    if "checkpoint_name" in given and "checkpoint_dir" not in given:
        values["checkpoint_dir"] = None  # a new name starts fresh, in the folder of that name
    values |= given
    known = (*FLAT_KEYS, *KNOWN_KEYS)
    problems = []
    for key in values:
        if key not in known and key not in OWNED and key not in RENAMED:
            near = get_close_matches(key, known, n=1)
            problems.append(f"{origin}: {key}: unknown key{f'; did you mean {near[0]}?' if near else ''}")
    problems += [f"{origin}: {key}: is missing; add it" for key in REQUIRED if not values.get(key)]
    gpu = values.get("gpu_device")
    if isinstance(gpu, bool) or not isinstance(gpu, int | str | None):
        problems.append(f"{origin}: gpu_device: {gpu!r}: must be one number, or several as in '0,1'")
    for key in FLAT_KEYS:
        if key != "gpu_device" and not isinstance(values.get(key), str | None):
            problems.append(f"{origin}: {key}: {values[key]!r}: must be text; put it in quotes")
    if problems:
        raise UserError("\n".join(problems))
    return values | ({"hf_token": str(token)} if token else {})


def apply_environment(values: Mapping[str, Any], path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Puts GPU choice, caches and token where libraries look for them: the environment, and nowhere else."""
    changes = {}
    if values.get("gpu_device") is not None:
        changes["CUDA_VISIBLE_DEVICES"] = str(values["gpu_device"])
    if values.get("dataset_cache"):
        changes["CACHE_DIR"] = str(values["dataset_cache"])
    if values.get("model_cache"):
        changes["HF_HUB_CACHE"] = str(Path(values["model_cache"]).expanduser().absolute())
    if values.get("hf_token"):
        print_line(f"warning: {display(path)}: hf_token: a token does not belong in a file; put HF_TOKEN in .env")
        changes["HF_TOKEN"] = values["hf_token"]
    os.environ.update(changes)
    return {**environment, **changes}


def in_flat_words(message: str, origin: str) -> str:
    """A message about the job that a flat file makes, with the keys as they stand in the file."""
    words = {"training.": "", "language:": "lang:", "name:": "checkpoint_name:", "base:": "whisper_pretrained:"}
    for key, flat in words.items():
        message = message.replace(f"{origin}: {key}", f"{origin}: {flat}")
    return message


def flat_to_job(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a job file that mean the same as a flat file's."""
    model = values["model_name"]
    name = values.get("checkpoint_name") or f"{model.rpartition('/')[2]}-{values['lang']}"
    base = values.get("whisper_pretrained") or (model if "/" in model else f"openai/{model}")
    local = base.startswith((".", "/", "~")) or Path(base).is_dir()
    train, evaluation = flat_sources(values["dataset_name"], values["lang"])
    return {
        "name": name,
        "language": values["lang"],
        "base": str(Path(base).expanduser().absolute()) if local else base,
        "data": {"train": [train], "eval": {"eval": [evaluation]}},
        "training": {key: value for key, value in values.items() if key not in FLAT_KEYS},
    }


def flat_sources(name: str, language: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The training and the eval source of a data set: its own splits, else the last twentieth for evaluation."""
    path = Path(name).expanduser().absolute()
    if path.suffix in MANIFEST_SUFFIXES:
        source: dict[str, Any] = {"manifest": str(path)}
        splits = table_splits(path)
    elif path.is_dir() and (path / "clips").is_dir():
        source, splits = {"common_voice": str(path)}, [table.stem for table in path.glob("*.tsv")]
    elif path.is_dir() and not any(path.rglob("*.parquet")):
        source = {"folder": str(path)}
        table = find_folder_table(Source.model_validate(source), None)
        splits = table_splits(table) if table else []
    else:
        source = {"hub": str(path) if path.is_dir() else name}
        splits = hub_splits(source["hub"], language)
    evaluated = next((split for split in EVAL_SPLITS if split in splits), None)
    if "train" not in splits or evaluated is None:
        whole = "train" if "train" in splits else ""
        return {**source, "split": f"{whole}[:95%]"}, {**source, "split": f"{whole}[95%:]"}
    return {**source, "split": "train"}, {**source, "split": evaluated}


def table_splits(path: Path) -> list[str]:
    return sorted({str(row["split"]) for _, row in read_rows(path) if row.get("split")})


def hub_splits(name: str, language: str) -> list[str]:
    from whisper_train.data.parquet import open_hub

    builder = open_hub(Source(hub=name), language)
    return [str(split) for split in builder.config.data_files or {}]


def flat_folder(values: Mapping[str, Any], job: Job, directories: Directories) -> RunFolder:
    """The flat form keeps its runs in checkpoint_dir, by default ./checkpoints/<checkpoint_name>."""
    place = values.get("checkpoint_dir") or f"./checkpoints/{job.name}"
    return RunFolder(Path(place).expanduser().absolute(), directories.logs / job.name)
