"""The table of training keys is that of the installed transformers, and reading jobs needs none of it."""

import dataclasses
import os
import subprocess
import sys
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from whisper_train.training_keys import CHOICES, OWNED, RENAMED, TRAINING_KEYS
from whisper_train.training_settings import DEFAULTS, KNOWN_KEYS, SettingsError, check_settings

# As a file can hold what is an object in Python; Literal[False] is the only literal among them.
IN_A_FILE = {
    "NoneType": "None",
    "GenerationConfig": "dict",
    "ParallelismConfig": "dict",
    "Path": "str",
    "Literal": "bool",
}


def words_of(annotation: Any) -> set[str]:
    """`float | None` -> {"float", "None"}, as the table writes it; the values of an enumeration are words."""
    kind = typing.get_origin(annotation) or annotation
    if kind in (typing.Union, types.UnionType):
        return set().union(*(words_of(part) for part in typing.get_args(annotation)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"str"}
    name = getattr(kind, "__name__", str(kind).rpartition(".")[2])
    return {IN_A_FILE.get(name, name)}


def test_the_table_is_that_of_the_installed_transformers() -> None:
    from transformers import Seq2SeqTrainingArguments

    hints = typing.get_type_hints(Seq2SeqTrainingArguments)
    fields = {field.name: words_of(hints[field.name]) for field in dataclasses.fields(Seq2SeqTrainingArguments)}

    assert TRAINING_KEYS.keys() == fields.keys()
    assert {key: set(kind.split(" | ")) for key, kind in TRAINING_KEYS.items()} == fields


def test_every_default_of_transformers_passes_the_table() -> None:
    from transformers import Seq2SeqTrainingArguments

    for field in dataclasses.fields(Seq2SeqTrainingArguments):
        if field.name in OWNED or field.default is dataclasses.MISSING:
            continue
        default = field.default.value if isinstance(field.default, Enum) else field.default
        check_settings({field.name: default})


def test_the_choices_are_those_of_transformers() -> None:
    from transformers import SchedulerType, Seq2SeqTrainingArguments
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy
    from transformers.training_args import OptimizerNames

    enumerations: dict[str, Any] = {"eval_strategy": IntervalStrategy, "logging_strategy": IntervalStrategy}
    enumerations |= {"save_strategy": SaveStrategy, "lr_scheduler_type": SchedulerType, "optim": OptimizerNames}
    choices = {key: sorted(member.value for member in kind) for key, kind in enumerations.items()}
    for field in dataclasses.fields(Seq2SeqTrainingArguments):
        if field.metadata.get("choices") and field.name not in OWNED:
            choices[field.name] = sorted(field.metadata["choices"])

    assert {key: sorted(words) for key, words in CHOICES.items()} == choices


def test_owned_and_renamed_keys_are_told_apart() -> None:
    gone = {"logging_dir", "overwrite_output_dir"}  # of older transformers

    assert OWNED.keys() - gone <= TRAINING_KEYS.keys()
    assert not RENAMED.keys() & KNOWN_KEYS.keys()
    assert not OWNED.keys() & KNOWN_KEYS.keys()
    assert DEFAULTS.keys() <= KNOWN_KEYS.keys()
    check_settings(DEFAULTS)


@pytest.mark.parametrize("key", [*OWNED, *RENAMED])
def test_a_key_that_cannot_be_set_says_what_to_do(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings({key: 1})
    assert caught.value.problems == [
        (
            key,
            f"set by the program: {OWNED[key]}"
            if key in OWNED
            else f"no longer a key of transformers; use {RENAMED[key]}",
        )
    ]


@pytest.mark.parametrize(
    ("key", "given", "kept"),
    [
        ("learning_rate", "1e-5", 1e-5),
        ("learning_rate", 1, 1.0),
        ("max_steps", "100", 100),
        ("warmup_steps", 0.1, 0.1),
        ("eval_strategy", False, "no"),  # YAML reads a bare no as false
        ("eval_steps", None, None),
        ("report_to", ["tensorboard"], ["tensorboard"]),
        ("report_to", "none", "none"),
        ("lr_scheduler_kwargs", {"num_cycles": 2}, {"num_cycles": 2}),
    ],
)
def test_values_are_read_as_the_types_of_transformers(key: str, given: Any, kept: Any) -> None:
    assert check_settings({key: given}) == {key: kept}


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("max_steps", True),
        ("max_steps", 1.5),
        ("learning_rate", None),
        ("learning_rate", float("inf")),
        ("fp16", "yes please"),
        ("fp16", 1),
        ("seed", -1),
        ("optim", ["adamw_torch"]),
        ("eval_strategy", True),
        ("eval_strategy", None),
    ],
)
def test_values_of_another_type_are_refused(key: str, given: Any) -> None:
    with pytest.raises(SettingsError):
        check_settings({key: given})


# What people type first must answer at once, and a mistake must be told before torch is imported.


def loaded_by(statement: str, place: Path) -> set[str]:
    """The modules that a process of its own holds after `statement`."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    code += "print(*sys.modules, file=sys.stderr)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stderr.split())


HEAVY = {"torch", "transformers", "datasets", "numpy", "pyarrow", "soundfile"}


def test_help_loads_nothing_heavy(place: Path) -> None:
    loaded = loaded_by("from whisper_train.cli import main; main(['--help'])", place)

    assert not loaded & (HEAVY | {"pydantic"})


def test_job_files_are_read_without_torch(place: Path) -> None:
    loaded = loaded_by(
        f"from whisper_train.job_file import load_job; from pathlib import Path;"
        f" load_job(Path({str(REPOSITORY / 'jobs' / 'demo.yaml')!r}), machine_path=None)",
        place,
    )

    assert not loaded & HEAVY


def test_a_job_is_checked_without_torch(place: Path) -> None:
    loaded = loaded_by("from whisper_train.cli import main; main(['check', 'demo'])", place)

    assert not loaded & {"torch", "transformers", "datasets"}


def test_the_schema_is_written_without_torch(place: Path) -> None:
    loaded = loaded_by("from whisper_train.cli import main; main(['schema', 'x.json'])", place)

    assert not loaded & HEAVY
