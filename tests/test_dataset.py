"""Batches: what the decoder is fed and must predict, and that an epoch shows every clip exactly once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whisper_train.data.dataset import IGNORED, ClipDataset, Collator
from whisper_train.data.index import Index, write_index
from whisper_train.data.order import FILLER, ClipOrder, Draw
from whisper_train.labels import Labels
from whisper_train.model import prompt_tokens

END, START, GERMAN, FRENCH, TRANSCRIBE, NO_TIMESTAMPS = 50257, 50258, 50261, 50265, 50359, 50363


def make_index(path: Path, sources: list[int], **columns: list[Any]) -> Index:
    rows = []
    for number, source in enumerate(sources):
        row: dict[str, Any] = {
            "id": f"clip {number}",
            "audio": f"{number}.wav",
            "text": f"text {number}",
            "language": "de",
        }
        row |= {"speaker": "", "row_group": -1, "row": -1, "source": source, "seconds": 1.0, "audio_hash": number + 1}
        row["tokens"] = 10
        rows.append(row | {name: values[number] for name, values in columns.items()})
    write_index(path, rows)
    return Index(path, cache=None)


@pytest.fixture
def tokenizer(processor_dir: Path) -> Any:
    from transformers import WhisperProcessor

    return WhisperProcessor.from_pretrained(processor_dir).tokenizer


def batch_of(tokenizer: Any, *texts: str, language: str = "de") -> dict[str, Any]:
    labels = Labels(tokenizer, "transcribe", multilingual=True)
    return Collator(pad_token=END)([item_of(labels(text, language)) for text in texts])


def item_of(tokens: list[int]) -> dict[str, Any]:
    return {"waveform": np.ones(160, np.float32), "tokens": tokens, "unlearned": 0, "clips": 1, "audio_seconds": 0.01}


def shown(order: ClipOrder) -> list[int]:
    """The clips of an epoch that joins none, one after the other."""
    return [position for draw in order for position in draw.positions]


def test_the_start_token_is_fed_once_and_never_predicted(tokenizer: Any) -> None:
    """The well-known collator teaches two start tokens (transformers#29973)."""
    batch = batch_of(tokenizer, "guten Morgen", "ja")
    assert (batch["decoder_input_ids"] == START).sum(dim=1).tolist() == [1, 1]
    assert batch["decoder_input_ids"][:, 0].tolist() == [START, START]
    assert not (batch["labels"] == START).any()


def test_language_and_task_stand_in_the_labels_of_every_clip(tokenizer: Any) -> None:
    """transformers#28814: `--language` ignored. A source may have another language than its job."""
    german, french = batch_of(tokenizer, "ja"), batch_of(tokenizer, "oui", language="fr")
    assert german["labels"][0, :3].tolist() == [GERMAN, TRANSCRIBE, NO_TIMESTAMPS]
    assert french["labels"][0, :3].tolist() == [FRENCH, TRANSCRIBE, NO_TIMESTAMPS]


def test_one_end_of_text_is_learned_though_padding_is_the_same_token(tokenizer: Any) -> None:
    """transformers PR#19166: masked by value, the model never learns to stop."""
    labels = batch_of(tokenizer, "ein langer Satz mit vielen Wörtern", "ja")["labels"]
    assert (labels == END).sum(dim=1).tolist() == [1, 1]
    short = labels[1]
    end = int((short == END).nonzero()[0])
    assert (short[end + 1 :] == IGNORED).all()


def test_a_base_without_the_language_token_is_refused(tokenizer: Any) -> None:
    from whisper_train.errors import UserError

    with pytest.raises(UserError, match=r"has no <\|xx\|>"):
        prompt_tokens(tokenizer, "xx", "transcribe")


@pytest.mark.parametrize("clips", [7, 8, 9, 40])
def test_an_epoch_shows_every_clip_once_whatever_the_batch(tmp_path: Path, clips: int) -> None:
    order = ClipOrder(make_index(tmp_path / "index.arrow", [0] * clips), [1.0], global_batch=8, seed=1)
    seen = list(order)
    assert len(seen) == len(order) == order.steps * 8
    assert sorted(shown(order)) == list(range(clips))
    assert seen[clips:] == [FILLER] * (len(order) - clips)


def test_the_order_depends_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 30)
    order, again = ClipOrder(index, [1.0], 4, seed=1), ClipOrder(index, [1.0], 4, seed=1)
    first = list(order)
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first == list(again)
    assert list(ClipOrder(index, [1.0], 4, seed=2)) != first


