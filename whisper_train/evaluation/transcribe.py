"""Transcription of an indexed set by batched generation, longest clips first, shared among the ranks."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from whisper_train.audio import SAMPLE_RATE, log_mel
from whisper_train.data.dataset import shielded
from whisper_train.data.index import Index
from whisper_train.data.read import AudioReader
from whisper_train.model import is_multilingual

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How text is generated; the same for a model and its baseline."""

    task: str
    batch_size: int
    beams: int | None = None
    max_length: int | None = None
    workers: int = 0
    precision: str = "fp32"  # bf16 or fp16: autocast on a GPU, for weights kept in float32


class EvalClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows of an index with their waveforms, in the order of `positions`."""

    def __init__(
        self, index: Index, columns: Sequence[str | None], positions: Sequence[int], max_seconds: float
    ) -> None:
        self.index, self.positions, self.max_seconds = index, positions, max_seconds
        self.reader = AudioReader(columns)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> dict[str, Any]:
        position = int(self.positions[number])
        row = self.index[position]
        try:
            waveform = self.reader.read(row["audio"], row["row_group"], row["row"], row["source"], self.max_seconds)
        except ValueError as error:  # it passed the audit and vanished since: nothing is recognized in it
            warnings.warn(f"{row['id']}: {error}; counted as not recognized", stacklevel=2)
            waveform = None
        return {"position": position, "waveform": waveform, "language": row["language"]}


def choose_clips(index: Index, at_most: int | None) -> list[int]:
    """Positions of all clips, or of `at_most` spread evenly over the set: always the same ones."""
    if at_most is None or at_most >= len(index):
        return list(range(len(index)))
    return [int(position) for position in np.linspace(0, len(index) - 1, at_most).round()]


@torch.inference_mode()
def transcribe(
    model: Any,
    processor: Any,
    index: Index,
    columns: Sequence[str | None],
    positions: Sequence[int],
    decoding: Decoding,
) -> dict[int, str]:
    """Text by position in the index, on every rank; each rank transcribes its share."""
    rank, ranks = 0, 1
    if torch.distributed.is_initialized():
        rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    seconds = np.nan_to_num(index.column("seconds"))
    longest_first = sorted(positions, key=lambda position: (-seconds[position], position))
    extractor = processor.feature_extractor
    clips = EvalClips(index, columns, longest_first[rank::ranks], extractor.n_samples / SAMPLE_RATE)
    # A generator of its own: drawing from torch's would make a resumed run differ from an unbroken one.
    loader = DataLoader(
        clips,
        decoding.batch_size,
        num_workers=decoding.workers,
        collate_fn=list,
        multiprocessing_context=shielded(decoding.workers),
        generator=torch.Generator(),
    )
    texts: dict[int, str] = {}
    for batch in loader:
        heard = [clip for clip in batch if clip["waveform"] is not None]
        texts.update({clip["position"]: "" for clip in batch})
        if heard:
            texts.update(transcribe_batch(model, processor, heard, decoding))
    return gather(texts) if ranks > 1 else texts


def transcribe_batch(model: Any, processor: Any, batch: Sequence[dict[str, Any]], decoding: Decoding) -> dict[int, str]:
    device, dtype = model.device, model.dtype
    longest = max(len(clip["waveform"]) for clip in batch)
    waveforms = torch.zeros(len(batch), longest)
    for row, clip in enumerate(batch):
        waveforms[row, : len(clip["waveform"])] = torch.from_numpy(clip["waveform"])
    features = log_mel(waveforms.to(device), processor.feature_extractor).to(dtype)
    options: dict[str, Any] = {"num_beams": decoding.beams, "max_length": decoding.max_length}
    if is_multilingual(model):  # without the task, WER went from 2.5 to 33.6 %
        options |= {"language": [clip["language"] for clip in batch], "task": decoding.task}
    half = HALF.get(decoding.precision) if device.type == "cuda" and dtype == torch.float32 else None
    with torch.autocast("cuda", half) if half else nullcontext():
        tokens = model.generate(
            features, use_cache=True, **{key: value for key, value in options.items() if value is not None}
        )
    texts = processor.batch_decode(tokens, skip_special_tokens=True)
    return {clip["position"]: text.strip() for clip, text in zip(batch, texts, strict=True)}


def gather(texts: dict[int, str]) -> dict[int, str]:
    """Every rank's texts on every rank."""
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, texts)
    return {position: text for share in shares for position, text in share.items()}
