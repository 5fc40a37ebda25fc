"""A Whisper of random weights that hears another text in every sound, and the sounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.conftest import TINY_ARCHITECTURE
from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.data.index import Index, write_index
from whisper_train.evaluation.transcribe import Decoding, transcribe

WINDOW_SECONDS = 2.0


def make_whisper() -> tuple[Any, Any]:
    """(model, processor) with weights large enough that no two sounds give the same text."""
    from whisper_train.create import create_model, create_processor
    from whisper_train.job import Architecture

    architecture = Architecture.model_validate({**TINY_ARCHITECTURE, "init_std": 0.6})
    processor = create_processor(architecture, ["ein kleiner Hund sucht den Ball"])
    return create_model(architecture, processor, seed=1).eval(), processor


def tone(seconds: float, pitch: float) -> Waveform:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    swell = 0.5 + 0.5 * np.sin(7 * time)
    return (0.3 * swell * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def tones(*seconds: float) -> list[Waveform | None]:
    return [tone(length, 150.0 * (number + 1)) for number, length in enumerate(seconds)]


class Sounds:
    """Passages made of waveforms; None is one that cannot be read, in the length of a second."""

    def __init__(self, waveforms: Sequence[Waveform | None], languages: Sequence[str] = ()) -> None:
        self.waveforms = waveforms
        self.languages = languages or ["de"] * len(waveforms)
        self.seconds = [1.0 if wave is None else len(wave) / SAMPLE_RATE for wave in waveforms]
        self.keys = list(range(len(waveforms)))

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {
            "waveform": self.waveforms[number],
            "language": self.languages[number],
            "line": {"clip": f"{number}.wav", "position": number},
        }


def listen(whisper: tuple[Any, Any], sounds: Any, batch_size: int, **more: Any) -> dict[int, dict[str, Any]]:
    """What the model writes of each passage, by position."""
    decoding = Decoding(task="transcribe", batch_size=batch_size)
    batches = transcribe(*whisper, sounds, decoding, **more)
    return {line["position"]: line for batch in batches for line in batch}


def write_clips(folder: Path, seconds: Sequence[float], **columns: Sequence[Any]) -> Index:
    """An index of WAV files of such lengths; `columns` hold what differs from clip to clip."""
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, length in enumerate(seconds):
        path = folder / f"{number}.wav"
        soundfile.write(path, tone(length, 200.0 + 10 * number), SAMPLE_RATE)
        row: dict[str, Any] = {"id": path.name, "audio": str(path), "text": f"text {number}", "language": "de"}
        row |= {"speaker": "", "recording": "", "row_group": -1, "row": -1, "source": 0}
        rows.append(row | {"seconds": length, "audio_hash": number + 1} | {k: v[number] for k, v in columns.items()})
    write_index(folder / "clips.arrow", rows)
    return Index(folder / "clips.arrow", cache=None)