def test_weights_say_how_often_an_epoch_shows_a_source(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 10 + [1] * 10)
    order = ClipOrder(index, [2.0, 0.5], 5, seed=1)
    seen = shown(order)
    assert Counter(position < 10 for position in seen) == {True: 20, False: 5}
    assert set(Counter(position for position in seen if position < 10).values()) == {2}
    order.set_epoch(1)
    assert {position for position in shown(order) if position >= 10} != {
        position for position in seen if position >= 10
    }


def test_parquet_rows_come_shuffled_but_near_others_of_their_row_group(tmp_path: Path) -> None:
    groups = [number // 100 for number in range(5_000)]
    index = make_index(tmp_path / "index.arrow", [0] * 5_000, row_group=groups, audio=["shard.parquet"] * 5_000)
    seen = shown(ClipOrder(index, [1.0], 8, seed=1))
    assert sorted(seen) == list(range(5_000))
    window = [groups[position] for position in seen[:1_000]]
    assert len(set(window)) == 10  # ten row groups of a hundred rows: what a reader keeps in memory
    assert len(set(window[:50])) > 5  # and mixed


def test_an_unreadable_clip_makes_its_batch_smaller_and_is_named(tmp_path: Path, tokenizer: Any) -> None:
    """A reader that returns some other clip instead hides the loss."""
    index = make_index(tmp_path / "index.arrow", [0, 0], audio=[str(tmp_path / "missing.wav")] * 2)
    clips = ClipDataset(index, [None], Labels(tokenizer, "transcribe", multilingual=True), 30.0)
    batch = Collator(END)([item_of([START, 5, END]), clips[Draw((0,))], clips[FILLER]])
    assert batch["waveforms"].shape[0] == 1
    assert batch["dropped"] == [("clip 0", "no such file")]


def test_a_batch_without_any_clip_is_silence_that_teaches_nothing() -> None:
    batch = Collator(END)([{}, {}])
    assert batch["waveforms"].abs().sum() == 0
    assert (batch["labels"] == IGNORED).all()
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == torch.Size([1, 1])


@pytest.mark.parametrize(("clips", "step"), [(30, 0), (30, 3), (30, 7), (30, 8), (30, 9), (30, 21), (1, 0), (33, 8)])
def test_a_resumed_epoch_goes_on_in_its_order_without_drawing_what_it_has_shown(
    tmp_path: Path, clips: int, step: int
) -> None:
    order = ClipOrder(make_index(tmp_path / "index.arrow", [0] * clips), [1.0], 4, seed=1)
    order.set_epoch(step // order.steps)
    whole, shown_before = list(order), step % order.steps * 4
    order.go_on(step)
    resumed = list(order)
    assert len(resumed) == len(order)
    assert resumed[:shown_before] == [FILLER] * shown_before
    assert resumed[shown_before:] == whole[shown_before:]
    order.go_on((step // order.steps + 1) * order.steps)
    assert sorted(shown(order)) == list(range(clips)), "the epoch after it is whole"


def test_a_resumed_loader_reads_nothing_of_what_was_trained_on_before(tmp_path: Path) -> None:
    """transformers#26251: resuming an iterable data set replays it, for hours."""
    from accelerate.data_loader import skip_first_batches
    from torch.utils.data import DataLoader, Dataset

    class Counting(Dataset[int]):
        def __init__(self) -> None:
            self.read: list[int] = []

        def __len__(self) -> int:
            return 40

        def __getitem__(self, draw: Draw) -> int:
            self.read.append(draw.positions[0])
            return draw.positions[0]

    clips = Counting()
    order = ClipOrder(make_index(tmp_path / "index.arrow", [0] * 40), [1.0], 4, seed=1)
    rest = [int(position) for batch in skip_first_batches(DataLoader(clips, 4, sampler=order), 7) for position in batch]
    assert rest == shown(order)[28:] == clips.read


CRASH = """
import torch
from torch.utils.data import DataLoader
from whisper_train.data.workers import shielded

loader = DataLoader(range(10_000), num_workers=1, multiprocessing_context=shielded(1))
batches = iter(loader)
next(batches)
raise RuntimeError("CUDA error: an illegal memory access was encountered")
"""


@pytest.mark.slow
def test_a_crash_ends_the_process_although_its_loaders_hear_no_signal() -> None:
    """The trace keeps the iterator alive until Python itself ends its children, by SIGTERM, and waits for them."""
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "illegal memory access" in done.stderr
