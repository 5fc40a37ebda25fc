"""The audio of clips inside a page: MP3 as data URIs, within a budget."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.data.index import lengthen
from whisper_train.data.read import AudioReader
from whisper_train.errors import UserError
from whisper_train.report.formats import number

BUDGET = 12_000_000  # characters of base64 in one page
MAX_SECONDS = 30.0
Change = Callable[[Waveform, int, int], Waveform]  # (waveform, source, position) -> as the model heard that clip
COMPRESSION = 0.9  # of libsndfile, 0 to 1: 24 kbit/s for 16 kHz mono, at which speech is still easy to judge


@dataclass(frozen=True, slots=True)
class Sound:
    """A player's data URI, empty where there is none, and what is to be said about it."""

    uri: str = ""
    note: str = ""


class Sounds:
    """Embeds clips, as the model heard them, until the page's budget is spent."""

    def __init__(
        self,
        cache: Path,
        audio_columns: Mapping[str, Sequence[str | None]] | None = None,
        budget: int = BUDGET,
        changes: Mapping[str, Change] | None = None,
    ) -> None:
        self.cache, self.budget = cache, budget
        self.audio_columns = audio_columns or {}
        self.changes = changes or {}  # per set whose audio was changed
        self.wanted = self.not_there = 0

    def embed(self, clip: Mapping[str, Any], set_name: str) -> Sound:
        """The sound of one line of a transcription file; never raises for audio that cannot be had."""
        if not isinstance(audio := clip.get("audio"), str) or not audio:
            parts = "joined of several clips" if clip.get("parts") else "the transcription names none"
            return Sound(note=f"No audio: {parts}.")
        self.wanted += 1
        try:
            source = int(clip.get("source", 0))
            columns = self.audio_columns.get(set_name) or [None] * (source + 1)
            place = (int(clip.get("row_group", -1)), int(clip.get("row", -1)), source)
            change = self.changes.get(set_name)
            whole = None if change else MAX_SECONDS  # what was drawn for a clip depends on its length
            waveform = AudioReader(columns).read(lengthen(audio, self.cache), *place, max_seconds=whole)
            if change:
                waveform = change(waveform, source, int(clip["position"]))[: round(MAX_SECONDS * SAMPLE_RATE)]
        except (ValueError, TypeError, OSError, LookupError, UserError) as error:
            self.not_there += 1
            return Sound(note=f"The audio cannot be read: {error}.")
        encoded = encode(waveform)
        if len(encoded) > self.budget:
            return Sound(note="The audio is left out: the page would become too large.")
        self.budget -= len(encoded)
        longer = (number(clip.get("seconds")) or 0.0) > MAX_SECONDS
        return Sound(encoded, f"The first {MAX_SECONDS:.0f} s." if longer else "")

    @property
    def warning(self) -> str:
        """What to say where recordings were not to be had: a page that is written again has lost their sound."""
        if not self.not_there:
            return ""
        return (
            f"{self.not_there:,} of the {self.wanted:,} recordings that the report would play could not be read, so it"
            " has none of their sound; evaluate again where they are"
        )


def encode(waveform: Waveform) -> str:
    """The waveform of shape (samples,) at 16 kHz as a data URI of MP3."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(
        content,
        waveform,
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=COMPRESSION,
        bitrate_mode="CONSTANT",
    )
    return f"data:audio/mpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
