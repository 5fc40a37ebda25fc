"""The model a job starts from, its tokens, and the folder it is saved to."""

import hashlib
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job, Lora, Model
from whisper_train.model_parts import freeze_parts
from whisper_train.model_trust import (
    check_settings,
    check_settings_files,
    check_weights,
    pickles_allowed,
    read_settings,
)
from whisper_train.paths import Directories, file_digest, sync, write_json

HUB_SECONDS = 10.0  # for the hub to answer at all
# What decides on the text that a model writes.
MODEL_FILES: tuple[str, ...] = ("*.safetensors", "pytorch_model*.bin", "config.json", "generation_config.json")
MODEL_FILES += ("*processor_config.json", "tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json")
QUANTIZATION_FILE = "quantization.json"  # quantization/saved.py says what is in it
MODEL_FILES += (QUANTIZATION_FILE,)


def resolve_place(name: str, directories: Directories) -> str:
    """The hub id or folder that `name` stands for; for job:<name> the folder of that job's result."""
    if name.startswith("job:"):
        return str(directories.models / name.removeprefix("job:"))
    if name.startswith(("/", "~", "./", "../")) or Path(name).is_dir():
        return str(Path(name).expanduser().absolute())
    return name


def model_files(folder: Path) -> list[Path]:
    """The files in a model's folder that decide on the text it writes, by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def files_digest(folder: Path) -> str:
    """A hash of the weights and settings in a model's folder."""
    total = hashlib.sha256()
    for path in model_files(folder):
        total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()


