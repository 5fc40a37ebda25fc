"""safetensors: the folder that transformers loads, in float32 or float16, with the weights that were trained."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.export.forms import Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import Read
from whisper_train.export.reference import Reference
from whisper_train.export.search import Written
from whisper_train.export.source import Source
from whisper_train.model import load_model

absent = ""


class TorchWhisper:
    """A model folder in transformers, as verify.Runtime."""

    def __init__(self, folder: Path) -> None:
        self.reference = Reference(load_model(str(folder)).eval())
        self.rules = self.reference.rules

    def write(self, features: Any, prompts: Sequence[Sequence[int]], *, beams: int, max_length: int) -> list[Written]:
        code = {token: name for name, token in self.rules.languages.items()}
        return [
            Written(self.reference.write(one, code.get(prompt[1]), beams, max_length), 0.0, 0.0)
            for one, prompt in zip(features, prompts, strict=True)
        ]

    def trace(self, features: Any, prompt: Sequence[int], count: int) -> Any:
        language = {token: name for name, token in self.rules.languages.items()}.get(prompt[1])
        tokens = [*self.reference.write(features, language, 1, count), self.rules.end]
        return tokens, np.asarray(self.reference.logits(features, [*prompt, *tokens[:-1]])[len(prompt) - 1 :])


def check(source: Source, form: Form) -> None:
    """Every Whisper can be had."""


def write(source: Source, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None:
    model = deepcopy(source.model).half() if form.precision == "fp16" else source.model
    model.save_pretrained(folder)


def read(folder: Path, placed: Mapping[str, OnGrid]) -> Iterable[tuple[str, Read | None]]:
    return ()


def open_exact(source: Source, placed: Mapping[str, OnGrid], folder: Path) -> None:
    """There are no integers."""


def open(folder: Path) -> TorchWhisper:
    return TorchWhisper(folder)
