"""The kernels that training runs on: fused attention, the fused optimizer."""

from typing import Any

import pytest
import torch

from tests.whisper import POSITIONS, make_batch, make_whisper
from whisper_train.training.window import see_positions

ATTENTION = "aten::scaled_dot_product_attention"
FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"


def operators(model: Any, **inputs: Any) -> dict[str, int]:
    """How often each operator of torch ran in a forward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(**make_batch(), **inputs)
    return {event.key: event.count for event in profile.key_averages()}


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_torchs_fused_one_also_where_spec_augment_masks(masked: bool) -> None:
    """Its mask says where there is speech to be masked; it is none of the attention, which would cost the fast way."""
    model = make_whisper(500, apply_spec_augment=masked, mask_time_prob=0.1)
    assert model.config._attn_implementation == "sdpa"
    heard = torch.ones(3, 2 * POSITIONS, dtype=torch.long)
    heard[0, POSITIONS:] = 0
    ran = operators(model, **({"attention_mask": heard} if masked else {}))
    assert ran[ATTENTION] == ran[FUSED] == 3, "of the encoder, and the decoder's two"


def test_a_short_window_keeps_the_fused_attention() -> None:
    model = make_whisper(500)
    see_positions(model, POSITIONS)
    assert operators(model)[FUSED] == 3


def test_the_default_optimizer_is_torchs_fused_adamw() -> None:
    from transformers import Seq2SeqTrainingArguments, Trainer

    arguments = Seq2SeqTrainingArguments(use_cpu=True)
    optimizer, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    assert optimizer is torch.optim.AdamW
    assert options["fused"] is True
