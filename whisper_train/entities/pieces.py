"""From sentences to batches of word pieces with labels, and back from pieces to words."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from whisper_train.data.dataset import IGNORED, Counts
from whisper_train.data.order import Draw
from whisper_train.entities.sentence import Sentence
from whisper_train.job_entities import LABELS

NUMBERS = {label: number for number, label in enumerate(LABELS)}


def encode(tokenizer: Any, tokens: Sequence[str], max_tokens: int) -> tuple[list[int], list[int | None]]:
    """The ids of a sentence of words, and for each the word whose first piece it is (None: a later one, or special).

    A sentence of more than `max_tokens` pieces is cut off.
    """
    encoded = tokenizer(list(tokens), is_split_into_words=True, truncation=True, max_length=max_tokens)
    firsts: list[int | None] = []
    before: int | None = None
    for word in encoded.word_ids():
        firsts.append(word if word != before else None)
        before = word
    return encoded["input_ids"], firsts


def count_pieces(tokenizer: Any, tokens: Sequence[str]) -> int:
    return len(tokenizer(list(tokens), is_split_into_words=True)["input_ids"])


class SentenceDataset(Dataset[dict[str, Any]]):
    """Sentences as draws name them: ids and labels, of which only the first piece of a word has one."""

    def __init__(self, sentences: Sequence[Sentence], tokenizer: Any, max_tokens: int) -> None:
        self.sentences = sentences
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """`ids` and `labels`; nothing for a draw that fills up a batch."""
        if not draw.positions:
            return {}
        return self.encoded(draw.positions[0])

    def encoded(self, position: int) -> dict[str, Any]:
        sentence = self.sentences[position]
        ids, firsts = encode(self.tokenizer, sentence.tokens, self.max_tokens)
        labels = [IGNORED if word is None else NUMBERS[sentence.labels[word]] for word in firsts]
        return {"ids": ids, "labels": labels}


class PieceCollator:
    """Makes `input_ids`, `attention_mask` and `labels`, all (sentences, pieces), and `counts` of what is in them.

    A batch of fillers alone becomes one sentence without a label, which teaches nothing.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        there = [item for item in items if item]
        shown = there or [{"ids": [self.pad_id], "labels": [IGNORED]}]
        width = max(len(item["ids"]) for item in shown)
        size = (len(shown), width)
        ids = torch.full(size, self.pad_id)
        mask = torch.zeros(size, dtype=torch.long)
        labels = torch.full(size, IGNORED)
        for row, item in enumerate(shown):
            length = len(item["ids"])
            ids[row, :length] = torch.tensor(item["ids"])
            mask[row, :length] = 1
            labels[row, :length] = torch.tensor(item["labels"])
        tokens = int(mask.sum())
        counts = Counts(len(shown), len(there), 0.0, tokens, width, int((labels != IGNORED).sum()))
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "counts": counts}


@torch.inference_mode()
def label_words(
    model: Any,
    tokenizer: Any,
    sentences: Sequence[Sequence[str]],
    *,
    max_tokens: int,
    batch_size: int,
    leaves: Callable[[], bool] = lambda: False,
) -> list[list[str]]:
    """A label for each word of `sentences`; words beyond `max_tokens` pieces get O.

    Where `leaves` says so, between two batches, the rest is not labelled.
    """
    was_training = model.training
    model.eval()
    encoded = {position: encode(tokenizer, tokens, max_tokens) for position, tokens in enumerate(sentences) if tokens}
    order = sorted(encoded, key=lambda position: -len(encoded[position][0]))
    labelled = [["O"] * len(tokens) for tokens in sentences]
    collate = PieceCollator(tokenizer.pad_token_id)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collate([{"ids": encoded[one][0], "labels": [IGNORED] * len(encoded[one][0])} for one in chosen])
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        found = model(**inputs).logits.argmax(-1).tolist()
        for row, position in zip(found, chosen, strict=True):
            for number, word in zip(row, encoded[position][1], strict=False):
                if word is not None:
                    labelled[position][word] = LABELS[number]
        if leaves():
            break
    model.train(was_training)
    return labelled
