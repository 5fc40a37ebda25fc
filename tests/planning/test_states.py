"""Weights, gradients and optimizer by the rules of torch and DeepSpeed."""

from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from whisper_train.paths import read_json
from whisper_train.planning.states import plain_states, zero2_states
from whisper_train.planning.trace import Traced

LARGE_V3 = Traced(
    parameters=1_543_490_560,
    trained=1_541_570_560,
    largest=66_388_480,
    weights=2 * 1_543_490_560,
    gradients=0,
    activations=0,
)
GB = 1e9


def settings(name: str) -> dict[str, Any]:
    return dict(read_json(REPOSITORY / "jobs" / "deepspeed" / f"{name}.json"))


def two_cards(name: str, optimizer: str, accumulation: int = 8) -> Any:
    return zero2_states(LARGE_V3, optimizer, settings(name), held=2, ranks=2, accumulation=accumulation, card=True)


def backward(states: Any) -> Any:
    return states.moments[0]


def test_large_v3_on_two_cards_by_hand() -> None:
    """bf16 weights; float32 master, two moments and the sum of the gradients of half of them."""
    half = LARGE_V3.trained / 2
    states = two_cards("zero2-16gb", "adamw_torch_fused")
    assert states.optimizer == pytest.approx(12 * half)
    assert [moment.gradients for moment in states.moments] == pytest.approx([4 * half, 4 * half])
    eight_bit = two_cards("zero2-16gb", "adamw_bnb_8bit")
    assert states.optimizer - eight_bit.optimizer == pytest.approx(6 * half, rel=0.01)
    assert (eight_bit.weights + eight_bit.optimizer + backward(eight_bit).gradients) / GB == pytest.approx(
        10.8, abs=0.05
    )


def test_small_buckets_are_what_the_profile_for_16_gb_has() -> None:
    usual, small = two_cards("zero2", "adamw_bnb_8bit"), two_cards("zero2-16gb", "adamw_bnb_8bit")
    assert backward(usual).buffers - backward(small).buffers > 2 * GB


def test_offloaded_states_are_in_ram_and_not_on_the_card() -> None:
    states = two_cards("zero2-offload", "adamw_torch_fused")
    assert states.optimizer == backward(states).gradients == 0
    assert 2 * states.host / GB == pytest.approx(20 * LARGE_V3.trained / GB, rel=0.02)


def test_gradients_that_are_summed_in_their_own_type_are_there_twice() -> None:
    plain = {"zero_optimization": {"stage": 2}}
    once = zero2_states(LARGE_V3, "sgd", plain, held=2, ranks=1, accumulation=1, card=True)
    more = zero2_states(LARGE_V3, "sgd", plain, held=2, ranks=1, accumulation=2, card=True)
    assert backward(more).gradients == 2 * backward(once).gradients


def test_without_deepspeed_every_rank_has_all_and_several_have_buckets() -> None:
    one, two = (plain_states(LARGE_V3, "adamw_torch_fused", ranks=ranks, card=True) for ranks in (1, 2))
    assert one.optimizer == 8 * LARGE_V3.trained
    assert backward(one).buffers == 0
    assert backward(two).buffers == 4 * LARGE_V3.trained


def test_an_optimizer_that_is_not_known_counts_as_adam() -> None:
    known, unknown = (
        plain_states(LARGE_V3, name, ranks=1, card=True).optimizer for name in ("adamw_torch_fused", "schedule")
    )
    assert known == unknown


def test_bitsandbytes_on_a_processor_computes_in_whole_tensors() -> None:
    on_card, on_processor = (plain_states(LARGE_V3, "adamw_bnb_8bit", ranks=1, card=card) for card in (True, False))
    assert on_card.moments[-1].buffers == 0
    assert on_processor.moments[-1].buffers == 20 * LARGE_V3.largest


def test_on_a_processor_the_only_bucket_is_reduced_when_activations_are_gone() -> None:
    small = replace(LARGE_V3, trained=100_000_000, largest=1_000_000)
    states = zero2_states(small, "sgd", settings("zero2"), held=2, ranks=1, accumulation=1, card=False)
    before, reduction, _ = states.moments
    assert before.with_activations
    assert before.gradients == before.buffers == 0
    assert not reduction.with_activations
    assert reduction.buffers == 2 * 2 * small.trained + 4 * small.largest, (
        "the bucket, its flat copy, and one that is added"
    )

    narrow = zero2_states(small, "sgd", settings("zero2"), held=4, ranks=1, accumulation=1, card=False)
    assert narrow.moments[1].gradients + narrow.moments[1].buffers == 2 * 4 * small.trained
