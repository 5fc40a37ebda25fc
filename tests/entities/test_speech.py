"""Spoken orders: a speech job whose eval set is of travel orders is measured and judged by their cities too."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TINY_ARCHITECTURE, RunCli
from whisper_train.paths import read_json

pytestmark = pytest.mark.slow
ORDERS = {
    "travel": {"sentences": 40, "part": "test", "kinds": ["arrival-only"], "places": 6},
    "voices": ["fr"],
    "words_per_minute": [300, 300],
}
JOB: dict[str, Any] = {
    "language": "fr",
    "base": "new",
    "architecture": {**TINY_ARCHITECTURE, "window_seconds": 8, "max_label_tokens": 64},
    "data": {
        "train": [{"synthetic": {**ORDERS, "part": "train", "clips": 8}}],
        "eval": {"orders": [{"synthetic": {**ORDERS, "part": "held-out", "clips": 4}}]},
        "max_dropped_fraction": 0.5,
    },
    "training": {"global_batch_size": 4, "max_steps": 1, "eval_strategy": "no", "logging_steps": 1}
    | {"generation_max_length": 8},
    "evaluation": {"travel": {"entities": "job:tiny"}},
    "gates": {"travel_f1": 0.99},
    "machine": {"audit_workers": 1, "dataloader_num_workers": 0},
}


def test_the_table_and_the_gate_are_of_cities(trained: Path, place: Path, run_cli: RunCli) -> None:
    shutil.copytree(trained / "models", place / "models")
    Path("spoken.yaml").write_text(yaml.safe_dump(JOB))
    done = run_cli("train", "spoken.yaml")
    assert done.exit_code == 3, done.output
    assert "gate travel_f1: MISSED: macro F1 of cities in orders" in done.output
    assert "lost by hearing" in done.output
    travel = read_json(Path("models/spoken/evaluation/results.json"))["travel"]
    assert (travel["set"], travel["entities"]) == ("orders", "job:tiny")
    own = travel["models"]["tuned"]
    assert own["from_text"]["entities"]["ARRIVEE"]["true"] == travel["clips"]
    assert "Travel orders" in Path("models/spoken/evaluation/report.html").read_text(encoding="utf-8")
    again = run_cli("score", "models/spoken")
    assert again.exit_code == 3, again.output
    assert read_json(Path("models/spoken/evaluation/results.json"))["travel"] == travel

    audio = next(Path("cache").rglob("000000.flac"))
    done = run_cli("order", audio, "--asr", "job:spoken", "--entities", "job:tiny")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["audio"] == str(audio)
    assert found["times"]["recording"] > 0.5


def test_an_entity_model_that_is_not_there_is_told_before_anything_is_trained(place: Path, run_cli: RunCli) -> None:
    Path("spoken.yaml").write_text(yaml.safe_dump(JOB))
    done = run_cli("train", "spoken.yaml")
    assert done.exit_code == 2
    assert "evaluation.travel.entities: " in done.output
    assert "train that job first" in done.output
    assert not Path("cache/synthetic").exists()
