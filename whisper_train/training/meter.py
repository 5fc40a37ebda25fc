"""What training takes in, and what it costs: clips, audio, padding, waiting and operations, of the steps alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import torch

from whisper_train.data.dataset import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Sums over training steps and ranks; times are those of a rank, on average."""

    clips: float = 0.0
    audio_seconds: float = 0.0  # of the clips that are learned
    window_seconds: float = 0.0  # that the encoder saw, silence and pauses among them
    label_tokens: float = 0.0
    label_positions: float = 0.0  # padding among them
    flops: float = 0.0
    possible_flops: float = 0.0  # matrix products that the devices could have done in this time
    seconds: float = 0.0
    waiting_seconds: float = 0.0  # for the next batch

    def __add__(self, other: "Work") -> "Work":
        return Work(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})

    def figures(self) -> dict[str, float]:
        """What people compare; shares are between 0 and 1. Those of audio are left out where there was none."""
        audio = {
            "audio_hours_per_hour": round(self.audio_seconds / max(self.seconds, 1e-9), 2),
            "padding_share": round(1 - self.audio_seconds / max(self.window_seconds, 1e-9), 4),
        }
        return {
            "clips_per_second": round(self.clips / max(self.seconds, 1e-9), 3),
            **(audio if self.window_seconds or not self.clips else {}),
            "label_padding_share": round(1 - self.label_tokens / max(self.label_positions, 1), 4),
            "data_wait_share": round(self.waiting_seconds / max(self.seconds, 1e-9), 4),
            "model_flops_utilization": round(self.flops / max(self.possible_flops, 1.0), 4),
        }

    def report(self) -> dict[str, Any]:
        """The section `throughput` of run.json: the figures, and the sums that a resumed run adds to."""
        return {**self.figures(), "totals": asdict(self)}


class Meter:
    """Sums the work of this rank; `settle` adds that of all ranks to `total`, which goes on from `earlier` sessions.

    `flops` says what training on a batch computes, `window_seconds` how long each of its windows is for the encoder.
    """

    def __init__(
        self, earlier: Work, window_seconds: Callable[[Counts], float], flops: Callable[[Counts], float]
    ) -> None:
        self.total = earlier
        self.window_seconds = window_seconds
        self.flops = flops
        self.rate = 0.0  # operations a second that this rank's device could do
        self.unsettled = Work()  # of this rank
        self.unreported = Work()  # of all ranks
        self.clock = 0.0

    def start(self, rate: float) -> None:
        """Training begins now, on a device that could do `rate` operations a second."""
        self.rate = rate
        self.clock = time.perf_counter()

    def count(self, batch: Counts) -> None:
        self.unsettled += Work(
            clips=batch.clips,
            audio_seconds=batch.audio_seconds,
            window_seconds=batch.windows * self.window_seconds(batch),
            label_tokens=batch.tokens,
            label_positions=batch.windows * batch.width,
            flops=self.flops(batch),
        )

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; the time until each is there counts as waiting."""
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.unsettled += Work(waiting_seconds=time.perf_counter() - started)
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within the block is no training."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.clock += time.perf_counter() - started

    def settle(self, reduce: Callable[[torch.Tensor], torch.Tensor], ranks: int, device: torch.device) -> None:
        """Adds up what all ranks have done until now; every rank must call this. `reduce` sums over the ranks."""
        seconds = time.perf_counter() - self.clock
        mine = self.unsettled + Work(seconds=seconds, possible_flops=self.rate * seconds)
        self.unsettled, self.clock = Work(), self.clock + seconds
        summed = reduce(torch.tensor(astuple(mine), dtype=torch.float64, device=device)).tolist()
        work = {field.name: value for field, value in zip(fields(Work), summed, strict=True)}
        for name in ("seconds", "waiting_seconds"):
            work[name] /= ranks
        self.total += Work(**work)
        self.unreported += Work(**work)

    def report(self) -> dict[str, float]:
        """The figures of what was settled since the last report."""
        figures, self.unreported = self.unreported.figures(), Work()
        return figures
