"""The three runtimes behind one interface: encode, then write; so that each half can be timed by itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_train.export.rules import Rules

WEIGHTS = {  # the files of a folder that its runtime loads
    "onnx": ("*.onnx", "*.onnx_data", "*.onnx.data"),
    "ctranslate2": ("model.bin",),
    "transformers": ("model*.safetensors",),
}


class Runtime(Protocol):
    """A model that is measured."""

    rules: Rules
    computes_in: str  # the type of what is no integer there; a file in float16 may be computed in float32

    def encode(self, features: NDArray[np.float32]) -> Any:
        """What the encoder makes of `features` (clips, bins, frames)."""

    def write(
        self,
        features: NDArray[np.float32],
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int,
        max_length: int | None,
    ) -> list[list[int]]:
        """The tokens that follow each prompt, until the end."""

    def write_exactly(
        self, features: NDArray[np.float32], encoded: Any, prompts: Sequence[Sequence[int]], count: int
    ) -> None:
        """Writes `count` tokens to each prompt, greedily, whatever they are: for the clock alone."""


def weight_bytes(folder: Path, form: str) -> int:
    """What the files take that the runtime of `form` loads, without processor and settings."""
    files = {path for pattern in WEIGHTS[form] for path in folder.glob(pattern)}
    return sum(path.stat().st_size for path in files)


def import_runtime(form: str) -> None:
    """Imports what `form` needs, so that a model can be told from its libraries."""
    if form == "onnx":
        import onnxruntime  # noqa: F401

        import whisper_train.export.onnx_runtime
    elif form == "ctranslate2":
        import ctranslate2  # noqa: F401

        import whisper_train.export.ctranslate2_format
    else:
        import torch  # noqa: F401
        from transformers import WhisperForConditionalGeneration  # noqa: F401

        import whisper_train.evaluation.transcribe  # noqa: F401


def open_runtime(form: str, precision: str, folder: Path, threads: int) -> Runtime:
    """The model in `folder`; raises UserError when it cannot be loaded."""
    classes: dict[str, Callable[[Path, str, int], Runtime]] = {
        "onnx": InOnnx,
        "ctranslate2": InCTranslate2,
        "transformers": InTransformers,
    }
    return classes[form](folder, precision, threads)


def endless(rules: Rules) -> Rules:
    """The same, and the end never comes."""
    return replace(rules, suppress=(*rules.suppress, rules.end))


class InOnnx:
    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        from whisper_train.export.onnx_runtime import OnnxWhisper

        self.model = OnnxWhisper(folder, threads)
        self.rules = self.model.rules
        self.computes_in = "float16" if self.model.dtype == np.float16 else "float32"

    def encode(self, features: NDArray[np.float32]) -> Any:
        return self.model.encode(features)

    def write(
        self,
        features: NDArray[np.float32],
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int,
        max_length: int | None,
    ) -> list[list[int]]:
        from whisper_train.export.search import write

        found = write(self.model, encoded, prompts, self.rules, beams=beams, max_length=max_length)
        return [one.tokens for one in found]

    def write_exactly(
        self, features: NDArray[np.float32], encoded: Any, prompts: Sequence[Sequence[int]], count: int
    ) -> None:
        from whisper_train.export.search import write

        write(self.model, encoded, prompts, endless(self.rules), max_length=count)


class InCTranslate2:
    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        from whisper_train.export.ctranslate2_format import CTranslate2Whisper

        self.model = CTranslate2Whisper(folder, threads)
        self.rules = self.model.rules
        self.computes_in = str(self.model.model.compute_type)

    def encode(self, features: NDArray[np.float32]) -> Any:
        return self.model.encode(features)

    def write(
        self,
        features: NDArray[np.float32],
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int,
        max_length: int | None,
    ) -> list[list[int]]:
        found = self.model.write_encoded(encoded, prompts, beams=beams, max_length=max_length)
        return [one.tokens for one in found]

    def write_exactly(
        self, features: NDArray[np.float32], encoded: Any, prompts: Sequence[Sequence[int]], count: int
    ) -> None:
        self.model.write_encoded(encoded, prompts, max_length=count, rules=endless(self.rules))


class InTransformers:
    """Weights in float32 or bfloat16, as `precision` says, by transformers' generate().

    With so many threads as torch has been given, which is the whole process's affair.
    """

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration

        from whisper_train.export.rules import make_rules
        from whisper_train.model import drop_forced_tokens, is_multilingual, load

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.model = load(WhisperForConditionalGeneration.from_pretrained, str(folder), dtype=kind).eval()
        drop_forced_tokens(self.model)
        self.rules = make_rules(self.model.config.to_dict(), self.model.generation_config.to_dict())
        self.multilingual = is_multilingual(self.model)
        self.computes_in = str(kind).removeprefix("torch.")

    def encode(self, features: NDArray[np.float32]) -> Any:
        import torch

        from whisper_train.evaluation.transcribe import encode_in_parts

        with torch.inference_mode():
            return encode_in_parts(self.model, torch.from_numpy(features).to(self.model.dtype))

    def write(
        self,
        features: NDArray[np.float32],
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int,
        max_length: int | None,
    ) -> list[list[int]]:
        limit = {"max_length": max_length} if max_length else {}
        return self.generate(features, encoded, prompts, num_beams=beams, **limit)

    def write_exactly(
        self, features: NDArray[np.float32], encoded: Any, prompts: Sequence[Sequence[int]], count: int
    ) -> None:
        self.generate(features, encoded, prompts, num_beams=1, min_new_tokens=count, max_new_tokens=count)

    def generate(
        self, features: NDArray[np.float32], encoded: Any, prompts: Sequence[Sequence[int]], **options: Any
    ) -> list[list[int]]:
        import torch

        if self.multilingual:
            codes = {token: code for code, token in self.rules.languages.items()}
            tasks = {token: task for task, token in self.rules.tasks.items()}
            options |= {"language": [codes[prompt[1]] for prompt in prompts], "task": tasks[prompts[0][2]]}
        with torch.inference_mode():
            sound = torch.from_numpy(features).to(self.model.dtype)
            rows = self.model.generate(
                sound,
                attention_mask=torch.ones_like(sound[:, 0], dtype=torch.long),
                encoder_outputs=encoded,
                use_cache=True,
                force_unique_generate_call=True,  # else it goes on after time stamps that nobody asked for
                **options,
            ).tolist()
        return [cut(row, prompt, self.rules.end) for row, prompt in zip(rows, prompts, strict=True)]


def cut(row: list[int], prompt: Sequence[int], end: int) -> list[int]:
    """What was written after `prompt`, without the end and what fills the row behind it."""
    row = row[len(prompt) :] if row[: len(prompt)] == list(prompt) else row
    return row[: row.index(end)] if end in row else row
