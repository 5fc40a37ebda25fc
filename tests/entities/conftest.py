"""A tiny job of task: entities, and its run, which several files look at."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import call, command, environment

ENCODER = {"vocabulary_size": 300, "width": 16, "layers": 1, "attention_heads": 2, "feed_forward": 32}
JOB: dict[str, Any] = {
    "language": "fr",
    "task": "entities",
    "base": "new",
    "entities": {"encoder": ENCODER},
    "data": {
        "train": [{"travel": {"sentences": 64, "kinds": ["direct"], "seed": 1}}],
        "eval": {
            "common": [{"travel": {"sentences": 20, "part": "test", "kinds": ["direct"], "seed": 2}}],
            "hard": [{"travel": {"sentences": 20, "part": "test", "kinds": ["person", "no-order"], "seed": 2}}],
        },
    },
    "training": {"max_steps": 8, "eval_steps": 4, "logging_steps": 2, "learning_rate": 1e-3},
    "machine": {"dataloader_num_workers": 0, "threads": 1},
    "gates": {"macro_f1": 0.0},
}


def write_job(folder: Path, name: str, **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(JOB | changes, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained and evaluated run of the tiny job: not to be changed, but copied."""
    base = tmp_path_factory.mktemp("entities")
    call(command(write_job(base, "tiny")), environment(base), expect=0)
    return base
