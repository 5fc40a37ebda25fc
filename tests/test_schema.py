"""The JSON schema that editors complete and check job files with."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, RunCli
from whisper_train.job import Job
from whisper_train.schema import job_schema
from whisper_train.training_settings import KNOWN_KEYS

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
TYPES |= {"integer": int, "number": (int, float)}


@cache
def schema() -> dict[str, Any]:
    return dict(json.loads(job_schema()))


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """`part`, or what its $ref points to."""
    while "$ref" in part:
        part = {
            **schema()["$defs"][part["$ref"].removeprefix("#/$defs/")],
            **{k: v for k, v in part.items() if k != "$ref"},
        }
    return part


def conforms(value: Any, part: dict[str, Any]) -> bool:
    """Whether `value` fits the part of JSON schema that pydantic writes."""
    part = resolve(part)
    if "anyOf" in part:
        return any(conforms(value, choice) for choice in part["anyOf"])
    if "enum" in part or "const" in part:
        return value in part.get("enum", [part.get("const")])
    names = part.get("type", [])
    kinds = [names] if isinstance(names, str) else names
    if kinds and not any(is_kind(value, kind) for kind in kinds):
        return False
    if isinstance(value, dict):
        known, rest = part.get("properties", {}), part.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                if not conforms(item, known[key]):
                    return False
            elif rest is False or (isinstance(rest, dict) and not conforms(item, rest)):
                return False
        return all(key in value for key in part.get("required", []))
    if isinstance(value, list):
        return all(conforms(item, part.get("items", {})) for item in value)
    return True


def is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def walk(part: Any) -> list[dict[str, Any]]:
    """Every mapping within a schema."""
    if isinstance(part, dict):
        return [part, *(found for item in part.values() for found in walk(item))]
    return [found for item in part for found in walk(item)] if isinstance(part, list) else []


def test_every_reference_and_type_is_known() -> None:
    for part in walk(schema()):
        if isinstance(part.get("$ref"), str):
            assert part["$ref"].removeprefix("#/$defs/") in schema()["$defs"]
        names = part.get("type")
        if isinstance(names, str | list):
            assert set([names] if isinstance(names, str) else names) <= TYPES.keys()


def test_every_key_of_a_job_is_there_and_no_other() -> None:
    assert schema()["properties"].keys() == Job.model_fields.keys() | {"extends"}
    assert schema()["additionalProperties"] is False
    training = resolve(schema()["properties"]["training"])
    assert training["properties"].keys() == KNOWN_KEYS.keys()
    assert training["additionalProperties"] is False


@pytest.mark.parametrize("path", sorted((REPOSITORY / "jobs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_jobs_conform(path: Path) -> None:
    assert conforms(yaml.safe_load(path.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"langauge": "de"},
        {"training": {"learning_rte": 1}},
        {"training": {"eval_strategy": "often"}},
        {"training": {"fp16": "maybe"}},
        {"model": {"freez": ["encoder"]}},
        {"data": {"train": [{"manifst": "x.csv"}]}},
        {"language": False},
    ],
)
def test_mistakes_do_not_conform(wrong: dict[str, Any]) -> None:
    assert not conforms(wrong, schema())


def test_the_schema_is_printed_or_written(place: Path, run_cli: RunCli) -> None:
    printed = run_cli("schema").output
    written = run_cli("schema", "sub/job.schema.json")

    assert written.exit_code == 0, written.output
    assert json.loads(printed) == schema()
    assert (place / "sub" / "job.schema.json").read_text(encoding="utf-8") == printed
