"""The section `quantization:` of a job: what goes together, and what each mistake is told."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.tiny import tiny_job, write_job
from whisper_train.job import Job

INT8: dict[str, Any] = {"scheme": "int8", "target": "onnx"}
CTRANSLATE2: dict[str, Any] = {"scheme": "int8", "target": "ctranslate2"}
BASED: dict[str, Any] = {"base": "./somewhere", "architecture": None}


def check(run_cli: RunCli, place: Path, quantization: dict[str, Any], **sections: Any) -> str:
    result = run_cli("check", write_job(place, **BASED, **sections, quantization=quantization))
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"scheme": "int4", "target": "ctranslate2"}, "would become int8; write target: onnx"),
        ({**INT8, "scheme": "int3"}, "quantization.scheme"),
        ({"scheme": "int8"}, "quantization.target: is missing"),
        ({**INT8, "target": "ggml"}, "quantization.target"),
        ({**CTRANSLATE2, "group_size": 64}, "group_size: CTranslate2 has one scale for each row"),
        ({**CTRANSLATE2, "activations": False}, "CTranslate2 multiplies int8 by int8"),
        ({**CTRANSLATE2, "keep_float": ["proj_out"]}, "rounds every matrix when it loads"),
        ({**INT8, "group_size": 100}, "ONNX Runtime has 16, 32, 64, 128, 256"),
        ({**INT8, "start_step": 1.5}, "start_step: 1.5: give whole steps"),
        ({**INT8, "start_step": -1}, "quantization.start_step"),
        ({**INT8, "distillation": {"weight": 0}}, "quantization.distillation.weight"),
        ({**INT8, "distillation": {"temperatur": 1}}, "unknown key; did you mean temperature?"),
        ({**INT8, "keep_floats": []}, "unknown key; did you mean keep_float?"),
    ],
)
def test_what_no_runtime_does_is_refused_with_the_way_out(
    run_cli: RunCli, place: Path, quantization: dict[str, Any], message: str
) -> None:
    assert message in check(run_cli, place, quantization)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"lora": {"rank": 2}}}, "leave out model.lora"),
        ({"averaging": {"weights": [0.5]}}, "averaging: null"),
        ({"data": {"train": []}}, "data.train is missing"),
    ],
)
def test_what_cannot_be_quantized_is_refused(
    run_cli: RunCli, place: Path, sections: dict[str, Any], message: str
) -> None:
    assert message in check(run_cli, place, INT8, **sections)


def test_random_weights_teach_nothing(run_cli: RunCli, place: Path) -> None:
    result = run_cli("check", write_job(place, quantization={**INT8, "distillation": {}}))
    assert result.exit_code == 2
    assert "have nothing to teach" in result.output


@pytest.mark.parametrize(
    ("given", "group_size", "activations"),
    [
        ({"scheme": "int4", "target": "onnx"}, 128, True),
        ({"scheme": "int4", "target": "onnx", "group_size": None, "activations": False}, 128, False),
        (INT8, None, True),
        ({**INT8, "group_size": 32, "activations": False}, 32, False),
        (CTRANSLATE2, None, True),
    ],
)
def test_a_resolved_job_says_what_the_scheme_decided(given: Any, group_size: int | None, activations: bool) -> None:
    job = Job.model_validate({"name": "tiny", **tiny_job(quantization=given)})
    assert job.quantization is not None
    assert (job.quantization.group_size, job.quantization.activations) == (group_size, activations)
    again = Job.model_validate(job.model_dump(mode="json"))
    assert again == job
