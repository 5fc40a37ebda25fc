"""What a model's folder may ask of this program: to read numbers. Not to run code, nor to fill the memory."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.paths import open_regular

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
SETTINGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
MAX_SETTINGS_BYTES = 2**24  # Whisper's own are below 2**12
# The largest Whisper has 32 layers, a width of 1,280 and 51,866 tokens; of encoders XLM-RoBERTa has 250,002 tokens.
LARGEST: Mapping[str, int] = {
    "d_model": 2**14,
    "encoder_layers": 2**10,
    "decoder_layers": 2**10,
    "encoder_ffn_dim": 2**16,
    "decoder_ffn_dim": 2**16,
    "vocab_size": 2**20,
    "num_mel_bins": 2**10,
    "max_source_positions": 2**16,
    "max_target_positions": 2**16,
    "hidden_size": 2**14,
    "num_hidden_layers": 2**10,
    "intermediate_size": 2**16,
    "max_position_embeddings": 2**16,
}


def pickles_allowed() -> bool:
    """Whether PICKLED_WEIGHTS=1 says that weights may be read out of pickles, of numbers alone even then."""
    return os.environ.get("PICKLED_WEIGHTS") == "1"


def check_weights(folder: Path, key: str) -> None:
    """Raises UserError, naming `key`, when the weights in `folder` are pickled and nobody has allowed that."""
    if any(folder.glob("*.safetensors")) or pickles_allowed():
        return
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{key}: {folder}: its weights are pickled ({pickled[0]}), and a pickle can run code where it is read; save"
            " them as model.safetensors, or set PICKLED_WEIGHTS=1 in .env if you know who made them"
        )


def check_settings(values: Any, where: str) -> None:
    """Raises UserError, beginning with `where`, for settings of a model that ask for code or for absurd sizes."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: holds {type(values).__name__}, not keys and values; copy the model again")
    kernel = [values.get(key) for key in ("attn_implementation", "_attn_implementation")]
    if values.get("auto_map"):
        raise UserError(f"{where}: auto_map: asks for code of the model's own, which is never run; remove the key")
    if any(isinstance(one, str) and "/" in one for one in kernel):
        raise UserError(f"{where}: attn_implementation: asks for code from the hub, which is never run; remove the key")
    for name, most in LARGEST.items():
        value = values.get(name)
        if value is not None and not (type(value) is int and 0 < value <= most):
            raise UserError(f"{where}: {name}: {str(value)[:40]}: must be a whole number from 1 to {most:,}")


def read_settings(path: Path) -> Any:
    """What a JSON file of settings holds; raises ValueError or OSError when it is none."""
    with open(path, encoding="utf-8", opener=open_regular) as file:
        text = file.read(MAX_SETTINGS_BYTES + 1)
    if len(text) > MAX_SETTINGS_BYTES:
        raise ValueError("too large")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def check_settings_files(folder: Path, key: str) -> None:
    """Raises UserError, naming `key`, for settings in `folder` that are none, or that check_settings refuses."""
    for path in (folder / name for name in SETTINGS):
        if not os.path.lexists(path):
            continue
        try:
            values = read_settings(path)
        except (OSError, ValueError) as error:
            what = "is not the configuration of a model"
            raise UserError(f"{key}: {path}: {what}; copy or train it again") from error
        check_settings(values, f"{key}: {path}")
