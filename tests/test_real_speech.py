"""Real human recordings from ../shared/speech, from random weights: no synthetic voice, no luck."""

import json
from pathlib import Path

import pytest

from tests.tiny import run, write_job

pytestmark = pytest.mark.slow


def test_spoken_digits_are_learned_to_5_percent_on_the_takes_left_out(speech: Path, tmp_path: Path) -> None:
    manifest = str(speech / "digits-en" / "manifest.jsonl")
    job = write_job(
        tmp_path,
        "digits",
        language="en",
        architecture={
            "width": 128,
            "encoder_layers": 2,
            "attention_heads": 4,
            "window_seconds": 2,
            "hop_length": 160,
            "max_label_tokens": 16,
            "init_std": 0.09,
        },
        data={
            "train": [{"manifest": manifest, "split": "train"}],
            "eval": [{"manifest": manifest, "split": "test"}],
            "window_seconds": 2,  # at most: the digits take half a second
        },
        model={"dropout": 0.1},
        training={
            "global_batch_size": 16,
            "max_steps": 600,
            "lr_scheduler_type": "cosine",
            "eval_steps": 200,
            "save_steps": 200,
            "logging_steps": 100,
        },
        machine={"per_device_train_batch_size": 16, "threads": None, "dataloader_num_workers": 1},
        gates={"wer": 0.05},
    )
    run(job, tmp_path)
    results = json.loads((tmp_path / "models" / "digits" / "evaluation" / "results.json").read_text())
    measured = results["sets"]["eval"]
    assert measured["clips"] == 200
    assert measured["wer"] <= 0.05


def test_german_prose_with_whispers_own_tokenizer_loses_loss_and_no_clip(
    speech: Path, processor_dir: Path, tmp_path: Path
) -> None:
    manifest = str(speech / "kerstin-de" / "manifest.jsonl")
    sets = {name: [{"manifest": manifest, "split": name}] for name in ("val", "test")}
    job = write_job(
        tmp_path,
        "kerstin",
        architecture={
            "processor": str(processor_dir),
            "width": 64,
            "window_seconds": 20,
            "max_label_tokens": 200,
            "init_std": 0.09,
        },
        data={"train": [{"manifest": manifest, "split": "train"}], "eval": sets},
        training={
            "max_steps": 60,
            "logging_steps": 10,
            "eval_steps": 60,
            "save_steps": 60,
            "generation_max_length": 24,
        },
        evaluation={"clips_during_training": 8},
        machine={"threads": None, "dataloader_num_workers": 1, "audit_workers": 2},
    )
    run(job, tmp_path)
    audit = json.loads((tmp_path / "models" / "kerstin" / "data" / "audit.json").read_text())["sets"]
    assert sum(counted["clips"] for counted in audit.values()) == 1374
    assert all(counted["kept"] + sum(counted["dropped"].values()) == counted["clips"] for counted in audit.values())
    state = tmp_path / "models" / "kerstin" / "checkpoints" / "checkpoint-60" / "trainer_state.json"
    losses = [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
