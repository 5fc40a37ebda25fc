"""The count of operations is that of torch, whatever is frozen."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.whisper import make_batch, make_whisper
from whisper_train.data.dataset import Counts
from whisper_train.model_parts import freeze_parts
from whisper_train.training.flops import StepFlops, count_passes, matmul_rate
from whisper_train.training.window import EncoderWindow, see_positions

# Attention by matrix products: torch's counter does not know the processor's fused kernel.
SIZES: dict[str, Any] = {"d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "attn_implementation": "eager"}


def counted(model: Any, windows: int, width: int, positions: int) -> int:
    """The operations of a training step, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        model(**make_batch(windows, width, frames=2 * positions)).logits.sum().backward()
    return int(counter.get_total_flops())


def expected(model: Any, windows: int, width: int, positions: int) -> float:
    window = EncoderWindow(most=positions, hop_length=160)
    flops = StepFlops(model.config, window, count_passes(model), labels_only=False)
    batch = Counts(windows, clips=1, audio_seconds=1.0, tokens=1, width=width, labels=1)
    return flops(batch)


@pytest.mark.parametrize(("windows", "width", "positions"), [(1, 8, 50), (3, 40, 50), (2, 40, 20)])
def test_every_product_of_forward_and_backward_is_counted(windows: int, width: int, positions: int) -> None:
    model = make_whisper(500, **SIZES)
    see_positions(model, positions)  # whatever the window
    config = model.config
    spectrogram = 2 * 3 * windows * 2 * positions * config.num_mel_bins * config.d_model  # its gradient: not computed
    assert expected(model, windows, width, positions) == counted(model, windows, width, positions) + spectrogram


def test_a_frozen_encoder_needs_no_backward_pass() -> None:
    model = make_whisper(500, **SIZES)
    freeze_parts(model, ["encoder"])
    # Torch leaves out the gradient of what the frozen encoder gives to the decoder; the formula does not.
    assert expected(model, 2, 40, 50) == pytest.approx(counted(model, 2, 40, 50), rel=0.08)


def test_adapters_save_the_products_for_the_weights() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make_whisper(500, **SIZES), LoraConfig(r=2, target_modules=["q_proj", "fc2"]))
    model.enable_input_require_grads()
    assert expected(model, 2, 40, 50) == pytest.approx(counted(model, 2, 40, 50), rel=0.1)


def test_only_what_has_a_label_is_projected_where_the_loss_does_it() -> None:
    model = make_whisper()
    batch = Counts(windows=2, clips=2, audio_seconds=1.0, tokens=20, width=40, labels=10)
    window = EncoderWindow(most=50, hop_length=160)
    all_of_it, labelled = (
        StepFlops(model.config, window, (3.0, 3.0), labels_only=only)(batch) for only in (False, True)
    )
    assert all_of_it - labelled == 3 * 2 * (80 - 10) * model.config.d_model * model.config.vocab_size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rate_of_products_is_measured_without_moving_the_random_numbers_of_training(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    expected_draw = torch.rand(1)
    torch.manual_seed(1)
    assert matmul_rate(torch.device("cpu"), dtype) > 1e8
    assert torch.equal(torch.rand(1), expected_draw)
