"""whisper.cpp, out of the library that pywhispercpp brings: its C interface, since Python's shows no logits."""

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_train.errors import UserError
from whisper_train.export.ggml_format import MODEL
from whisper_train.export.rules import Rules, Scores, read_rules
from whisper_train.export.search import Written, write

THREADS = 1  # its threads wait by turning round: on a busy machine two are many times slower than one
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
SILENT = LOG(lambda level, text, data: None)  # kept for as long as the library may call it


class WhisperCpp:
    """A GGML file, one clip at a time; greedy, since this interface has one cache (search.Steps, verify.Runtime)."""

    beams = (1,)

    def __init__(self, folder: Path) -> None:
        library = find_library()
        if library is None:
            raise UserError(f"{folder}: whisper.cpp is not here; pip install pywhispercpp")
        self.rules: Rules = read_rules(folder)
        self.cpp = load_library(library)
        self.context = self.cpp.whisper_init_from_file(str(folder / MODEL).encode())
        if not self.context:
            raise UserError(f"{folder / MODEL}: whisper.cpp does not load it; convert the model again")

    def __del__(self) -> None:
        if getattr(self, "context", None):
            self.cpp.whisper_free(self.context)

    def encode(self, features: NDArray[np.float32]) -> None:
        """Leaves the encoded `features` (1, bins, frames) in the context."""
        assert len(features) == 1, "one clip at a time"
        sound = np.ascontiguousarray(features[0], np.float32)
        bins, frames = sound.shape
        place = sound.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        failed = self.cpp.whisper_set_mel(self.context, place, frames, bins)
        failed = failed or self.cpp.whisper_encode(self.context, 0, THREADS)
        assert not failed, "whisper.cpp refused the spectrogram"

    def step(self, ids: NDArray[np.int64], past: int | None, cross: None) -> tuple[Scores, int]:
        """Logits (1, tokens, words) of `ids` (1, tokens), one after the other; `past` is how many there were before."""
        before, rows = past or 0, []
        for token in ids[0]:
            one = (ctypes.c_int32 * 1)(int(token))
            failed = self.cpp.whisper_decode(self.context, one, 1, before, THREADS)
            assert not failed, "whisper.cpp refused a token"
            logits = self.cpp.whisper_get_logits(self.context)
            rows.append(np.ctypeslib.as_array(logits, (self.rules.words,)).copy())
            before += 1
        return np.stack(rows)[None], before

    def choose(self, past: int, rows: NDArray[np.int64]) -> int:
        return past

    def write(
        self, features: NDArray[np.float32], prompts: Sequence[Sequence[int]], *, beams: int = 1, **options: Any
    ) -> list[Written]:
        """The text of each clip; `options` are those of search.write()."""
        assert beams == 1, "one cache"
        found = []
        for one, prompt in zip(features, prompts, strict=True):
            self.encode(one[None])
            found += write(self, None, [prompt], options.get("rules", self.rules), **options)
        return found

    def trace(self, features: NDArray[np.float32], prompt: Sequence[int], count: int) -> tuple[list[int], Scores]:
        """The likeliest tokens after `prompt` of one clip (bins, frames), and the logits (tokens, words) of each."""
        self.encode(features[None])
        logits, past = self.step(np.array([list(prompt)]), None, None)
        rows, tokens = [logits[0, -1]], [int(logits[0, -1].argmax())]
        while len(tokens) < count and tokens[-1] != self.rules.end:
            logits, past = self.step(np.array([tokens[-1:]]), past, None)
            rows.append(logits[0, -1])
            tokens.append(int(rows[-1].argmax()))
        return tokens, np.stack(rows)


def find_library() -> Path | None:
    """The shared library that pywhispercpp was installed with; None without it."""
    found = find_spec("pywhispercpp")
    if found is None or not found.origin:
        return None
    beside = Path(found.origin).parent.parent / "pywhispercpp.libs"
    return next(iter(sorted(beside.glob("libwhisper*.so*"))), None)


@cache
def load_library(path: Path) -> Any:
    import _pywhispercpp  # noqa: F401  # loads the libraries that this one needs, from where they lie

    library = ctypes.CDLL(str(path))
    library.whisper_log_set(SILENT, None)
    library.whisper_init_from_file.restype = ctypes.c_void_p
    library.whisper_init_from_file.argtypes = [ctypes.c_char_p]
    library.whisper_free.argtypes = [ctypes.c_void_p]
    floats = ctypes.POINTER(ctypes.c_float)
    library.whisper_set_mel.argtypes = [ctypes.c_void_p, floats, ctypes.c_int, ctypes.c_int]
    library.whisper_encode.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    ids = ctypes.POINTER(ctypes.c_int32)
    library.whisper_decode.argtypes = [ctypes.c_void_p, ids, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.whisper_get_logits.restype = floats
    library.whisper_get_logits.argtypes = [ctypes.c_void_p]
    return library
