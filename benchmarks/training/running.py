"""What a child process is told, and what it trains with."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from whisper_train.paths import read_json, write_text

MOST_UPDATES = 1_000_000  # nobody's last: the benchmark says when training ends


class Seen(NamedTuple):
    """What was trained on so far."""

    clips: int
    audio_seconds: float  # of the clips themselves, without pauses and padding


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """How one way trains; written for its process as JSON."""

    way: str
    base: Path
    train: Path
    held_out: Path
    held_out_index: Path
    language: str
    device: str
    precision: str
    global_batch: int  # windows an update
    device_batch: int
    learning_rate: float
    warmup_updates: int
    gradient_checkpointing: bool
    threads: int
    seed: int
    data: dict[str, Any]  # job keys of the way
    profile: str  # machine profile
    own_layout: bool = True  # whether batch, precision and processes are those above, and not the profile's
    cap_gib: float | None = None
    most_updates: int = MOST_UPDATES
    phases: dict[str, float] = field(default_factory=dict)  # phase -> when it ended, by time.monotonic()

    def note(self, phase: str) -> None:
        """Remembers that `phase` of the preparation has ended."""
        self.phases[phase] = time.monotonic()


def write_spec(spec: Spec, path: Path) -> None:
    write_text(path, json.dumps(asdict(spec), default=str))


def read_spec(path: Path) -> Spec:
    values = read_json(path)
    places = {key: Path(values[key]) for key in ("base", "train", "held_out", "held_out_index")}
    return Spec(**{**values, **places})


@dataclass(frozen=True, slots=True)
class Running:
    """A trainer that is ready, and what it has seen after so many updates."""

    trainer: Any
    seen: Callable[[int], Seen]
    whole_window: Callable[[], AbstractContextManager[None]] = nullcontext  # within it the encoder hears all of 30 s
