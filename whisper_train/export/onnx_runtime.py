"""An exported ONNX folder in plain onnxruntime: encoder and decoder, whose caches stay where the runtime has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.errors import UserError
from whisper_train.export.forms import DECODER, ENCODER
from whisper_train.export.rules import Rules, Scores, read_rules
from whisper_train.export.search import Written, write

U8U8 = "session.x64quantprecision"  # without VNNI, products of uint8 and int8 overflow; then slower and right


class OnnxWhisper:
    """A model that encodes and takes steps (search.Steps)."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.exact = False  # whether the decoder's activations are floats, as its verification has them
        self.rules: Rules = read_rules(folder)
        self.encoder = open_session(folder / ENCODER, threads)
        self.decoder = open_session(folder / DECODER, threads)
        inputs = self.decoder.get_inputs()
        self.past = [one.name for one in inputs if one.name.endswith((".decoder.key", ".decoder.value"))]
        self.cross = [one.name for one in inputs if one.name.endswith((".encoder.key", ".encoder.value"))]
        of_past = next(one for one in inputs if one.name == self.past[0])
        self.heads, self.size = of_past.shape[1], of_past.shape[3]
        self.dtype = np.float16 if of_past.type == "tensor(float16)" else np.float32
        self.outputs = [one.name for one in self.decoder.get_outputs()]

    def encode(self, features: NDArray[np.float32]) -> list[Any]:
        """Keys and values of cross-attention of `features` (clips, bins, frames), as OrtValues."""
        features = np.ascontiguousarray(features, np.float32)
        return list(self.encoder.run_with_ort_values(None, {"input_features": as_value(features)}))

    def step(self, ids: NDArray[np.int64], past: list[Any] | None, cross: list[Any]) -> tuple[Scores, list[Any]]:
        """Logits (rows, tokens, words) and the caches, one row or more for each clip of `cross`."""
        if past is None:
            empty = np.zeros((len(ids), self.heads, 0, self.size), self.dtype)
            past = [as_value(empty) for _ in self.past]
        feeds = {"input_ids": as_value(np.ascontiguousarray(ids, np.int64))}
        feeds |= dict(zip(self.past, past, strict=True)) | dict(zip(self.cross, cross, strict=True))
        logits, *present = self.decoder.run_with_ort_values(self.outputs, feeds)
        return logits.numpy(), present

    def choose(self, past: list[Any], rows: NDArray[np.int64]) -> list[Any]:
        """The caches of these rows; the very same where the order is as it was."""
        if len(rows) == past[0].shape()[0] and (rows == np.arange(len(rows))).all():
            return past
        return [as_value(cache.numpy()[rows]) for cache in past]

    def write(
        self, features: NDArray[np.float32], prompts: Sequence[Sequence[int]], *, beams: int = 1, **options: Any
    ) -> list[Written]:
        """The text of each of `features` (clips, bins, frames); `options` are those of search.write()."""
        return write(self, self.encode(features), prompts, options.pop("rules", self.rules), beams=beams, **options)

    def trace(self, features: NDArray[np.float32], prompt: Sequence[int], count: int) -> tuple[list[int], Scores]:
        """The likeliest tokens after `prompt` of one clip (bins, frames), and the logits (tokens, words) of each."""
        return self.trace_cross(self.encode(features[None]), prompt, count)

    def trace_cross(self, cross: list[Any], prompt: Sequence[int], count: int) -> tuple[list[int], Scores]:
        logits, past = self.step(np.array([list(prompt)], np.int64), None, cross)
        rows, tokens = [logits[0, -1]], [int(logits[0, -1].argmax())]
        most = min(count, self.rules.positions - len(prompt))
        while len(tokens) < most and tokens[-1] != self.rules.end:
            logits, past = self.step(np.array([tokens[-1:]], np.int64), past, cross)
            rows.append(logits[0, -1])
            tokens.append(int(rows[-1].argmax()))
        return tokens, np.stack(rows)

    def find_layer(self, model: Any, features: NDArray[np.float32], ids: Sequence[int], bound: float) -> str | None:
        """Where the file first differs from `model`."""
        from whisper_train.export.onnx_compare import find_layer

        return find_layer(self, model, features, ids, bound, exact=self.exact)


def as_value(array: NDArray[Any]) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def open_session(path: Path, threads: int | None = None, options: Any = None) -> Any:
    """The graph at `path` on this machine's processor; raises UserError when it cannot be read."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime: is not installed: pip install 'whisper-train[qat]'") from error

    options = options or onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads:
        options.intra_op_num_threads = threads
    if not has_vnni():
        options.add_session_config_entry(U8U8, "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of the runtime, which has a class for each of its statuses
        raise UserError(f"{path}: cannot be loaded ({str(error).strip()}); convert the model again") from error


def has_vnni() -> bool:
    """Whether the processor multiplies uint8 by int8 without overflow; others than x86 do."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return "sse2" not in flags or "vnni" in flags
