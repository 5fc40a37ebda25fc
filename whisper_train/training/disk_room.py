"""Room on the disk for the next checkpoint: looked for before it is written, waited for where there is none."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed, Stopped
from whisper_train.paths import read_json
from whisper_train.sudden_ends import FullDisk
from whisper_train.training.checkpoints import MANIFEST, find_newest, is_complete, list_checkpoints
from whisper_train.training.signals import StopRequest, on_any_rank

SPARE = 32 * 2**20  # bytes beside the checkpoint: for logs and run.json
GROWTH = 1.02  # a checkpoint grows with its log of losses
POLL_SECONDS = 1.0


@dataclass(kw_only=True)
class DiskRoom:
    """`first` bytes are what a checkpoint takes as long as there is none to measure."""

    folder: Path  # that checkpoints are written to
    first: int
    stops: bool  # where there is no room; else it waits
    request: StopRequest
    say: Callable[[str], None]

    def needed(self) -> int:
        """Bytes that the next checkpoint takes, with what must stay free beside it."""
        known = [read_json(path / MANIFEST)["files"] for path in list_checkpoints(self.folder) if is_complete(path)]
        largest = max((sum(files.values()) for files in known), default=0)
        return round(largest * GROWTH or self.first) + SPARE

    def free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def is_spent(self) -> bool:
        """Whether others have filled the disk while a checkpoint was being written."""
        return self.free() < SPARE

    def wait(self, args: Any) -> None:
        """Returns when there is room, on all ranks together.

        Raises RunFailed where the job says stop, and Stopped when the run is asked to leave meanwhile.
        """
        told = False
        while on_any_rank(args.should_save and self.free() < self.needed(), args):
            if self.stops:
                raise RunFailed(f"{self.describe()}; make room, and the same command goes on from {self.newest()}")
            if not told:
                self.say(f"{self.describe()}; WAITING until there is; everything up to {self.newest()} is safe")
            told = True
            if on_any_rank(self.request.asked, args):
                self.say(f"left while waiting for room: what was trained since {self.newest()} is not saved")
                raise Stopped
            time.sleep(POLL_SECONDS)
        if told:
            self.say("disk: there is room again; going on")

    def filled_up(self, step: int, ranks: int) -> None:
        """Others filled the disk while the checkpoint of `step` was being written: one rank tries again.

        Raises FullDisk with several, of which the others wait for each other in the middle of theirs.
        """
        told = f"disk: it filled up while checkpoint-{step} was being written"
        if ranks > 1 or self.stops:
            raise FullDisk(f"{told}; make room, and the same command goes on from {self.newest()}", step)
        self.say(f"{told}; what was written of it is removed")

    def describe(self) -> str:
        needed, free = self.needed() / 2**20, self.free() / 2**20
        return (
            f"disk: no room for the next checkpoint: {self.folder} has {free:,.0f} MiB free, {needed:,.0f} are needed"
        )

    def newest(self) -> str:
        newest = find_newest(self.folder)
        return newest.name if newest else "the beginning"
