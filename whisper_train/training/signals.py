"""A request to leave, by a signal or because the time is over, and what ranks agree on about it."""

import signal
import time
from types import FrameType
from typing import Any

import torch

from whisper_train.errors import Stopped


class StopRequest:
    """Whether SIGTERM or SIGINT asked this process to leave; a second one leaves at once."""

    def __init__(self) -> None:
        self.asked = False
        self.at_once = False  # asked twice: it leaves where it is
        self.since: float | None = None  # time.monotonic() when it was asked

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.at_once = True
            raise Stopped
        self.asked = True
        self.since = time.monotonic()

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)


def on_any_rank(asked: bool, args: Any) -> bool:
    """Whether any rank asks to stop: all must agree on the step, or some would wait for the others forever."""
    if args.world_size == 1:
        return asked
    flag = torch.tensor(float(asked), device=args.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
