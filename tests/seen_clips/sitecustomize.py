"""Writes down what training hears: what every Python process imports whose PYTHONPATH begins with this folder.

SEEN_CLIPS names a folder. Each rank adds a line for each batch to a file of its own there: the step, and a
digest of each clip's audio, as it is on its way to the model.
"""

import functools
import hashlib
import importlib.abc
import importlib.util
import json
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

TRAINER = "whisper_train.training.trainer"


class Finder(importlib.abc.MetaPathFinder):
    """Waits for the trainer to be imported, so that no process has to import torch for the sake of this file."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_then_watch(module: ModuleType) -> None:
            execute(module)
            watch(module.WhisperTrainer, Path(os.environ["SEEN_CLIPS"]))

        spec.loader.exec_module = execute_then_watch  # type: ignore[method-assign]
        return spec


def watch(trainer: Any, folder: Path) -> None:
    whole = trainer._prepare_inputs

    @functools.wraps(whole)
    def prepare_inputs(self: Any, inputs: dict[str, Any]) -> Any:
        if self.model.training:
            rows = zip(inputs["waveforms"], inputs["samples"].tolist(), strict=True)
            heard = [row[:samples].numpy() for row, samples in rows]
            digests = [hashlib.sha1(one.tobytes()).hexdigest() for one in heard if one.any()]  # else it fills a batch
            with (folder / f"rank-{os.environ.get('RANK', '0')}.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.state.global_step + 1, "clips": digests}) + "\n")
        return whole(self, inputs)

    trainer._prepare_inputs = prepare_inputs


if "SEEN_CLIPS" in os.environ:
    sys.meta_path.insert(0, Finder())
