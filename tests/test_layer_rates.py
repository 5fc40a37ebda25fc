"""A learning rate a layer in a training: what moves how far, what is logged, and that a resumed run keeps to it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import RunCli
from tests.tiny import write_job
from whisper_train.model_parts import layers_below_top, part_of

ARCHITECTURE = {"encoder_layers": 2, "decoder_layers": 2}
STEADY = {"lr_scheduler_type": "constant", "eval_strategy": "no", "warmup_steps": 0, "logging_steps": 1}


def train(job: Path, run_cli: RunCli, *more: str) -> Path:
    """The folder of the run."""
    result = run_cli("train", job, *more)
    assert result.exit_code == 0, result.output
    return Path("models") / job.stem


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def write(folder: Path, name: str, steps: int, model: dict[str, Any], **training: Any) -> Path:
    training = {**STEADY, "max_steps": steps, **training}
    return write_job(folder, name, architecture=ARCHITECTURE, training=training, model=model)


def test_a_step_moves_each_layer_by_its_part(place: Path, run_cli: RunCli) -> None:
    """Plain gradient descent moves a weight in proportion to its rate."""
    plain_descent = {"optim": "sgd", "learning_rate": 0.5, "weight_decay": 0.0}
    moved = {}
    for name, model in (("one-rate", {}), ("by-layer", {"layer_decay": 0.5})):
        folder = train(write(place, name, 1, model, **plain_descent), run_cli)
        before, after = weights(folder / "base"), weights(folder)
        moved[name] = {key: float((after[key] - before[key]).norm()) for key in after}
    from transformers import WhisperConfig

    config = WhisperConfig.from_pretrained(folder)
    shares = {
        key: (moved["by-layer"][key] / distance, 0.5 ** layers_below_top(part_of(key), config))
        for key, distance in moved["one-rate"].items()
        if distance > 1e-4  # smaller steps drown in the rounding of the weights
    }
    assert len({expected for _, expected in shares.values()}) == 5
    assert all(share == pytest.approx(expected, rel=0.02) for share, expected in shares.values())


def test_the_rate_of_the_highest_layer_is_logged(place: Path, run_cli: RunCli) -> None:
    train(write(place, "logged", 2, {"layer_decay": 0.5}, learning_rate=1e-3), run_cli)
    log = (place / "logs" / "logged" / "training.log").read_text()
    assert set(re.findall(r"  lr (\S+)", log)) == {"1.00e-03"}


def test_a_resumed_run_ends_with_the_same_weights(place: Path, run_cli: RunCli) -> None:
    model = {"layer_decay": 0.7, "freeze": ["encoder.conv", "decoder.embeddings"], "dropout": 0.1}
    unbroken = train(write(place, "unbroken", 4, model), run_cli)
    broken = write(place, "broken", 4, model)
    train(broken, run_cli, "--set", "training.max_steps=2")
    resumed = train(broken, run_cli)
    assert (resumed / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    before, after = weights(unbroken / "base"), weights(unbroken)
    changed = {key for key in after if not after[key].equal(before[key])}
    assert changed
    assert not [key for key in changed if re.search(r"encoder\.conv|embed_tokens", key)]
