"""The weights between two models of one architecture (WiSE-FT; Wortsman et al. 2022, arXiv:2109.01903)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.model import check_tied, load_model, load_processor, save_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """What is averaged: the base of `job` (folder or hub id), and the checkpoint of its tuned model."""

    job: Job
    base: str
    tuned: Path


def make_average(ends: Ends, weight: float, place: Path) -> None:
    """Writes the model with `weight` of the tuned one into `place`, as from_pretrained loads it."""
    from whisper_train.training.run import load_trained

    revision = ends.job.base_revision
    processor = load_processor(ends.base, revision=revision)
    tuned = load_trained(ends.job, ends.base, ends.tuned, processor)
    if weight != 1:
        average(load_model(ends.base, revision=revision), tuned, weight)
    save_model(tuned, processor, place)


def average(base: Any, tuned: Any, weight: float) -> None:
    """Turns `tuned` into (1 - weight) · base + weight · tuned, tensor by tensor in float32.

    At 0 and at 1 it is the one or the other, bit for bit. What is no floating-point number stays the tuned model's.
    Raises UserError when the two are not of one architecture.
    """
    import torch

    before = dict(named_tensors(base))
    with torch.no_grad():
        for name, tensor in named_tensors(tuned):
            if name not in before or before[name].shape != tensor.shape:
                raise UserError(
                    f"averaging: the base has no {name} of the tuned model's shape, so it is not what the run started"
                    " from; train the job again under another name, or leave averaging out"
                )
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(before[name].float(), tensor.float(), weight))
    check_tied(tuned)


def named_tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Parameters and buffers by name; tied ones once, or they would be averaged twice."""
    return chain(model.named_parameters(), model.named_buffers())
