"""The traced step: how it follows what the job says, and shallow models the deep ones."""

from dataclasses import replace
from typing import Any

import pytest

from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.planning.bases import SIZES, Dimensions
from whisper_train.planning.estimate import estimate, trace, trace_whole
from whisper_train.planning.setup import Setup

NARROW = Dimensions(width=64, heads=2, encoder_layers=2, decoder_layers=2, vocabulary=500)


def setup(dimensions: Dimensions = NARROW, *, batch: int = 2, accumulation: int = 1, **sections: Any) -> Setup:
    values = {"name": "job", "language": "de", "base": "./x", **sections}
    data = {"train": [{"manifest": "a.csv"}], "eval": [{"manifest": "b.csv"}]}
    layout = Layout(ranks=1, ranks_per_host=1, per_device=batch, accumulation=accumulation, threads=1)
    return Setup(
        dimensions=dimensions,
        job=Job.model_validate({"data": data, **values}),
        layout=layout,
        precision="fp32",
        deepspeed=None,
        seconds=5.0,
        tokens=20,
        card=False,
    )


def test_parameters_are_those_of_the_model() -> None:
    assert trace(setup()).parameters == NARROW.parameters


def test_activations_grow_with_the_batch_and_weights_do_not() -> None:
    one, two, three = (trace(setup(batch=batch)) for batch in (1, 2, 3))
    assert one.weights == two.weights == three.weights == 4 * NARROW.parameters
    step = two.activations + two.gradients - one.activations - one.gradients
    assert step > 0
    assert three.activations + three.gradients - two.activations - two.gradients == pytest.approx(step, rel=0.01)


def test_checkpointing_takes_less() -> None:
    usual = trace(setup(batch=4))
    checkpointed = trace(setup(batch=4, machine={"gradient_checkpointing": True}))
    assert checkpointed.activations < 0.7 * usual.activations


def test_gradients_of_earlier_micro_steps_stay_beside_the_activations() -> None:
    one, several = trace(setup()), trace(setup(accumulation=2))
    assert several.gradients == 4 * several.trained
    assert several.gradients + several.activations > one.gradients + one.activations


def test_frozen_parts_and_adapters_learn_less() -> None:
    whole = trace(setup())
    frozen = trace(setup(model={"freeze": ["encoder"]}))
    adapted = trace(setup(model={"lora": {"rank": 4}}))
    assert adapted.trained < frozen.trained < whole.trained
    assert adapted.parameters > whole.parameters


def test_a_deep_model_is_followed_from_shallow_ones() -> None:
    deep = replace(NARROW, encoder_layers=14, decoder_layers=13)
    asked = replace(setup(deep, machine={"gradient_checkpointing": True}), deepspeed={}, precision="bf16")
    followed, whole = trace(asked), trace_whole(asked)
    assert followed.weights == whole.weights
    assert followed.trained == whole.trained
    assert followed.activations == pytest.approx(whole.activations, rel=0.02)


def test_layers_that_are_frozen_by_number_are_not_taken_for_alike() -> None:
    deep = replace(NARROW, encoder_layers=14)
    asked = setup(deep, model={"freeze": ["encoder.layers.0-3"]})
    assert trace(asked).trained == trace_whole(asked).trained


def test_the_fullest_moment_is_told_and_its_parts_add_up() -> None:
    few = estimate(replace(setup(SIZES["tiny"], batch=1), tokens=2, seconds=1.0))[0]
    many = estimate(setup(batch=8))[0]
    assert {few.moment, many.moment} <= {"the backward pass", "the optimizer's step"}
    for memory in (few, many):
        parts = memory.weights + memory.gradients + memory.optimizer + memory.activations + memory.buffers
        assert memory.total == parts + memory.process
        assert memory.host >= memory.total


def test_a_quantized_training_keeps_a_rounded_copy_of_the_weights() -> None:
    weights_alone = {"scheme": "int4", "target": "onnx", "activations": False}
    usual, quantized = trace(setup()), trace(setup(quantization=weights_alone))
    more = quantized.activations + quantized.gradients - usual.activations - usual.gradients
    assert quantized.weights == usual.weights
    assert 0.4 * usual.weights < more < 1.5 * usual.weights
    inputs_too = trace(setup(quantization={**weights_alone, "activations": True}))
    assert inputs_too.activations > quantized.activations  # q, k and v keep a rounded input each


def test_a_teacher_is_a_second_model_without_gradients() -> None:
    alone = trace(setup(quantization={"scheme": "int4", "target": "onnx"}))
    taught = trace(setup(quantization={"scheme": "int4", "target": "onnx", "distillation": {}}))
    assert taught.weights == 2 * alone.weights
    assert taught.trained == alone.trained
    assert taught.activations < 1.5 * alone.activations


def test_layers_that_stay_float_by_number_are_traced_whole() -> None:
    deep = replace(NARROW, encoder_layers=14)
    quantization = {"scheme": "int4", "target": "onnx", "keep_float": ["encoder.layers.13"]}
    assert trace(setup(deep, quantization=quantization)).trained > 0
