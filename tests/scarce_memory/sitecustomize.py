"""A machine with little memory: what every Python process imports whose PYTHONPATH begins with this folder.

SCARCE_MEMORY is a JSON object. While the model is `training`, or else is evaluated, a `share` of its batches of more
than `fits` clips, drawn by `seed`, asks for memory that no machine has; what fails is torch itself. `moment` says when:
in the `forward` or the `backward` pass, or in the `update`, when the weights have changed and the step has not ended.
"""

import functools
import importlib.abc
import importlib.util
import json
import os
import random
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODEL = "transformers.models.whisper.modeling_whisper"
MORE_THAN_THERE_IS = 2**60


class Finder(importlib.abc.MetaPathFinder):
    """Waits for the model to be imported, so that no process has to import torch for the sake of this file."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != MODEL:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_then_limit(module: ModuleType) -> None:
            execute(module)
            limit(module.WhisperForConditionalGeneration, json.loads(os.environ["SCARCE_MEMORY"]))

        spec.loader.exec_module = execute_then_limit  # type: ignore[method-assign]
        return spec


def limit(model: Any, scarcity: dict[str, Any]) -> None:
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    drawn = random.Random(f"{scarcity['seed']} {os.environ.get('RANK')}")
    whole = model.forward
    due: list[bool] = []

    def fail(*args: object) -> None:
        torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)

    def fail_if_due(*args: object) -> None:
        if due:
            due.clear()
            fail()

    @functools.wraps(whole)  # generation asks for its signature
    def forward(self: Any, *args: Any, **options: Any) -> Any:
        outputs = whole(self, *args, **options)
        large = options["decoder_input_ids"].shape[0] > scarcity["fits"]
        if large and self.training == scarcity["training"] and drawn.random() < scarcity["share"]:
            if scarcity["moment"] == "forward":
                fail()
            elif scarcity["moment"] == "backward":
                outputs.logits.register_hook(fail)
            else:
                due.append(True)
        return outputs

    model.forward = forward
    register_optimizer_step_post_hook(fail_if_due)


if "SCARCE_MEMORY" in os.environ:
    sys.meta_path.insert(0, Finder())
