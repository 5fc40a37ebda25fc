"""Reads job files into a Job: YAML, `extends`, `${ENV}`, `--set`, and the machine profile below them all."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.job_errors import Layer, validate
from whisper_train.paths import find_config_dir, find_directories
from whisper_train.secret_values import SECRET_NAME
from whisper_train.strict_yaml import MAX_CHARACTERS, load_yaml
from whisper_train.training_settings import DEFAULTS, ENTITY_DEFAULTS

# The keys of a source, and of the job, that hold a path; relative ones are relative to the file they stand in.
SOURCE_PATHS = ("manifest", "folder", "common_voice", "parquet", "conll", "spans")
SHOWN_CHARACTERS = 200  # of what is wrong, in a message


def load_job(
    path: Path,
    *,
    machine_path: Path | None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Job:
    """The validated job of `path` on a machine profile; raises UserError listing every problem found."""
    environment = os.environ if environment is None else environment
    layers = read_layers(path, environment)
    if not layers[-1].values.get("name"):
        layers[-1].values["name"] = path.stem
    return build_job(layers, machine_path=machine_path, overrides=overrides, environment=environment)


def build_job(
    layers: list[Layer],
    *,
    machine_path: Path | None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str],
) -> Job:
    """Lays `layers` (the strongest last) over the defaults and the machine profile, and `overrides` over them."""
    layers = [*layers, *(parse_override(text) for text in overrides)]
    bottom = [Layer("defaults", {"training": with_defaults(layers)})]
    if machine_path:
        profile = substitute(read_yaml(machine_path), environment, display(machine_path))
        bottom.append(Layer(display(machine_path), {"machine": {"name": machine_path.stem, **profile}}))
    layers = [*bottom, *layers]
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer.values)
    return validate(values, layers)


def with_defaults(layers: Sequence[Layer]) -> dict[str, Any]:
    """DEFAULTS, less those that what the job says itself replaces or contradicts."""
    training: dict[str, Any] = {}
    for layer in layers:
        section = layer.values.get("training")
        training |= section if isinstance(section, dict) else {}
    task = [layer.values["task"] for layer in layers if "task" in layer.values]
    defaults = DEFAULTS | (ENTITY_DEFAULTS if task[-1:] == [ENTITIES_TASK] else {})
    if {"per_device_train_batch_size", "gradient_accumulation_steps"} & training.keys():
        defaults.pop("global_batch_size")
    if "max_steps" in training:
        defaults.pop("num_train_epochs")
    if training.get("eval_strategy") in ("no", False):
        defaults["load_best_model_at_end"] = False
        defaults.pop("early_stopping_patience", None)
    if training.get("predict_with_generate") is False:
        defaults["metric_for_best_model"] = "loss"
    if "eval_steps" in training:
        defaults["save_steps"] = training["eval_steps"]
    if training.get("eval_strategy") in ("steps", "epoch"):
        defaults["save_strategy"] = training["eval_strategy"]
    return defaults


def read_layers(path: Path, environment: Mapping[str, str], seen: tuple[Path, ...] = ()) -> list[Layer]:
    """`path` and, before it, what it extends."""
    path = path.absolute()
    if path in seen:
        circle = " -> ".join(p.name for p in (*seen, path))
        raise UserError(f"{display(path)}: extends: goes in a circle ({circle}); remove one of them")
    origin = display(path)
    values = substitute(read_yaml(path), environment, origin)
    values = absolute_paths(values, path.parent, origin)
    check_base_is_no_folder(values.get("base"), path, environment)
    extends = values.pop("extends", None)
    if extends is None:
        return [Layer(origin, values)]
    if not isinstance(extends, str):
        raise UserError(f"{origin}: extends: {extends!r}: must be the name of a job or a path")
    parent = find_file(extends, [path.parent], ".yaml")
    if parent is None:
        raise UserError(f"{origin}: extends: {extends}: no such job beside it{suggest_file(extends, path.parent)}")
    below = read_layers(parent, environment, (*seen, path))
    below[-1].values.pop("name", None)
    return [*below, Layer(origin, values)]


def check_base_is_no_folder(base: Any, path: Path, environment: Mapping[str, str]) -> None:
    """Raises UserError for a base in the job `path` that reads as a hub id, and is a folder here or another's result.

    The libraries would take such a folder, and the job mean another model wherever it is started.
    """
    if not isinstance(base, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        return
    models, (owner, name) = find_directories(environment).models, base.split("/")
    folder = Path(base).absolute()
    if owner == models.name and is_folder(models / name):
        way_out = f"write job:{name} for the result of that job"
    elif is_folder(folder):
        way_out = f"write {os.path.relpath(folder, path.parent)} for the folder here"
    else:
        return
    raise UserError(f"{display(path)}: base: {base}: paths in a job are relative to its file; {way_out}")


def find_file(name: str, folders: Sequence[Path], suffix: str) -> Path | None:
    """`name` as a path, or as a name with `suffix` in one of `folders`; None when there is no such file.

    Raises UserError when it lies where this user may not look.
    """
    candidates = [expand_user(name), *(folder / name for folder in folders)]
    candidates += [folder / f"{name}{suffix}" for folder in folders]
    try:
        return next((path.absolute() for path in candidates if path.is_file()), None)
    except PermissionError as error:
        raise UserError(f"{error.filename}: may not be read by user {os.getuid()}; change its owner or mode") from error
    except OSError as error:
        raise UserError(f"{name[:SHOWN_CHARACTERS]}: is no path ({error.strerror})") from error


def expand_user(name: str) -> Path:
    """`name` with ~ as the home of its user, where there is such a user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def suggest_file(name: str, folder: Path) -> str:
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    near = get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(names)}" if names else ""


