"""What a training step computes, and what the device can: matrix multiplication and copying, measured."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from whisper_train.training.flops import decoder_flops, encoder_flops, projection_flops

MATRIX = {"cpu": 2_048, "cuda": 8_192}  # rows and columns
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
REPEATS = 5
BACKWARD = 2  # of the forward pass, as usual: gradients of inputs and of weights (Kaplan et al. 2020, arXiv:2001.08361)


def training_flops(config: Any, windows: int, frames: int, tokens: int) -> float:
    """Floating-point operations of a forward and backward pass of Whisper, padded positions among them.

    `frames` of the spectrogram and `tokens` of the labels are those of every window. A matrix product counts two for
    each multiplication; activations, norms and softmax are left out. What gradient checkpointing computes again is not
    counted.
    """
    positions = frames // 2
    forward = (
        encoder_flops(config, positions) + decoder_flops(config, positions, tokens) + projection_flops(config, tokens)
    )
    return (1 + BACKWARD) * windows * forward


def measure_ceilings(device: str) -> dict[str, float]:
    """`matmul_tflops` in the precision of training (bf16 on a GPU, fp32 on the CPU), and `copy_gb_per_second`.

    A copy counts what is read and what is written.
    """
    ceilings = {"matmul_tflops": matmul_rate(device), "copy_gb_per_second": copy_rate(device)}
    if device == "cuda":
        torch.cuda.empty_cache()  # the ways need the room
    return ceilings


def matmul_rate(device: str) -> float:
    """TFLOP/s of the product of two large matrices."""
    size, dtype = MATRIX[device], torch.bfloat16 if device == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty(size, size, device=device, dtype=dtype)
    return 2 * size**3 / median_seconds(lambda: torch.mm(left, right, out=product), device) / 1e12


def copy_rate(device: str) -> float:
    """GB/s of a copy that no cache holds."""
    source = torch.zeros(COPIED_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device) / 1e9


def median_seconds(work: Callable[[], Any], device: str) -> float:
    """The median of some repeats, after one that does not count."""
    spent = []
    for _ in range(1 + REPEATS):
        wait_for(device)
        started = time.perf_counter()
        work()
        wait_for(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:])


def wait_for(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
