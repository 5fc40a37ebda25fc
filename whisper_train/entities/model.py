"""Models that label words: loaded, made from random weights, and saved."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job_entities import LABELS, Encoder
from whisper_train.model import current_umask, load
from whisper_train.model_trust import (
    check_settings,
    check_settings_files,
    check_weights,
    pickles_allowed,
    read_settings,
)
from whisper_train.paths import sync

SPECIAL = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>")  # as CamemBERT's
ADDED_STEP = 0.0001  # between the scores of letters that tokenizers adds to a vocabulary at its end
SCORE_DIGITS = 6  # of a score, a logarithm; sums in another order differ from the 15th on
POSITIONS_BEFORE_FIRST = 2  # RoBERTa counts positions from the padding's id on


def load_tokenizer(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    """The tokenizer of a hub id or folder; raises UserError for one that does not tell its words apart."""
    from transformers import AutoTokenizer

    check_kind(place, key)
    how: dict[str, Any] = {"key": key, "kind": None, "revision": revision, "trust_remote_code": False}
    tokenizer = load(AutoTokenizer.from_pretrained, place, **how)
    if not tokenizer.is_fast:
        raise UserError(f"{key}: {place}: its tokenizer does not say which piece is of which word; choose another base")
    return tokenizer


def load_encoder_config(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    """The configuration of a hub id or folder; raises UserError where it asks for code, or for absurd sizes."""
    from transformers import AutoConfig, PreTrainedConfig

    check_kind(place, key)
    how: dict[str, Any] = {"key": key, "kind": None, "revision": revision}
    if not os.path.isabs(place):
        check_settings(load(PreTrainedConfig.get_config_dict, place, **how)[0], f"{key}: {place}")
    return load(AutoConfig.from_pretrained, place, **how, trust_remote_code=False)


def load_encoder(place: str, *, revision: str | None = None, key: str = "base", seed: int | None = None) -> Any:
    """A token-classification model with our labels, in float32; its head is new, drawn by `seed`, where it has others.

    Raises UserError when there is none. Without a `seed` the head must be there: the model is a finished one.
    """
    import torch
    from transformers import AutoModelForTokenClassification, set_seed

    config = load_encoder_config(place, revision=revision, key=key)
    if os.path.isabs(place):
        check_weights(Path(place), key)
    ours = [config.id2label.get(number) for number in range(len(LABELS))] == list(LABELS)
    if not ours and seed is None:
        raise UserError(
            f"{key}: {place}: has other labels ({', '.join(list(config.id2label.values())[:4])} …); name a model that a"
            " job of task: entities has trained"
        )
    if seed is not None:
        set_seed(seed)
    return load(
        AutoModelForTokenClassification.from_pretrained,
        place,
        key=key,
        kind=None,
        revision=revision,
        dtype=torch.float32,
        use_safetensors=None if pickles_allowed() else True,
        trust_remote_code=False,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        ignore_mismatched_sizes=not ours,
    )


def check_kind(place: str, key: str) -> None:
    """Raises UserError for a folder that is not there, holds a Whisper, or asks for more than to be read."""
    if not os.path.isabs(place):
        return
    config = Path(place) / "config.json"
    if not config.is_file():
        trained = "; train that job first, or check the path" if not Path(place).is_dir() else "; it holds no model"
        raise UserError(f"{key}: {place}: no config.json there{trained}")
    check_settings_files(Path(place), key)
    if read_settings(config).get("model_type") == "whisper":
        raise UserError(f"{key}: {place}: is a whisper model; entities need one that labels words, as CamemBERT does")


def create_encoder(settings: Encoder, max_tokens: int, texts: Iterable[list[str]], seed: int, folder: Path) -> None:
    """Writes a CamemBERT-shaped model from random weights, which depend on `seed` alone, and its tokenizer.

    `texts` are sentences as lists of words, of which the tokenizer is made.
    """
    import torch
    from transformers import CamembertConfig, CamembertForTokenClassification, set_seed

    tokenizer = train_tokenizer(texts, settings.vocabulary_size)
    config = CamembertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.attention_heads,
        intermediate_size=settings.feed_forward,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=max_tokens + POSITIONS_BEFORE_FIRST,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    set_seed(seed)
    with torch.device("cpu"):
        model = CamembertForTokenClassification(config)
    aside = folder.with_name(f".{folder.name}.incomplete")
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    aside.replace(folder)
    sync(folder.parent)


def train_tokenizer(texts: Iterable[list[str]], vocabulary_size: int) -> Any:
    """A unigram tokenizer as CamemBERT's (Kudo 2018, arXiv:1804.10959) of about `vocabulary_size` pieces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CamembertTokenizer

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator((" ".join(words) for words in texts), trainer)
    return CamembertTokenizer(vocab=in_order(json.loads(tokenizer.to_str())["model"]["vocab"]))


def in_order(vocabulary: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """`vocabulary` as the same texts always give it: tokenizers sums up in the order of its hash maps, always another.

    Letters that it adds at the end get scores a step apart in that order too: they all get the lowest here.
    """
    special, pieces = vocabulary[: len(SPECIAL)], vocabulary[len(SPECIAL) :]
    lowest = min(score for _, score in pieces)
    letters = sum(len(piece) == 1 for piece, _ in pieces)
    scores = {
        piece: round(lowest if score < lowest + ADDED_STEP * (letters + 1) else score, SCORE_DIGITS)
        for piece, score in pieces
    }
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [*((piece, score) for piece, score in special), *ordered]


def save_encoder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes the model into the run folder, each file whole, so that from_pretrained loads it at any time."""
    aside = folder / ".model.incomplete"
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    written = sorted(aside.iterdir())
    for path in written:
        path.chmod(0o666 & ~current_umask())
        sync(path)
    for path in written:
        path.replace(folder / path.name)
    sync(folder)
    aside.rmdir()