def load_processor(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    """The WhisperProcessor of a hub id or folder, which the job names as `key`; raises UserError when there is none."""
    from transformers import WhisperProcessor

    return load(WhisperProcessor.from_pretrained, place, key=key, revision=revision, trust_remote_code=False)


def load_config(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    from transformers import WhisperConfig

    return load(WhisperConfig.from_pretrained, place, key=key, revision=revision)


def load_model(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    """WhisperForConditionalGeneration in float32 with its output weights tied; raises UserError when there is none."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    if os.path.isabs(place):
        check_weights(Path(place), key)
    else:
        check_settings(load(WhisperConfig.get_config_dict, place, key=key, revision=revision)[0], f"{key}: {place}")
    safe = None if pickles_allowed() else True
    how: dict[str, Any] = {"revision": revision, "dtype": torch.float32, "use_safetensors": safe}
    model = load(WhisperForConditionalGeneration.from_pretrained, place, key=key, **how)
    check_tied(model)
    drop_forced_tokens(model)
    return model


def load(
    read: Callable[..., Any], place: str, *, key: str = "base", kind: str | None = "whisper", **options: Any
) -> Any:
    """What `read` makes of a hub id or folder; a folder must hold a model of this `kind` (None: any)."""
    problem = None
    if os.path.isabs(place):
        if kind:
            check_folder(Path(place), key)
    elif problem := hub_problem():
        options["local_files_only"] = True  # what was fetched before does; a client that asks again takes minutes
    try:
        return read(place, **{name: value for name, value in options.items() if value is not None})
    except Exception as error:  # a damaged file is an error of a dozen kinds in four libraries
        reason = re.split(r"(?<=[.?!])\s", re.sub(r"\s+", " ", str(error)).strip())[0].rstrip(".")
        way_out = "" if os.path.isabs(place) else "; check the name, the network, and HF_TOKEN if the model is gated"
        if problem:
            known = is_fetched(place, options.get("revision"))
            reason = f"{reason if known else 'it was not fetched before'}, and the hub does not answer ({problem})"
        raise UserError(f"{key}: {place}: cannot be loaded: {reason}{way_out}") from error


def is_fetched(place: str, revision: str | None) -> bool:
    """Whether the hub's cache has the configuration of `place`, or no hub can: then the error itself says more."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(place, "config.json", revision=revision), str)
    except HFValidationError:  # not a name on the hub
        return True


@cache
def hub_problem() -> str | None:
    """Why the hub cannot be reached, asked once in a process and briefly; None where it answers, whatever it says."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:  # of whichever library the hub's client is made with
        return str(error).split("\n")[0] or type(error).__name__
    return None


def check_folder(folder: Path, key: str) -> None:
    """Raises UserError when `folder` is not there or holds another model than Whisper."""
    if not folder.is_dir():
        trained = "train that job first, or " if key == "base" else ""
        raise UserError(f"{key}: {folder}: no such folder; {trained}check the path")
    check_settings_files(folder, key)
    config = folder / "config.json"
    if config.is_file() and (kind := read_settings(config).get("model_type")) != "whisper":
        raise UserError(f"{key}: {folder}: is a {kind} model, not Whisper")


def check_tied(model: Any) -> None:
    """The output projection shares the embedding's weights; a load that lost the tie is a bug (DeepSpeed#1896)."""
    embedding = model.get_input_embeddings().weight
    if model.proj_out.weight is not embedding:
        model.tie_weights()
    assert model.proj_out.weight is model.get_input_embeddings().weight, "proj_out is not tied to the embedding"


def drop_forced_tokens(model: Any, keys: tuple[str, ...] = ("forced_decoder_ids",)) -> None:
    """Removes forced tokens, with which generate() fails (transformers#37172): language and task are asked for."""
    for config in (model.config, model.generation_config):
        for key in keys:
            if getattr(config, key, None) is not None:
                setattr(config, key, None)


def clean_generation_config(model: Any) -> None:
    """Removes suppressed tokens too: a tuned model may have been taught them. A base is measured as published."""
    drop_forced_tokens(model, ("forced_decoder_ids", "suppress_tokens"))


def is_multilingual(model: Any) -> bool:
    return bool(getattr(model.generation_config, "is_multilingual", True))


def prompt_tokens(tokenizer: Any, language: str, task: str, *, multilingual: bool = True) -> list[int]:
    """Start of transcript, language, task, no timestamps (English-only models: without the middle two).

    Raises UserError when the tokenizer lacks one of them.
    """
    words = ["<|startoftranscript|>", f"<|{language}|>", f"<|{task}|>", "<|notimestamps|>"]
    if not multilingual:
        words = [words[0], words[3]]
    known = tokenizer.get_added_vocab()
    if missing := [word for word in words if word not in known]:
        raise UserError(f"language: {language}: the base's tokenizer has no {missing[0]}; choose another base")
    return [int(known[word]) for word in words]


def prepare_for_training(model: Any, tokenizer: Any, job: Job) -> Any:
    """Sets language and task, dropout, SpecAugment, LoRA and what is frozen; returns the model to train."""
    clean_generation_config(model)
    set_language(model, tokenizer, job.language, job.task)
    return shape_for_training(model, job.model)


def shape_for_training(model: Any, settings: Model) -> Any:
    """Dropout, SpecAugment, LoRA and what is frozen: all of it that decides on memory, and that needs no tokenizer."""
    apply_model_settings(model, settings)
    if settings.lora:
        model = add_lora(model, settings.lora)
    freeze_parts(model, settings.freeze)
    return model


def set_language(model: Any, tokenizer: Any, language: str, task: str) -> None:
    """Makes `language` and `task` what the saved folder transcribes when nothing else is asked of it."""
    multilingual = is_multilingual(model)
    prompt = prompt_tokens(tokenizer, language, task, multilingual=multilingual)
    if prompt[0] != model.config.decoder_start_token_id:
        raise UserError("base: the tokenizer's start token is not the model's; take both from the same place")
    if multilingual:
        model.generation_config.language = language
        model.generation_config.task = task


def apply_model_settings(model: Any, settings: Model) -> None:
    model.config.use_cache = False
    if settings.dropout is not None:
        model.config.dropout = settings.dropout
        for module in model.modules():
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = settings.dropout
    model.config.apply_spec_augment = settings.spec_augment is not None
    if settings.spec_augment:
        for key, value in settings.spec_augment.model_dump().items():
            setattr(model.config, key, value)


def add_lora(model: Any, settings: Lora) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError("model.lora: needs peft: pip install 'whisper-train[lora]'") from error

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"model.lora.target_modules: {settings.target_modules}: {error}") from error
    wrapped.enable_input_require_grads()
    return wrapped


def merge_lora(model: Any) -> Any:
    """The plain Whisper model with its adapters, if any, merged into the weights."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def save_model(model: Any, processor: Any, folder: Path, quantization: dict[str, Any] | None = None) -> None:
    """Writes the model into the run folder, each file whole, so that from_pretrained loads it at any time.

    Weights, configuration and processor are first written aside; an interrupted save leaves the old model. With
    `quantization`, what quantization.json says of it.
    """
    clean_generation_config(model)
    check_tied(model)
    model.config.use_cache = True
    model.config.apply_spec_augment = False
    if isinstance(model.generation_config.eos_token_id, list):  # transformers#45584
        model.generation_config.eos_token_id = model.config.eos_token_id
    aside = folder / ".model.incomplete"
    model.save_pretrained(aside)
    processor.save_pretrained(aside)
    if quantization is not None:
        write_json(aside / QUANTIZATION_FILE, quantization)
    written = sorted(aside.iterdir())
    for path in written:
        path.chmod(0o666 & ~current_umask())  # safetensors writes for its owner alone
        sync(path)
    for path in written:
        path.replace(folder / path.name)
    sync(folder)
    aside.rmdir()
