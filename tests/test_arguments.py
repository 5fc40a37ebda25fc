"""What transformers is told: precision as far as the device goes, checkpointing that keeps gradients right."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import tiny_job
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.machine import choose_precision, plan_layout
from whisper_train.training.arguments import make_arguments

cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


def make_job(**changes: Any) -> Job:
    return Job.model_validate({"name": "tiny", **tiny_job(**changes)})


@cpu_only
@pytest.mark.parametrize(
    ("training", "machine", "precision"),
    [
        ({}, {}, "fp32"),
        ({"fp16": True}, {}, "fp32"),  # people's flat files say fp16; a CPU cannot
        ({"bf16": True}, {}, "fp32"),
        ({}, {"precision": "bf16"}, "bf16"),
    ],
)
def test_precision_without_a_gpu(training: dict[str, Any], machine: dict[str, Any], precision: str) -> None:
    assert choose_precision(make_job(training=training, machine=machine)) == precision


@pytest.mark.parametrize("section", ["machine", "training"])
def test_gradient_checkpointing_is_non_reentrant(tmp_path: Path, section: str) -> None:
    """transformers#28536: the reentrant kind loses the gradients of a frozen encoder's decoder."""
    job = make_job(**{section: {"gradient_checkpointing": True}})
    args = make_arguments(job, plan_layout(job, gpus=0), tmp_path, None)
    assert args.activation_checkpointing
    assert args.activation_checkpointing_kwargs == {"use_reentrant": False}


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is here")
def test_moments_in_8_bits_without_their_library_are_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    job = make_job(training={"optim": "adamw_bnb_8bit"})
    with pytest.raises(UserError, match=r"^training.optim: adamw_bnb_8bit: needs bitsandbytes: pip install"):
        make_arguments(job, plan_layout(job, gpus=0), tmp_path, None)


def test_every_key_of_transformers_reaches_it(tmp_path: Path) -> None:
    job = make_job(
        training={"adam_beta2": 0.98, "lr_scheduler_type": "cosine", "max_grad_norm": 0.5, "warmup_steps": 3}
    )
    args = make_arguments(job, plan_layout(job, gpus=0), tmp_path, None)
    assert (args.adam_beta2, args.lr_scheduler_type, args.max_grad_norm, args.warmup_steps) == (0.98, "cosine", 0.5, 3)
