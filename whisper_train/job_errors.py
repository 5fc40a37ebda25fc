"""Turns what is wrong with a job into messages: `file: key: what is wrong; the way out`."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.training_settings import KNOWN_KEYS, UNKNOWN, SettingsError, check_settings

SHOWN_PROBLEMS = 20
SHOWN_CHARACTERS = 1_000  # of one problem

# Keys of earlier versions, and what stands for them now.
MOVED = {
    "model.freeze_encoder": "write freeze: [encoder]",
    "gates.long_form.minutes": "write it into evaluation.long_form",
    "gates.long_form.seconds": "write it into evaluation.long_form",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One file's (or flag's) share of a job."""

    origin: str
    values: dict[str, Any]


def validate(values: dict[str, Any], layers: Sequence[Layer]) -> Job:
    """The Job of merged values; raises UserError, one line per problem, each naming the file that holds the key."""
    lines = []
    try:
        check_settings(values.get("training", {}))
    except SettingsError as error:
        values = {key: value for key, value in values.items() if key != "training"}  # the rest is checked all the same
        for key, message in error.problems[: SHOWN_PROBLEMS + 1]:
            origin, name = origin_of(("training", key), layers), f"training.{key}".rstrip(".")
            lines.append(f"{origin}: {name}: {message}{near(key, KNOWN_KEYS, message)}")
    try:
        job = Job.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)[: SHOWN_PROBLEMS + 1]
        lines += [describe(problem, layers) for problem in problems]
    if lines:
        more = ["and more; mend these first"] if len(lines) > SHOWN_PROBLEMS else []
        raise UserError("\n".join([*map(shorten, lines[:SHOWN_PROBLEMS]), *more]))
    return job


def shorten(line: str) -> str:
    """A line without its middle where the value it shows would fill the screen."""
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 150]} … {line[-150:]}"


def describe(problem: Any, layers: Sequence[Layer]) -> str:
    """One problem found by pydantic as `file: key: what is wrong`."""
    location = tuple(part for part in problem["loc"] if part not in ("int", "literal['all']", "[key]"))
    key = ".".join(str(part) for part in location)
    origin = origin_of(location, layers)
    given = problem.get("input")
    shown = "" if isinstance(given, (dict, list)) else f"{given!r}: "
    match problem["type"]:
        case "extra_forbidden" if key in MOVED:
            return f"{origin}: {key}: has moved; {MOVED[key]}"
        case "extra_forbidden":
            known = known_keys(location[:-1])
            return f"{origin}: {key}: unknown key{near(str(location[-1]), known, UNKNOWN)}"
        case "missing":
            return f"{origin_of(location[:-1], layers)}: {key}: is missing; add it"
        case "value_error":
            text = str(problem["ctx"]["error"])
            return f"{origin}: {key}: {text}" if key else f"{origin}: {text}"
        case "string_type" if isinstance(given, bool):
            return f"{origin}: {key}: {given!r}: YAML reads yes, no, on and off as true or false; put it in quotes"
        case "model_type" | "dict_type":
            return f"{origin}: {key}: {given!r}: must hold keys and values"
        case "list_type" if origin.startswith("--set"):
            top = ".".join(part for part in key.split(".") if not part.isdigit())
            return f"{origin}: {key}: must be a list, which --set replaces whole: --set '{top}=[{{manifest: x.jsonl}}]'"
        case "bool_parsing" | "bool_type":
            return f"{origin}: {key}: {given!r}: must be true or false"
        case "list_type":
            return f"{origin}: {key}: {given!r}: must be a list; begin each of its entries with a dash"
        case "too_short":
            return f"{origin}: {key}: is empty; add an entry"
        case "string_pattern_mismatch":
            return f"{origin}: {key}: {given!r}: use letters, digits, dots, dashes and underscores"
        case _:
            return f"{origin}: {key}: {shown}{problem['msg'][0].lower()}{problem['msg'][1:]}"


def known_keys(location: Sequence[Any]) -> list[str]:
    """The keys that may stand at `location` of a job."""
    model: Any = Job
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        model = inner_model(model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def inner_model(annotation: Any) -> Any:
    """The model inside list[Model], dict[str, list[Model]] or Model | None."""
    for argument in getattr(annotation, "__args__", ()):
        found = inner_model(argument)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return annotation


def near(key: str, known: Any, message: str) -> str:
    if message != UNKNOWN:
        return ""
    closest = get_close_matches(key, list(known), n=1, cutoff=0.6)
    if closest:
        return f"; did you mean {closest[0]}?"
    return f"; known here: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else "; see docs/training.md"


def origin_of(location: Sequence[Any], layers: Sequence[Layer]) -> str:
    """The origin of the strongest layer that holds `location`, or the longest part of it that any holds."""
    for depth in range(len(location), 0, -1):
        for layer in reversed(layers):
            if holds(layer.values, location[:depth]):
                return layer.origin
    files = [layer.origin for layer in layers if not layer.origin.startswith("--set") and layer.origin != "defaults"]
    return files[-1] if files else "job"


def holds(value: Any, location: Sequence[Any]) -> bool:
    for part in location:
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        else:
            return False
    return True
