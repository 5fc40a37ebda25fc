"""The `data:` section of a job: its sources, and which sets they make."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from whisper_train.job_augment import Augment
from whisper_train.job_entities import Travel
from whisper_train.languages import check_language
from whisper_train.strict import Fraction, Name, Strict

MAX_WINDOW_SECONDS = 30.0  # what Whisper's encoder has positions for
LONG_FORM_SET, SILENCE_SET = "long-form", "silence"  # made by the evaluation: joined clips, and clips without speech
MEASURED_SETS = {LONG_FORM_SET, SILENCE_SET}


class Synthetic(Strict):
    """Speech made by espeak-ng from sentence templates, or of travel orders."""

    sentences: list[str] = Field(default_factory=list, description="templates; {slot} is filled from `words`")
    travel: Travel | None = Field(None, description="travel orders by the grammar, instead of templates")
    words: dict[str, list[str]] = Field(default_factory=dict, description="slot name -> its fillings")
    voices: list[str] = Field(min_length=1, description="espeak-ng voices: de, de+f2, fr+whisper …")
    clips: int = Field(gt=0, description="how many clips to make")
    words_per_minute: tuple[int, int] = (150, 190)
    pitch: tuple[int, int] = (40, 60)
    part: Literal["all", "train", "held-out"] = Field("all", description="which sentences: the split is by sentence")
    held_out_fraction: Fraction = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def check(self) -> "Synthetic":
        if bool(self.sentences) == (self.travel is not None):
            raise ValueError("sentences: give templates there, or travel orders (travel), one of the two")
        slots = {slot for sentence in self.sentences for slot in find_slots(sentence)}
        if missing := sorted(slots - {slot for slot, words in self.words.items() if words}):
            raise ValueError(f"words: no list for the slot {{{missing[0]}}}; add words.{missing[0]}")
        for key, (low, high), (least, most) in (
            ("words_per_minute", self.words_per_minute, (80, 450)),
            ("pitch", self.pitch, (0, 99)),
        ):
            if not least <= low <= high <= most:
                raise ValueError(f"{key}: [{low}, {high}]: give [low, high] within {least} to {most}")
        return self


class Source(Strict):
    """One data set inside a job: exactly one of the first nine keys says of which kind."""

    hub: str | None = Field(None, description="data set on the Hugging Face hub (its Parquet files), or a local copy")
    manifest: str | None = Field(None, description="JSONL, CSV or TSV file with one clip a line")
    folder: str | None = Field(None, description="audio files with metadata.csv/.jsonl or a .txt beside each")
    common_voice: str | None = Field(None, description="unpacked Common Voice download of one language")
    parquet: str | None = Field(None, description="Parquet file, folder or glob with audio bytes inside")
    synthetic: Synthetic | None = Field(None, description="made by espeak-ng")
    conll: str | None = Field(None, description="task entities: a word and its label on each line")
    spans: str | None = Field(None, description="task entities: JSONL file of sentences with character spans")
    travel: Travel | None = Field(None, description="task entities: sentences made by a grammar")

    config: str | None = Field(None, description="hub: configuration (subset) name")
    revision: str | None = Field(None, description="hub: branch, tag or commit")
    streaming: bool = Field(False, description="hub: read over the network as needed, keep nothing on the disk")
    split: str | None = Field(None, description="split and slice: train, validation[:10%], [95%:]")
    audio_column: str | None = None
    text_column: str | None = None
    speaker_column: str | None = None
    recording_column: str | None = Field(None, description="the session that a clip was cut from")
    slice_columns: list[str] | None = Field(None, description="by what results are told apart: accent, noise …")
    language: str | None = Field(None, description="if it differs from the job's")
    weight: float = Field(1.0, gt=0, le=100, description="how many times an epoch shows each clip")
    augment: Augment | None = Field(
        None, description="null: in training data.augment, in replay and evaluation none; {}: none"
    )

    @property
    def kind(self) -> str:
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def label(self) -> str:
        """How messages and reports name this source."""
        where = "speech by espeak-ng" if self.synthetic else getattr(self, self.kind)
        if self.travel:
            where = f"{self.travel.sentences:,} sentences, part {self.travel.part}"
        return " ".join(part for part in (f"{self.kind}: {where}", self.config, self.split) if part)

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str | None) -> str | None:
        return None if value is None else check_language(value)

    @field_validator("split")
    @classmethod
    def check_split(cls, value: str | None) -> str | None:
        if value is not None:
            parse_split(value)
        return value

    @model_validator(mode="after")
    def check_kind(self) -> "Source":
        given = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(SOURCE_KINDS)}; has {' and '.join(given) or 'none'}")
        for key in ("config", "revision", "streaming"):
            if given != ["hub"] and getattr(self, key):
                raise ValueError(f"{key}: only a hub source has one; this is a {given[0]} source")
        return self


SOURCE_KINDS = ("hub", "manifest", "folder", "common_voice", "parquet", "synthetic", "conll", "spans", "travel")


class Windows(Strict):
    """What the encoder sees in training: consecutive clips of one speaker joined, as in a long recording."""

    joined: Fraction = Field(1.0, description="share of the clips that are joined to those beside them")
    timestamps: Fraction = Field(0.5, description="share of the joined windows that are learned with timestamps")
    prompts: Fraction = Field(0.2, description="share of the joined windows that get the text before as a prompt")
    pause_seconds: tuple[float, float] = Field((0.2, 1.0), description="between clips: a range, drawn for each")

    @model_validator(mode="after")
    def check(self) -> "Windows":
        low, high = self.pause_seconds
        if not 0 <= low <= high <= 10:
            raise ValueError(f"pause_seconds: [{low:g}, {high:g}]: give [low, high] within 0 to 10")
        return self


class Replay(Strict):
    """What the model knows already, mixed in so that it is not forgotten."""

    share: float = Field(0.2, gt=0, lt=1, description="of the clips that an epoch shows")
    earlier: bool = Field(True, description="the training data of the jobs that this one builds on")
    sources: list[Source] = Field(default_factory=list, description="other data, as of other languages")

    @field_validator("sources")
    @classmethod
    def leave_as_recorded(cls, value: list[Source]) -> list[Source]:
        """What is known already is heard as it was recorded, unless a source says something else."""
        return [one if one.augment is not None else one.model_copy(update={"augment": Augment()}) for one in value]

    @model_validator(mode="after")
    def check(self) -> "Replay":
        if not self.earlier and not self.sources:
            raise ValueError("sources: is empty and earlier is false: nothing to replay; name one of them")
        return self


class Data(Strict):
    train: list[Source] = Field(default_factory=list, description="none: the job can be evaluated only")
    augment: Augment | None = Field(None, description="for the training clips of every source that says nothing else")
    windows: Windows | None = Field(None, description="null: each clip by itself")
    replay: Replay | None = None
    eval: dict[Name, list[Source]] = Field(min_length=1, description="sets by name; the first one picks the best model")
    window_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_WINDOW_SECONDS,
        description="that the encoder sees at most in training, fitted to each batch; null: its own window",
    )
    max_seconds: float = Field(MAX_WINDOW_SECONDS, gt=0, le=MAX_WINDOW_SECONDS)
    max_dropped_fraction: Fraction = Field(0.05, description="more clips dropped by the audit than this stops the run")

    @property
    def training_sources(self) -> list[Source]:
        """The sources of the set `train` in the order of its index: what is learned, then what is replayed."""
        return [*self.train, *(self.replay.sources if self.replay else [])]

    @model_validator(mode="before")
    @classmethod
    def fit_into_window(cls, values: Any) -> Any:
        """A shorter window takes shorter clips, where the job does not say which it takes."""
        if isinstance(values, dict) and isinstance(values.get("window_seconds"), int | float):
            return {"max_seconds": values["window_seconds"], **values}
        return values

    @model_validator(mode="after")
    def check_window(self) -> "Data":
        if self.window_seconds is not None and self.max_seconds > self.window_seconds:
            raise ValueError(
                f"max_seconds: {self.max_seconds:g}: clips would be longer than window_seconds"
                f" ({self.window_seconds:g}); lower it, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def check_replay(self) -> "Data":
        if self.replay and not self.train:
            raise ValueError("replay: is mixed into data.train, which is missing; leave it out (replay: null)")
        return self

    @field_validator("eval")
    @classmethod
    def check_names(cls, value: dict[str, list[Source]]) -> dict[str, list[Source]]:
        if taken := sorted(value.keys() & MEASURED_SETS):
            raise ValueError(f"{taken[0]}: is what evaluation itself calls a set; choose another name")
        return value

    @field_validator("eval", mode="before")
    @classmethod
    def name_the_only_set(cls, value: Any) -> Any:
        return {"eval": value} if isinstance(value, list) else value


def find_slots(sentence: str) -> list[str]:
    """The names in braces of a template; ValueError when a brace stands alone or holds anything but a name."""
    rest = re.sub(r"\{[^\W\d]\w*\}", "", sentence)
    if "{" in rest or "}" in rest:
        raise ValueError(f"sentences: {sentence!r}: write a slot as {{name}}")
    return re.findall(r"\{(\w+)\}", sentence)


def parse_split(value: str) -> tuple[str | None, str | None, str | None]:
    """`train[5%:100]` -> ("train", "5%", "100"). Bounds are clip numbers or percentages, either may be missing."""
    match = re.fullmatch(r"([\w.-]+)?(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", value)
    if not match or not value:
        raise ValueError(f"{value}: write a split as name, name[:95%], name[95%:] or [1000:2000]")
    return match[1], match[2], match[3]
