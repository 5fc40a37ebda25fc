"""The floating-point operations of a Whisper's matrix products, and how many the device does in a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from whisper_train.data.dataset import Counts
from whisper_train.training.window import EncoderWindow

MULTIPLY_ADD = 2  # operations
MEASURED_SECONDS = 0.2
GPU_SIZE, CPU_SIZE = 8_192, 1_024  # of the square matrices: large enough to be as fast as it gets


def encoder_flops(config: Any, positions: int) -> float:
    """Forward, one window of `positions` encoder positions (two frames of the spectrogram each)."""
    width = config.d_model
    convolutions = 3 * width * (2 * positions * config.num_mel_bins + positions * width)
    layer = 4 * positions * width**2 + 2 * positions**2 * width + 2 * positions * width * config.encoder_ffn_dim
    return MULTIPLY_ADD * float(convolutions + config.encoder_layers * layer)


def decoder_flops(config: Any, positions: int, tokens: int) -> float:
    """Forward, one window of `positions` encoder positions and `tokens` decoder positions, without the projection."""
    width = config.d_model
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    cross_attention = 2 * (tokens + positions) * width**2 + 2 * tokens * positions * width
    layer = attention + cross_attention + 2 * tokens * width * config.decoder_ffn_dim
    return MULTIPLY_ADD * float(config.decoder_layers * layer)


def projection_flops(config: Any, tokens: int) -> float:
    """Forward, from `tokens` hidden states to logits over the vocabulary."""
    return MULTIPLY_ADD * float(tokens * config.d_model * config.vocab_size)


@dataclass(frozen=True, slots=True)
class StepFlops:
    """The operations of training on a batch: what counts in a model, its padding included."""

    config: Any
    window: EncoderWindow
    passes: tuple[float, float]  # of encoder and decoder
    labels_only: bool  # projected: else every position of the decoder

    def __call__(self, batch: Counts) -> float:
        projected = batch.labels if self.labels_only else batch.windows * batch.width
        positions = self.window.positions(batch.window_seconds)
        encoder = batch.windows * encoder_flops(self.config, positions)
        decoder = batch.windows * decoder_flops(self.config, positions, batch.width)
        decoder += projection_flops(self.config, projected)
        return self.passes[0] * encoder + self.passes[1] * decoder


def count_passes(model: Any) -> tuple[float, float]:
    """What a training step costs encoder and decoder, in forward passes; what checkpointing computes again left out.

    3 where every weight learns: the backward pass has a product for the inputs and one for the weights. Frozen weights
    save theirs, and an encoder that is frozen as a whole needs no backward pass.
    """
    learning = {"encoder": 0, "decoder": 0}
    total = {"encoder": 0, "decoder": 0}
    for name, parameter in model.named_parameters():
        if "embed_positions" in name:
            continue  # in no matrix product, and never learned in the encoder
        side = "encoder" if ".encoder." in name else "decoder"
        total[side] += parameter.numel()
        learning[side] += parameter.numel() * parameter.requires_grad
    share = {side: learning[side] / total[side] for side in total}
    return (2 + share["encoder"] if learning["encoder"] else 1.0), 2 + share["decoder"]


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the fastest of some products of square matrices, in `dtype` on `device`.

    Measured with numbers of a generator of its own: the one of the training must not move, and zeros would be faster.
    """
    size = GPU_SIZE if device.type == "cuda" else CPU_SIZE
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, dtype=dtype, device=device, generator=generator) for _ in range(2))
    product = torch.empty_like(left)
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    torch.mm(left, right, out=product)
    wait()
    fastest, deadline = float("inf"), time.perf_counter() + MEASURED_SECONDS
    while (started := time.perf_counter()) < deadline:
        torch.mm(left, right, out=product)
        wait()
        fastest = min(fastest, time.perf_counter() - started)
    return MULTIPLY_ADD * size**3 / fastest
