"""From the index to batches: decoded waveforms, augmented and joined, with their labels."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from whisper_train.audio import SAMPLE_RATE, SILENCE_PEAK, Waveform
from whisper_train.augment.augmenter import Augmenter
from whisper_train.data.index import Index
from whisper_train.data.joining import join_clips
from whisper_train.data.order import Draw
from whisper_train.data.read import AudioReader
from whisper_train.data.windows import NO_CLIP
from whisper_train.labels import Labels, Segment

IGNORED = -100  # label of positions that the loss leaves out, as in torch's cross entropy
JOINING = 2  # sets this use of the seed apart from others


class ClipDataset(Dataset[dict[str, Any]]):
    """The clips of an index, as draws name them. One that is unusable is named in `dropped`, and never another clip."""

    def __init__(
        self,
        index: Index,
        columns: Sequence[str | None],
        labels: Labels,
        max_seconds: float,
        *,
        augmenter: Augmenter | None = None,
        window_seconds: float | None = None,
        pause_seconds: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ):
        self.index = index
        self.reader = AudioReader(columns)
        self.labels = labels
        self.max_seconds = max_seconds  # of a clip
        self.augmenter = augmenter
        self.window_seconds = window_seconds or max_seconds
        self.pause_seconds = pause_seconds
        self.seed = seed

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """`waveform`, `tokens`, `unlearned` (so many first predictions) and what is counted; `dropped`."""
        heard: list[tuple[int, dict[str, Any], Waveform]] = []
        dropped = []
        for position in draw.positions:
            row = self.index[position]
            try:
                heard.append((position, row, self.read(row)))
            except ValueError as error:
                dropped.append((row["id"], str(error)))
        item: dict[str, Any] = {"dropped": dropped} if dropped else {}
        return {**item, **self.make_window(draw, heard)} if heard else item

    def make_window(self, draw: Draw, heard: Sequence[tuple[int, dict[str, Any], Waveform]]) -> dict[str, Any]:
        """The clips that could be heard as one waveform with one label."""
        joined = join_clips(
            self.augmented(draw, heard),
            self.beside(draw, draw.cut),
            self.window_seconds,
            self.pause_seconds,
            np.random.default_rng([self.seed, draw.epoch, draw.repeat, draw.positions[0], JOINING]),
            lead=draw.timestamps,
            ahead=self.beside(draw, draw.tail),
        )
        segments = [Segment(*span, row["text"]) for span, (_, row, _) in zip(joined.spans, heard, strict=True)]
        tokens, unlearned = self.labels.window(
            segments,
            heard[0][1]["language"],
            timestamps=draw.timestamps,
            cut_at=joined.cut_at,
            prompt="" if draw.prompt == NO_CLIP else self.index[draw.prompt]["text"],
        )
        audio_seconds = sum(end - start for start, end in joined.spans)
        counted = {"clips": len(heard), "audio_seconds": audio_seconds, "window_seconds": draw.window_seconds}
        return {"waveform": joined.waveform, "tokens": tokens, "unlearned": unlearned, **counted}

    def augmented(self, draw: Draw, heard: Sequence[tuple[int, dict[str, Any], Waveform]]) -> list[Waveform]:
        """The waveforms with their effects; what makes them longer leaves room for all of them in the window."""
        waveforms = [waveform for _, _, waveform in heard]
        if self.augmenter is None:
            return waveforms
        pauses = self.pause_seconds[0] * (len(heard) - 1)
        spare = (draw.window_seconds or self.window_seconds) - pauses - sum(map(len, waveforms)) / SAMPLE_RATE
        for place, (position, row, waveform) in enumerate(heard):
            seconds = len(waveform) / SAMPLE_RATE
            waveforms[place] = self.augmenter(
                waveform,
                row["source"],
                position,
                epoch=draw.epoch,
                repeat=draw.repeat,
                max_seconds=seconds + max(spare, 0.0),
            )
            spare -= len(waveforms[place]) / SAMPLE_RATE - seconds
        return waveforms

    def beside(self, draw: Draw, position: int) -> Waveform | None:
        """A clip before or behind the window; one that is unusable is named where it is learned itself."""
        if position == NO_CLIP:
            return None
        row = self.index[position]
        try:
            waveform = self.read(row)
        except ValueError:
            return None
        if self.augmenter is None:
            return waveform
        return self.augmenter(waveform, row["source"], position, epoch=draw.epoch, repeat=draw.repeat)

    def read(self, row: dict[str, Any]) -> Waveform:
        """The waveform of a clip; raises ValueError saying why it cannot be used."""
        waveform = self.reader.read(row["audio"], row["row_group"], row["row"], row["source"], self.max_seconds + 1)
        if len(waveform) > self.max_seconds * SAMPLE_RATE:
            raise ValueError(f"over {self.max_seconds:g} s")
        if math.isnan(row["seconds"]) and float(np.abs(waveform).max()) < SILENCE_PEAK:
            raise ValueError("silent")
        return waveform


class Counts(NamedTuple):
    """What is in a batch."""

    windows: int
    clips: int  # that are learned
    audio_seconds: float  # of theirs: pauses and what is cut off apart
    tokens: int  # of all windows, padding apart
    width: int  # tokens of a window with its padding
    labels: int  # tokens that are learned
    window_seconds: float = 0.0  # that the longest of the windows needs, or of the global batch where that is known


class Collator:
    """Makes batches of `waveforms` (windows, samples), `samples` (windows,), `decoder_input_ids` and `labels`.

    The decoder is fed its tokens up to the last of the text and must predict what follows, end of text included; of a
    prompt nothing. Positions beyond a window's own length are masked by position, since Whisper pads with end of text.
    `counts` says what is in it; `dropped` names the clips that could not be read.
    """

    def __init__(self, pad_token: int) -> None:
        self.pad_token = pad_token

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        windows = [item for item in items if "waveform" in item]
        dropped = [one for item in items for one in item.get("dropped", [])]
        if not windows:  # nothing to learn from, but every rank must take the step: silence without labels
            nothing = {"tokens": [self.pad_token] * 2, "unlearned": 1, "clips": 0, "audio_seconds": 0.0}
            windows = [{"waveform": np.zeros(SAMPLE_RATE // 10, np.float32), **nothing}]
        samples = [len(window["waveform"]) for window in windows]
        lengths = [len(window["tokens"]) - 1 for window in windows]
        width = max(lengths)
        waveforms = torch.zeros(len(windows), max(samples))
        inputs = torch.full((len(windows), width), self.pad_token)
        labels = torch.full((len(windows), width), IGNORED)
        for number, window in enumerate(windows):
            tokens, unlearned = torch.tensor(window["tokens"]), window["unlearned"]
            waveforms[number, : samples[number]] = torch.from_numpy(window["waveform"])
            inputs[number, : lengths[number]] = tokens[:-1]
            labels[number, unlearned : lengths[number]] = tokens[unlearned + 1 :]
        counts = Counts(
            windows=len(windows),
            clips=sum(window["clips"] for window in windows),
            audio_seconds=sum(window["audio_seconds"] for window in windows),
            tokens=sum(lengths),
            width=width,
            labels=int((labels != IGNORED).sum()),
            window_seconds=max(max(samples) / SAMPLE_RATE, *(window.get("window_seconds", 0.0) for window in windows)),
        )
        batch = {
            "waveforms": waveforms,
            "samples": torch.tensor(samples),
            "counts": counts,
            "decoder_input_ids": inputs,
            "labels": labels,
        }
        return {**batch, "dropped": dropped} if dropped else batch
