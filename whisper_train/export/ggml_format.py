"""GGML, as whisper.cpp loads it: one file of mel filters, vocabulary and tensors (convert-h5-to-ggml.py)."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whisper_train.errors import UserError
from whisper_train.export.forms import Form
from whisper_train.export.ggml_blocks import GROUP, TYPES, pack, unpack
from whisper_train.export.grids import OnGrid
from whisper_train.export.integers import Read
from whisper_train.export.source import Source

MODEL = "ggml-model.bin"
MAGIC = 0x67676D6C
F32, F16 = 0, 1
QUANTIZATION_VERSION = 2000  # of blocks: GGML_QNT_VERSION times its factor
VOCABULARIES = (51_864, 51_865, 51_866)  # English only, of many languages, and of large-v3
WINDOW = (16_000, 400, 160, 30)  # rate, FFT, hop and seconds, fixed in whisper.cpp
HEAD = 64  # columns of an attention head: with others whisper.cpp aborts
absent = "pywhispercpp, which holds whisper.cpp, is not installed (pip install pywhispercpp)"

# Names of transformers and of OpenAI's checkpoints, which whisper.cpp keeps.
NAMES = (
    ("model.", ""),
    (".layers.", ".blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("self_attn", "attn"),
    ("encoder_attn", "cross_attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens.weight", "token_embedding.weight"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
)


def check(source: Source, form: Form) -> None:
    """Raises UserError for a model that whisper.cpp cannot run: it knows OpenAI's vocabularies and window alone."""
    config, extractor = source.model.config, source.processor.feature_extractor
    if config.vocab_size not in VOCABULARIES or len(source.processor.tokenizer) > config.vocab_size:
        raise UserError(
            f"convert: --to ggml: the model's vocabulary has {config.vocab_size:,} tokens, and whisper.cpp knows those"
            " of OpenAI's models alone; take --to onnx or ctranslate2"
        )
    window = (extractor.sampling_rate, extractor.n_fft, extractor.hop_length, extractor.chunk_length)
    if window != WINDOW:
        raise UserError(
            f"convert: --to ggml: the model hears {window[3]} s in steps of {window[2]} samples, and whisper.cpp"
            f" {WINDOW[3]} s in steps of {WINDOW[2]}; take --to onnx or ctranslate2"
        )
    if (size := config.d_model // config.decoder_attention_heads) != HEAD:
        raise UserError(
            f"convert: --to ggml: the model's attention heads are {size} wide, and whisper.cpp's {HEAD};"
            " take --to onnx or ctranslate2"
        )
    if form.bits and config.d_model % GROUP:
        raise UserError(
            f"convert: --to ggml: rows of {config.d_model} are no multiple of {GROUP}; take --precision fp16"
        )


def write(source: Source, placed: Mapping[str, OnGrid], form: Form, folder: Path) -> None:
    """Writes MODEL, with vocab.json and added_tokens.json, which whisper.cpp's own converter wants."""
    source.processor.tokenizer.save_vocabulary(str(folder))
    with (folder / MODEL).open("wb") as file:
        write_header(file, source, form)
        for name, weight in source.model.named_parameters():
            write_tensor(file, name, weight.detach(), placed.get(name), form)


def write_header(file: BufferedWriter, source: Source, form: Form) -> None:
    """Sizes, mel filters and the bytes of each token."""
    config, extractor = source.model.config, source.processor.feature_extractor
    kind = {"fp32": F32, "fp16": F16}.get(form.precision)
    if kind is None:
        kind = QUANTIZATION_VERSION + {8: 7, 4: 2}[form.bits or 0]  # GGML_FTYPE_MOSTLY_Q8_0, _Q4_0
    sizes = [config.vocab_size, config.max_source_positions, config.d_model, config.encoder_attention_heads]
    sizes += [config.encoder_layers, config.max_target_positions, config.d_model, config.decoder_attention_heads]
    sizes += [config.decoder_layers, config.num_mel_bins, kind]
    file.write(struct.pack("<12i", MAGIC, *sizes))
    filters = np.ascontiguousarray(extractor.mel_filters.T, np.float32)
    file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
    words = text_tokens(source.processor.tokenizer)
    file.write(struct.pack("<i", len(words)))
    for word in words:
        file.write(struct.pack("<i", len(word)) + word)


def text_tokens(tokenizer: Any) -> list[bytes]:
    """The bytes of each token that stands for text; whisper.cpp makes up the special ones itself."""
    as_byte = letters_of_bytes()
    special = tokenizer.get_added_vocab()
    words = sorted((token, word) for word, token in tokenizer.get_vocab().items() if word not in special)
    return [bytes(as_byte[letter] for letter in word) for _, word in words]


def letters_of_bytes() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (openai/gpt-2, encoder.py)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(others)}


def write_tensor(file: BufferedWriter, name: str, weight: torch.Tensor, placed: OnGrid | None, form: Form) -> None:
    """One tensor: sizes from the innermost on, type, name, data. Biases, norms and positions stay in float32."""
    short = ggml_name(name)
    values = weight.float()
    if name.endswith(("conv1.bias", "conv2.bias")):
        values = values[:, None]
    kind = F32 if form.precision == "fp32" or weight.dim() == 1 or "positional" in short else F16
    if placed is not None:
        kind, data = TYPES[placed.grid.bits], pack(placed.codes, placed.scales, placed.grid.bits)
    else:
        data = (values.half() if kind == F16 else values).numpy().tobytes()
    sizes = values.shape[::-1]
    file.write(struct.pack(f"<3i{len(sizes)}i", len(sizes), len(short), kind, *sizes) + short.encode() + data)


def ggml_name(name: str) -> str:
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def read(folder: Path, placed: Mapping[str, OnGrid]) -> Iterable[tuple[str, Read | None]]:
    """Each weight of `placed` as it stands in the file."""
    stored = {name: (kind, data) for name, kind, data in read_tensors(folder / MODEL)}
    for name, weight in placed.items():
        kind, data = stored.get(ggml_name(name), (None, b""))
        bits = weight.grid.bits
        rows, columns = weight.codes.shape
        yield name, Read(*unpack(data, rows, columns, bits)) if kind == TYPES[bits] else None


def read_tensors(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Name, type and data of each tensor of a file."""
    data = path.read_bytes()
    mels, bins = struct.unpack_from("<2i", data, 48)
    place = 56 + 4 * mels * bins
    (words,) = struct.unpack_from("<i", data, place)
    place += 4
    for _ in range(words):
        place += 4 + struct.unpack_from("<i", data, place)[0]
    while place < len(data):
        dimensions, length, kind = struct.unpack_from("<3i", data, place)
        sizes = struct.unpack_from(f"<{dimensions}i", data, place + 12)
        place += 12 + 4 * dimensions
        name = data[place : place + length].decode()
        place += length
        count = int(np.prod(sizes))
        size = {F32: 4 * count, F16: 2 * count, 8: count // GROUP * 34, 2: count // GROUP * 18}[kind]
        yield name, kind, data[place : place + size]
        place += size


def open_exact(source: Source, placed: Mapping[str, OnGrid], folder: Path) -> None:
    """Float activations cannot be had from whisper.cpp's blocks."""


def open(folder: Path) -> Any:
    from whisper_train.export.whisper_cpp import WhisperCpp, find_library

    return WhisperCpp(folder) if find_library() else None
