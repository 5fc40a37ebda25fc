"""What a model found in the sentences of a set, as JSON lines: all figures come from these files and nothing else."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from whisper_train.entities.rules import label_by_rules
from whisper_train.entities.sentence import Sentence
from whisper_train.errors import UserError
from whisper_train.job_file import display
from whisper_train.paths import written_whole

Label = Callable[[Sequence[Sequence[str]]], list[list[str]]]  # sentences as words -> labels


def open_labeller(place: str, *, revision: str | None, key: str, seed: int | None, max_tokens: int, size: int) -> Label:
    """What labels sentences with the model at `place`; with a `seed` the head of a base without one is drawn by it."""
    import torch

    from whisper_train.entities.model import load_encoder, load_tokenizer
    from whisper_train.entities.pieces import label_words

    tokenizer = load_tokenizer(place, revision=revision, key=key)
    model = load_encoder(place, revision=revision, key=key, seed=seed).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    most = min(max_tokens, model.config.max_position_embeddings - 2)

    def label(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        return label_words(model, tokenizer, sentences, max_tokens=most, batch_size=size)

    return label


def by_rules(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    return [label_by_rules(tokens) for tokens in sentences]


def write_predictions(
    path: Path, header: dict[str, Any], sentences: Sequence[Sentence], labelled: Sequence[Sequence[str]]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"predictions": 1, **header}, ensure_ascii=False) + "\n")
        for sentence, labels in zip(sentences, labelled, strict=True):
            line = {"text": sentence.text, "tokens": sentence.tokens, "labels": list(sentence.labels)}
            line |= {"predicted": list(labels), "kind": sentence.kind, "pattern": sentence.pattern}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_predictions(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the lines of a file; raises UserError for one that is damaged."""
    try:
        header, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
        if header.get("predictions") != 1:
            raise ValueError("is of another version")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{display(path)}: cannot be read ({error}); evaluate again") from error
    return header, lines
