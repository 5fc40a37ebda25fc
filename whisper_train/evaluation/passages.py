"""What a model transcribes in one piece: a clip, clips joined to a long recording, or a probe of silence and noise."""

import warnings
from collections.abc import Sequence, Sized
from typing import Any, Protocol

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.augmenter import Augmenter
from whisper_train.data.index import Index, shorten
from whisper_train.data.read import AudioReader
from whisper_train.evaluation.words import join_texts

PAUSE_SECONDS = 0.5  # between joined clips
AUGMENT_SEED = 0  # of a set that is made harder to hear: everybody's, so that every model hears the same
PROBE_LENGTHS = (0.25, 0.5, 1.0)  # of the model's window
HUM_HERTZ = 50.0


class Passages(Protocol):
    """A sequence of items with `waveform` (None: unreadable), `language` and `line`, what its transcription says of it.

    `seconds` holds the length of each; `keys` name them, the same in every process.
    """

    seconds: list[float]
    keys: list[int]

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> dict[str, Any]: ...


class Clips:
    """Clips of an index at `positions`, each by itself, as `augmenter` makes them heard.

    Which makes none longer than `window_seconds`, the model's: that would be decoded as a long recording.
    """

    def __init__(
        self,
        index: Index,
        columns: Sequence[str | None],
        positions: Sequence[int],
        augmenter: Augmenter | None = None,
        window_seconds: float | None = None,
    ) -> None:
        self.index = index
        self.augmenter = augmenter
        self.window_seconds = window_seconds
        self.reader = AudioReader(columns)
        self.keys = list(positions)
        self.seconds: list[float] = np.nan_to_num(index.column("seconds"))[self.keys].tolist()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> dict[str, Any]:
        position = self.keys[number]
        row = self.index[position]
        return {
            "waveform": read_row(self.reader, row, position, self.augmenter, self.window_seconds),
            "language": row["language"],
            "line": {
                "clip": row["id"],
                "position": position,
                "reference": row["text"],
                **{name: row[name] for name in ("language", "speaker", "recording", "tags", "source")},
                "seconds": round(self.seconds[number], 3),
                "audio": shorten(row["audio"], self.index.cache) if self.index.cache else row["audio"],
                **{name: row[name] for name in ("row_group", "row", "audio_hash")},
            },
        }


class JoinedClips:
    """Recordings of about `seconds` each, made of consecutive clips of one speaker with pauses between them."""

    def __init__(
        self,
        index: Index,
        columns: Sequence[str | None],
        seconds: float,
        minutes: float,
        augmenter: Augmenter | None = None,
    ) -> None:
        self.index = index
        self.augmenter = augmenter
        self.reader = AudioReader(columns)
        self.groups = join_positions(index, seconds, minutes)
        self.keys = list(range(len(self.groups)))
        lengths = np.nan_to_num(index.column("seconds"))
        self.seconds = [float(lengths[list(group)].sum()) + PAUSE_SECONDS * (len(group) - 1) for group in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> dict[str, Any]:
        group = self.groups[number]
        rows = [self.index[position] for position in group]
        pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
        heard = [read_row(self.reader, row, at, self.augmenter) for row, at in zip(rows, group, strict=True)]
        waves = [wave for wave in heard if wave is not None]
        parts = [part for wave in waves for part in (pause, wave)][1:]
        return {
            "waveform": np.concatenate(parts) if parts else None,
            "language": rows[0]["language"],
            "line": {
                "clip": f"{rows[0]['id']} and the next {len(rows) - 1}",
                "position": number,
                "parts": list(group),
                "reference": join_texts([row["text"] for row in rows]),
                **{name: rows[0][name] for name in ("language", "speaker", "recording", "source")},
                "seconds": round(self.seconds[number], 3),
            },
        }


class Probes:
    """Silence, hiss, rumble and hum, in which there is nothing to be heard."""

    def __init__(self, window_seconds: float, language: str) -> None:
        self.kinds = [(kind, part * window_seconds) for kind in PROBES for part in PROBE_LENGTHS]
        self.keys = list(range(len(self.kinds)))
        self.seconds = [seconds for _, seconds in self.kinds]
        self.language = language

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, number: int) -> dict[str, Any]:
        kind, seconds = self.kinds[number]
        return {
            "waveform": make_probe(kind, seconds),
            "language": self.language,
            "line": {
                "clip": f"{kind}, {seconds:g} s",
                "position": number,
                "reference": "",
                "language": self.language,
                "seconds": seconds,
            },
        }


PROBES = ("silence", "hiss", "rumble", "hum")


def make_probe(kind: str, seconds: float) -> Waveform:
    """A float32 waveform of shape (samples,) without speech, the same at every call."""
    count = int(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(0).standard_normal(count)
    match kind:
        case "silence":
            wave = np.zeros(count)
        case "hiss":
            wave = 0.01 * noise
        case "rumble":  # brown noise, as wind and traffic make it
            wave = np.cumsum(noise)
            wave = 0.05 * (wave - np.linspace(wave[0], wave[-1], count)) / np.abs(wave).max()
        case _:
            wave = 0.05 * np.sin(2 * np.pi * HUM_HERTZ * np.arange(count) / SAMPLE_RATE)
    return wave.astype(np.float32)


def read_row(
    reader: AudioReader,
    row: dict[str, Any],
    position: int,
    augmenter: Augmenter | None,
    max_seconds: float | None = None,
) -> Waveform | None:
    """The whole waveform of the clip at `position` as it is heard, the same at every call.

    None, with a warning, for one that passed the audit and vanished since.
    """
    try:
        waveform = reader.read(row["audio"], row["row_group"], row["row"], row["source"])
    except ValueError as error:
        warnings.warn(f"{row['id']}: {error}; counted as not recognized", stacklevel=2)
        return None
    return augmenter(waveform, row["source"], position, max_seconds=max_seconds) if augmenter else waveform


def choose_clips(index: Sized, at_most: int | None) -> list[int]:
    """Positions of all clips, or of `at_most` spread evenly over the set: always the same ones."""
    if at_most is None or at_most >= len(index):
        return list(range(len(index)))
    return [int(position) for position in np.linspace(0, len(index) - 1, at_most).round()]


def join_positions(index: Index, seconds: float, minutes: float) -> list[tuple[int, ...]]:
    """Groups of clips, speaker by speaker and in their order, each about `seconds` long, of `minutes` in all."""
    lengths = np.nan_to_num(index.column("seconds"))
    speakers = index.table.column("speaker").to_pylist()
    languages = index.table.column("language").to_pylist()
    order = sorted(range(len(index)), key=lambda position: (speakers[position], languages[position]))
    groups: list[tuple[int, ...]] = []
    group: list[int] = []
    total = 0.0
    for position in order:
        same = group and (speakers[group[0]], languages[group[0]]) == (speakers[position], languages[position])
        if not same:
            group = []
        group.append(position)
        if lengths[group].sum() + PAUSE_SECONDS * (len(group) - 1) >= seconds:
            groups.append(tuple(group))
            total += float(lengths[group].sum())
            group = []
        if total >= 60 * minutes:
            break
    return groups
