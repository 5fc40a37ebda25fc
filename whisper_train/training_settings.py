"""The `training:` section: every key of Seq2SeqTrainingArguments, typed, and two of our own."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import core_schema

from whisper_train.training_keys import CHOICES, OWNED, RENAMED, TRAINING_KEYS

OWN_KEYS = {"global_batch_size": "int", "early_stopping_patience": "int | None"}
KNOWN_KEYS = {key: kind for key, kind in (TRAINING_KEYS | OWN_KEYS).items() if key not in OWNED}
TYPES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list, "None": None}
POSITIVE: tuple[str, ...] = ("global_batch_size", "per_device_train_batch_size", "per_device_eval_batch_size")
POSITIVE += ("gradient_accumulation_steps", "logging_steps", "save_steps", "eval_steps", "early_stopping_patience")
POSITIVE += ("num_train_epochs", "generation_num_beams", "generation_max_length")
NOT_NEGATIVE = ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "seed", "dataloader_num_workers")
SEEDS = 2**32  # numpy takes no larger seed
WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
WORDS |= {"dict": "keys and values", "list": "a list", "None": "null"}
MOST_SHOWN = 8  # of more choices a message names only the nearest

# What a job that is silent gets, where transformers' own default does not serve the fine-tuning of Whisper.
DEFAULTS: dict[str, Any] = {
    "global_batch_size": 32,
    "learning_rate": 1e-5,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "num_train_epochs": 1.0,
    "logging_steps": 25,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "wer",
    "predict_with_generate": True,
    "report_to": ["tensorboard"],
    "seed": 42,
}

# And for the fine-tuning of an encoder to find entities (docs/travel.md).
ENTITY_DEFAULTS: dict[str, Any] = {
    "global_batch_size": 16,
    "learning_rate": 5e-5,
    "num_train_epochs": 10.0,
    "eval_steps": 100,
    "save_steps": 100,
    "early_stopping_patience": 3,
    "metric_for_best_model": "macro_f1",
}


class SettingsError(Exception):
    """Wrong settings: (key, message) for each."""

    def __init__(self, problems: list[tuple[str, str]]):
        super().__init__("; ".join(f"{key}: {message}" for key, message in problems))
        self.problems = problems


class TrainingSettings(dict[str, Any]):
    """A checked mapping from key to value; what is missing has transformers' default."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            check_settings, serialization=core_schema.plain_serializer_function_ser_schema(dict)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "dict": "object"}
        names |= {"list": "array", "None": "null"}
        properties: dict[str, Any] = {
            key: {"enum": [*CHOICES[key], *([None] if may_be_null(key) else [])]}
            if key in CHOICES
            else {"type": [names[part] for part in kind.split(" | ")]}
            for key, kind in KNOWN_KEYS.items()
        }
        return {"type": "object", "properties": properties, "additionalProperties": False}


def check_settings(value: Any) -> TrainingSettings:
    """Checks names, types and how the keys fit together; raises SettingsError with every problem found."""
    if not isinstance(value, dict):
        raise SettingsError([("", f"{value!r}: must hold keys and values")])
    problems: list[tuple[str, str]] = []
    settings = TrainingSettings()
    for key, given in value.items():
        if key in RENAMED:
            problems.append((key, f"no longer a key of transformers; use {RENAMED[key]}"))
        elif key in OWNED:
            problems.append((key, f"set by the program: {OWNED[key]}"))
        elif key not in KNOWN_KEYS:
            problems.append((key, UNKNOWN))
        else:
            try:
                settings[key] = check_value(key, given)
            except ValueError as error:
                problems.append((key, str(error)))
    if not problems:
        problems.extend(check_together(settings))
    if problems:
        raise SettingsError(problems)
    return settings


UNKNOWN = "unknown key"  # the reader of job files adds the nearest known one


def check_value(key: str, given: Any) -> Any:
    """`given` as the type of `key`; raises ValueError saying what was expected."""
    if key in CHOICES and not (given is None and may_be_null(key)):
        word = {False: "no"}.get(given, given) if isinstance(given, bool) else given  # YAML reads a bare no as false
        if word not in CHOICES[key]:
            raise ValueError(f"{given!r}: {name_choices(given, CHOICES[key])}")
        return word
    kinds = KNOWN_KEYS[key].split(" | ")
    for kind in kinds:
        if isinstance(given, bool) and kind in ("int", "float"):
            continue
        try:
            checked = TypeAdapter(TYPES[kind]).validate_python(given, strict=kind in ("str", "bool", "None"))
        except ValidationError:
            continue
        if isinstance(checked, (int, float)) and not isinstance(checked, bool):
            check_number(key, checked)
        return checked
    raise ValueError(f"{given!r}: must be {' or '.join(WORDS[kind] for kind in kinds)}")


def may_be_null(key: str) -> bool:
    return "None" in KNOWN_KEYS[key].split(" | ")


def name_choices(given: Any, choices: Sequence[str]) -> str:
    """What may stand there instead of `given`: all of a short list, the nearest of a long one."""
    closest = get_close_matches(str(given), choices, n=1)
    if len(choices) > MOST_SHOWN and closest:
        return f"is not known; did you mean {closest[0]}?"
    return f"must be one of {', '.join(choices)}"


def check_number(key: str, number: float) -> None:
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{number}: must be a finite number")
    if key in POSITIVE and number <= 0:
        raise ValueError(f"{number:g}: must be more than 0")
    if key == "seed" and number >= SEEDS:
        raise ValueError(f"{number}: must be less than {SEEDS}")
    if key in NOT_NEGATIVE and number < 0:
        raise ValueError(f"{number:g}: must not be negative")


def check_together(settings: TrainingSettings) -> Iterator[tuple[str, str]]:
    """Yields (key, message) for keys that contradict each other."""
    if settings.get("bf16") and settings.get("fp16"):
        yield "fp16", "bf16 and fp16 are both on; choose one"
    both = [key for key in ("gradient_checkpointing", "activation_checkpointing") if key in settings]
    if len(both) == 2:
        yield both[0], "an older name of activation_checkpointing, which is there too; keep one"
    stop = settings.get("early_stopping_patience")
    keep_best = settings.get("load_best_model_at_end", False)
    strategy, save = settings.get("eval_strategy", "no"), settings.get("save_strategy", "steps")
    if (stop or keep_best) and strategy == "no":
        yield "eval_strategy", "no: keeping the best model needs evaluations; set steps or epoch"
    elif save == "best" and strategy == "no":
        yield "save_strategy", "best: there is no best model without evaluations; set eval_strategy"
    metric = str(settings.get("metric_for_best_model") or "loss").removeprefix("eval_")
    if metric not in ("wer", "cer", "loss", "macro_f1"):
        yield "metric_for_best_model", f"{metric}: must be wer, cer or loss, or macro_f1 of task: entities"
    if metric in ("wer", "cer") and keep_best and settings.get("predict_with_generate") is False:
        yield "predict_with_generate", f"false: {metric} is measured by generation; choose metric_for_best_model: loss"
    device, steps = settings.get("per_device_train_batch_size"), settings.get("gradient_accumulation_steps")
    total = settings.get("global_batch_size")
    if total and device and total % (device * (steps or 1)):
        yield "global_batch_size", f"{total}: must be a multiple of per_device_train_batch_size × accumulation"
