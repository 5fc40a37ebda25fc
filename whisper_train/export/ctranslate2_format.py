"""CTranslate2, as faster-whisper loads it: its own converter on weights that are on the grid already."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whisper_train.errors import RunFailed, UserError
from whisper_train.export.forms import Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import Read
from whisper_train.export.rules import OTHER_CONFIG, Rules, Scores, read_rules
from whisper_train.export.search import Written
from whisper_train.export.source import EMBEDDING, Source

TYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
MODEL = "model.bin"
BINARY_VERSION = 6  # of model.bin, as ctranslate2.specs.model_spec writes it
INT8 = 1  # its number among the types there
absent = ""

# The last part of a name in transformers, and in CTranslate2's specification of a Whisper.
PARTS = {
    "self_attn.out_proj": "self_attention/linear_1",
    "encoder_attn.q_proj": "attention/linear_0",
    "encoder_attn.out_proj": "attention/linear_2",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
FUSED = {  # several weights below one another, in this order
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}


class CTranslate2Whisper:
    """A converted folder in CTranslate2, as verify.Runtime."""

    def __init__(self, folder: Path, threads: int | None = None, compute_type: str = "default") -> None:
        import ctranslate2

        self.rules = read_rules(folder)
        try:
            self.model = ctranslate2.models.Whisper(
                str(folder), device="cpu", intra_threads=threads or 0, compute_type=compute_type
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{folder}: cannot be loaded ({error}); convert the model again") from error

    def encode(self, features: Any) -> Any:
        import ctranslate2

        return self.model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features, np.float32)))

    def write(self, features: Any, prompts: Sequence[Sequence[int]], **options: Any) -> list[Written]:
        """The text of each of `features` (clips, bins, frames); `options` are those of write_encoded()."""
        return self.write_encoded(self.encode(features), prompts, **options)

    def write_encoded(
        self,
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beams: int = 1,
        max_length: int | None = None,
        temperature: float = 0.0,
        rules: Rules | None = None,
        chance: np.random.Generator | None = None,
    ) -> list[Written]:
        """The text of each clip that encode() made `encoded` of, searched for by CTranslate2 itself."""
        import ctranslate2

        rules = rules or self.rules
        if chance is not None:
            ctranslate2.set_random_seed(int(chance.integers(2**31)))
        results = self.model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            beam_size=1 if temperature > 0 else beams,
            max_length=as_max_length(rules.new_tokens(prompts[0], max_length), len(prompts[0])),
            suppress_tokens=list(rules.suppress),
            suppress_blank=bool(rules.suppress_first),
            max_initial_timestamp_index=rules.words
            if rules.first_timestamp_at_most is None
            else rules.first_timestamp_at_most,
            sampling_topk=0 if temperature > 0 else 1,
            sampling_temperature=temperature or 1.0,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [Written(one.sequences_ids[0], one.scores[0], one.no_speech_prob) for one in results]

    def trace(self, features: Any, prompt: Sequence[int], count: int) -> tuple[list[int], Scores]:
        """The likeliest tokens after `prompt` of one clip (bins, frames), and the logits (tokens, words) of each."""
        result = self.model.generate(
            self.encode(features[None]),
            [list(prompt)],
            beam_size=1,
            max_length=as_max_length(min(count, self.rules.positions - len(prompt)), len(prompt)),
            suppress_tokens=[],
            suppress_blank=False,
            max_initial_timestamp_index=self.rules.words,
            return_logits_vocab=True,
        )[0]
        logits = np.stack([np.asarray(row, np.float32).reshape(-1) for row in result.logits[0]])
        return [*result.sequences_ids[0], self.rules.end][: len(logits)], logits


def as_max_length(new: int, prompt: int) -> int:
    """What makes CTranslate2 write up to `new` tokens: it takes half of this, or what the prompt leaves of it."""
    return max(2 * new, new + prompt)


def check(source: Source, form: Form) -> None:
    """Raises UserError for a model that was trained on grids that CTranslate2 does not have."""
    for name, layer in (source.trained.layers if source.trained and form.bits else {}).items():
        grid = layer.grid
        if grid.bits != form.bits or grid.group is not None:
            raise UserError(
                f"convert: --to ctranslate2: {name} was trained with a scale for each {grid.group} columns, and"
                " CTranslate2 has one a row; take --to onnx, or --precision fp16"
            )


def write(source: Source, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None:
    """Writes model.bin, vocabulary.json and CTranslate2's config.json; transformers' own goes beside it."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        """The same, on the model in memory."""

        def load_model(self, *given: Any, **options: Any) -> Any:
            return deepcopy(source.model)  # quantizing multiplies the weights in place

        def load_tokenizer(self, *given: Any, **options: Any) -> Any:
            return source.processor.tokenizer

    inner = folder / "converted"
    Converter(str(folder)).convert(str(inner), quantization=TYPES[form.precision])
    (folder / "config.json").rename(folder / OTHER_CONFIG)
    for path in sorted(inner.iterdir()):
        path.rename(folder / path.name)
    inner.rmdir()


def read(folder: Path, placed: Mapping[str, OnGrid]) -> Iterable[tuple[str, Read | None]]:
    """Each weight of `placed` as it stands in model.bin."""
    stored = dict(read_variables(folder / MODEL))
    for name in placed:
        variable, part, parts = place_of(name)
        values, scales = stored.get(f"{variable}/weight"), stored.get(f"{variable}/weight_scale")
        if values is None or scales is None or values.dtype != np.int8:
            yield name, None
            continue
        rows = len(values) // parts
        own = slice(part * rows, (part + 1) * rows)
        flat = torch.from_numpy(values[own].reshape(rows, -1).copy())
        yield name, Read(flat, 1 / torch.from_numpy(scales.reshape(-1)[own].astype(np.float32))[:, None])


def place_of(name: str) -> tuple[str, int, int]:
    """The variable that holds the parameter `name`, and which of how many parts of its rows."""
    layer = name.removeprefix("model.").removesuffix(".weight")
    if name == EMBEDDING:
        return "decoder/embeddings", 0, 1
    side, _, rest = layer.partition(".")
    if not rest.startswith("layers."):
        return f"{side}/{rest}", 0, 1
    _, number, part = rest.split(".", 2)
    for fused, parts in FUSED.items():
        if part in parts:
            return f"{side}/layer_{number}/{fused}", parts.index(part), len(parts)
    return f"{side}/layer_{number}/{PARTS[part]}", 0, 1


def read_variables(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and values of each variable of a model.bin; RunFailed for a form that is not known."""
    data = path.read_bytes()
    place = 0

    def take(form: str) -> Any:
        nonlocal place
        (value,) = struct.unpack_from(form, data, place)
        place += struct.calcsize(form)
        return value

    def take_string() -> str:
        nonlocal place
        length = take("<H")
        place += length
        return data[place - length : place - 1].decode()

    if (version := take("<I")) != BINARY_VERSION:
        raise RunFailed(f"{path.name}: is of version {version}, and {BINARY_VERSION} is what can be verified")
    take_string()
    take("<I")
    for _ in range(take("<I")):
        name = take_string()
        shape = [take("<I") for _ in range(take("<B"))]
        kind, size = take("<B"), take("<I")
        values = np.frombuffer(data, np.uint8, size, place)
        place += size
        if kind == INT8:
            yield name, values.view(np.int8).reshape(shape)
        elif size == 4 * int(np.prod(shape)):
            yield name, values.view(np.float32).reshape(shape)


def open_exact(source: Source, placed: Mapping[str, OnGrid], folder: Path) -> tuple[str, CTranslate2Whisper]:
    """The whole model with the integers as floats, where nothing but the weights can make a difference."""
    return "model", CTranslate2Whisper(folder, compute_type="float32")


def open(folder: Path) -> CTranslate2Whisper:
    return CTranslate2Whisper(folder)