def find_job(name: str, environment: Mapping[str, str]) -> Path:
    """The file of a job given as a name in jobs/ or a path; raises UserError with the nearest name."""
    folder = find_config_dir(environment)
    path = find_file(name, [folder], ".yaml")
    if path is None:
        raise UserError(f"{name}: no such job in {display(folder)}{suggest_file(name, folder)}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises UserError with the line for anything else."""
    origin = display(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
        values = load_yaml(text)
    except FileNotFoundError as error:
        raise UserError(f"{origin}: no such file") from error
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: is not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}" if mark else origin
        lines = text.splitlines()
        in_line = mark is not None and mark.line < len(lines) and "${" in lines[mark.line]
        hint = "; within [ ] and { } put a value that holds ${ } in quotes" if in_line else ""
        raise UserError(f"{where}: not valid YAML: {error.problem or error.context}{hint}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}") from error
    if values is None:
        raise UserError(f"{origin}: is empty; see jobs/demo.yaml for a whole job")
    if not isinstance(values, dict):
        raise UserError(f"{origin}: holds {type(values).__name__}, not keys and values; see jobs/demo.yaml")
    return values


def display(path: Path) -> str:
    """`path` as people typed it: relative when it lies below the working directory."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def substitute(value: Any, environment: Mapping[str, str], origin: str, key: str = "") -> Any:
    """Replaces ${NAME} and ${NAME:-default} in every string of `value`."""
    if isinstance(value, dict):
        return {
            name: substitute(item, environment, origin, f"{key}.{name}".lstrip(".")) for name, item in value.items()
        }
    if isinstance(value, list):
        return [substitute(item, environment, origin, f"{key}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if SECRET_NAME.search(name):
            raise UserError(
                f"{origin}: {key}: ${{{name}}} looks like a secret; the program reads it from the environment"
            )
        found = environment.get(name) or default
        if found is None:
            raise UserError(f"{origin}: {key}: ${{{name}}} is not set; set it in .env or write ${{{name}:-default}}")
        return found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", replace, value)


def absolute_paths(values: dict[str, Any], folder: Path, origin: str) -> dict[str, Any]:
    """Makes the paths of a job file absolute: a relative one is relative to the file.

    Raises UserError, which begins with `origin`, for what cannot be a path.
    """

    def absolute(path: Any) -> Any:
        if not isinstance(path, str) or not path:
            return path
        try:
            resolved = (folder / Path(path).expanduser()).resolve()
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # those are told where it is read
                resolved.lstat()
            return str(resolved)
        except (OSError, RuntimeError) as error:  # too long, links in a circle, the home of nobody
            reason = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise UserError(f"{origin}: {path[:SHOWN_CHARACTERS]}: is no path ({reason})") from error

    def source(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        changed = {key: absolute(value[key]) for key in SOURCE_PATHS if key in value}
        if is_local(value.get("hub"), folder):
            changed["hub"] = absolute(value["hub"])
        return augmented({**value, **changed})

    def augmented(value: dict[str, Any]) -> dict[str, Any]:
        match value:
            case {"augment": {"noise": {"folder": folder, **noise}, **others}}:
                return {**value, "augment": {**others, "noise": {**noise, "folder": absolute(folder)}}}
        return value

    def sources(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: sources(item) for name, item in value.items()}
        return [source(item) for item in value] if isinstance(value, list) else value

    values = dict(values)
    if isinstance(data := values.get("data"), dict):
        values["data"] = {**augmented(data), **{key: sources(data[key]) for key in ("train", "eval") if key in data}}
        if isinstance(replay := data.get("replay"), dict) and "sources" in replay:
            values["data"]["replay"] = {**replay, "sources": sources(replay["sources"])}
    if is_local(values.get("base"), folder):
        values["base"] = absolute(values["base"])
    architecture = values.get("architecture")
    if isinstance(architecture, dict) and is_local(architecture.get("processor"), folder):
        values["architecture"] = {**architecture, "processor": absolute(architecture["processor"])}
    return values


def is_local(value: Any, folder: Path) -> bool:
    """Whether `value` is a path rather than a hub id: it looks like one, or such a folder is there."""
    if not isinstance(value, str) or value.startswith("job:") or not value or value == "new":
        return False
    return value.startswith((".", "/", "~")) or is_folder(folder / value)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that is too long for one is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def parse_override(text: str) -> Layer:
    """`a.b=value` as a layer; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+){,19}", key.strip()):
        raise UserError(f"--set {text[:SHOWN_CHARACTERS]}: write it as key.subkey=value")
    origin = f"--set {text[:SHOWN_CHARACTERS]}"
    try:
        parsed: Any = load_yaml(value)
    except yaml.YAMLError as error:
        raise UserError(f"{origin}: the value is not valid YAML") from error
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return Layer(origin, absolute_paths(parsed, Path.cwd(), origin))


def merge(below: Any, above: Any) -> Any:
    """Mappings are merged key by key, the upper one's first; anything else above replaces what is below.

    Null above removes what is below: an eval set, a section, a default.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        merged = {key: merge(below.get(key), value) for key, value in above.items()}
        merged |= {key: value for key, value in below.items() if key not in above}
        return {key: value for key, value in merged.items() if not (value is None and key in below and key in above)}
    return above


def dump_job(job: Job) -> str:
    """The resolved job as YAML that loads again to the same job."""
    return yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
