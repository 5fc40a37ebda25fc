"""Models that label words: loaded, made from random weights, and saved."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job_entities import LABELS, Encoder
from whisper_train.model import current_umask, load
from whisper_train.paths import sync

SPECIAL = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>")  # as CamemBERT's
POSITIONS_BEFORE_FIRST = 2  # RoBERTa counts positions from the padding's id on


def load_tokenizer(place: str, *, revision: str | None = None, key: str = "base") -> Any:
    """The tokenizer of a hub id or folder; raises UserError for one that does not tell its words apart."""
    from transformers import AutoTokenizer

    check_kind(place, key)
    tokenizer = load(AutoTokenizer.from_pretrained, place, key=key, kind=None, revision=revision)
    if not tokenizer.is_fast:
        raise UserError(f"{key}: {place}: its tokenizer does not say which piece is of which word; choose another base")
    return tokenizer


def load_encoder(place: str, *, revision: str | None = None, key: str = "base", seed: int | None = None) -> Any:
    """A token-classification model with our labels, in float32; its head is new, drawn by `seed`, where it has others.

    Raises UserError when there is none. Without a `seed` the head must be there: the model is a finished one.
    """
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, set_seed

    check_kind(place, key)
    config = load(AutoConfig.from_pretrained, place, key=key, kind=None, revision=revision)
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
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        ignore_mismatched_sizes=not ours,
    )


def check_kind(place: str, key: str) -> None:
    """Raises UserError for a folder that is not there or holds a Whisper."""
    if not os.path.isabs(place):
        return
    config = Path(place) / "config.json"
    if not config.is_file():
        trained = "; train that job first, or check the path" if not Path(place).is_dir() else "; it holds no model"
        raise UserError(f"{key}: {place}: no config.json there{trained}")
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{key}: {config}: is not the configuration of a model; copy or train it again") from error
    if kind == "whisper":
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
    vocabulary = [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return CamembertTokenizer(vocab=vocabulary)


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
