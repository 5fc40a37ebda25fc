"""A job: what to learn, from what, how good it must be. Validated, immutable, and cheap to import (no torch)."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from whisper_train.languages import LANGUAGES, find_language
from whisper_train.licenses import find_license
from whisper_train.training_settings import TrainingSettings

MAX_LABEL_TOKENS = 448  # what Whisper's decoder has positions for
MAX_WINDOW_SECONDS = 30.0  # what Whisper's encoder has positions for

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Strict(BaseModel):
    """Unknown keys are errors; nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Synthetic(Strict):
    """Speech made by espeak-ng from sentence templates."""

    sentences: list[str] = Field(min_length=1, description="templates; {slot} is filled from `words`")
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
    """One data set inside a job: exactly one of the first six keys says of which kind."""

    hub: str | None = Field(None, description="data set on the Hugging Face hub (its Parquet files), or a local copy")
    manifest: str | None = Field(None, description="JSONL, CSV or TSV file with one clip a line")
    folder: str | None = Field(None, description="audio files with metadata.csv/.jsonl or a .txt beside each")
    common_voice: str | None = Field(None, description="unpacked Common Voice download of one language")
    parquet: str | None = Field(None, description="Parquet file, folder or glob with audio bytes inside")
    synthetic: Synthetic | None = Field(None, description="made by espeak-ng")

    config: str | None = Field(None, description="hub: configuration (subset) name")
    revision: str | None = Field(None, description="hub: branch, tag or commit")
    streaming: bool = Field(False, description="hub: read over the network as needed, keep nothing on the disk")
    split: str | None = Field(None, description="split and slice: train, validation[:10%], [95%:]")
    audio_column: str | None = None
    text_column: str | None = None
    speaker_column: str | None = None
    language: str | None = Field(None, description="if it differs from the job's")
    weight: float = Field(1.0, gt=0, le=100, description="how many times an epoch shows each clip")

    @property
    def kind(self) -> str:
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def label(self) -> str:
        """How messages and reports name this source."""
        where = "speech by espeak-ng" if self.synthetic else getattr(self, self.kind)
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


SOURCE_KINDS = ("hub", "manifest", "folder", "common_voice", "parquet", "synthetic")


class Data(Strict):
    train: list[Source] = Field(min_length=1)
    eval: dict[Name, list[Source]] = Field(min_length=1, description="sets by name; the first one picks the best model")
    max_seconds: float = Field(MAX_WINDOW_SECONDS, gt=0, le=MAX_WINDOW_SECONDS)
    max_dropped_fraction: Fraction = Field(0.05, description="more clips dropped by the audit than this stops the run")

    @field_validator("eval", mode="before")
    @classmethod
    def name_the_only_set(cls, value: Any) -> Any:
        return {"eval": value} if isinstance(value, list) else value


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), merged into the weights at the end."""

    rank: int = Field(32, gt=0)
    alpha: int = Field(64, gt=0)
    dropout: Fraction = 0.05
    target_modules: list[str] = ["q_proj", "v_proj"]


class SpecAugment(Strict):
    """Masks over time and frequency (Park et al. 2019, arXiv:1904.08779)."""

    mask_time_prob: Fraction = 0.05
    mask_time_length: int = Field(10, gt=0, description="frames")
    mask_feature_prob: Fraction = 0.0
    mask_feature_length: int = Field(10, gt=0, description="mel bins")


class Model(Strict):
    freeze_encoder: bool = False
    dropout: Fraction | None = Field(None, description="null: the base's own")
    lora: Lora | None = None
    spec_augment: SpecAugment | None = None


class Architecture(Strict):
    """A Whisper from random weights, for `base: new`."""

    processor: str | None = Field(None, description="folder or hub id of a Whisper processor; null: make one")
    vocabulary_size: int = Field(512, ge=300, description="byte pairs, when the tokenizer is made")
    width: int = Field(128, ge=8)
    encoder_layers: int = Field(2, ge=1)
    decoder_layers: int = Field(2, ge=1)
    attention_heads: int = Field(4, ge=1)
    mel_bins: int = Field(80, ge=8, le=128)
    hop_length: int = Field(160, ge=80, le=640, description="samples between spectrogram frames, at 16 kHz")
    window_seconds: int = Field(30, ge=1, le=30, description="what the encoder sees; transformers wants whole seconds")
    max_label_tokens: int = Field(MAX_LABEL_TOKENS, ge=16, le=MAX_LABEL_TOKENS)
    init_std: float = Field(0.02, gt=0)

    @model_validator(mode="after")
    def check(self) -> "Architecture":
        if self.width % self.attention_heads:
            raise ValueError(f"width: {self.width}: must be a multiple of attention_heads ({self.attention_heads})")
        if (samples := self.window_seconds * 16_000) % (2 * self.hop_length):
            raise ValueError(f"window_seconds: {samples:g} samples are no even number of {self.hop_length}-sample hops")
        return self


class Evaluation(Strict):
    normalizer: Literal["raw", "whisper-basic", "whisper-english", "german", "french"] = Field(
        "whisper-basic", description="applied to reference and hypothesis"
    )
    clips_during_training: int | None = Field(
        None, gt=0, description="evaluate on this many during training; null: all"
    )


class Goal(Strict):
    wer: float = Field(description="word error rate to reach on the first eval set, as a fraction")

    @field_validator("wer")
    @classmethod
    def is_fraction(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(f"{value:g}: give a fraction between 0 and 1; {value:g} % is {value / 100:g}")
        return value


class Card(Strict):
    """What only people know and the model card is to say; null: the card says that it is not known."""

    license: str | None = Field(None, description="of the model, as an identifier of the hub: apache-2.0, cc-by-4.0 …")
    intended_use: str | None = Field(None, min_length=1, description="Markdown")
    limitations: str | None = Field(None, min_length=1, description="Markdown, beside what is measured")

    @field_validator("license")
    @classmethod
    def check_license(cls, value: str | None) -> str | None:
        return None if value is None else find_license(value)


class Machine(Strict):
    """How to run, never what to learn: batch layout, precision, ZeRO variant, workers."""

    name: str = "custom"
    device: Literal["auto", "cpu"] = Field("auto", description="auto: the GPUs there are")
    processes: int | Literal["all"] = Field(1, description="ranks on this host; all: one per GPU")
    per_device_train_batch_size: int = Field(8, gt=0, description="at most; the largest that divides the global batch")
    per_device_eval_batch_size: int = Field(16, gt=0)
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    deepspeed: str | None = Field(None, description="a name in jobs/deepspeed/ or a path; null: none")
    gradient_checkpointing: bool = False
    dataloader_num_workers: int = Field(2, ge=0)
    audit_workers: int | None = Field(
        None, gt=0, description="processes that read the data beforehand; null: one a core"
    )
    threads: int | None = Field(None, gt=0, description="CPU threads of a rank; null: cores / ranks")

    @field_validator("processes")
    @classmethod
    def at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{value}: give 1 or more, or all")
        return value


class Job(Strict):
    name: Name
    language: str = Field(description="code or English name: de, german, as …")
    task: Literal["transcribe", "translate"] = "transcribe"
    base: str = Field(description="hub id, folder, job:<name>, or new (random weights, see architecture)")
    base_revision: str | None = None
    architecture: Architecture | None = None
    data: Data
    model: Model = Model()
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation: Evaluation = Evaluation()
    goal: Goal | None = None
    card: Card = Card()
    machine: Machine = Machine()

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str) -> str:
        return check_language(value)

    @model_validator(mode="after")
    def check(self) -> "Job":
        if self.base == "new" and self.architecture is None:
            raise ValueError("architecture: is missing; `base: new` needs it (`architecture: {}` takes every default)")
        if self.base != "new" and self.architecture is not None:
            raise ValueError("architecture: goes with `base: new` only; leave it out")
        if self.base == f"job:{self.name}":
            raise ValueError(f"base: {self.base}: a job cannot start from its own result")
        if self.base != "new" and not re.fullmatch(r"job:[\w.-]+|[\w.-]+/[\w.-]+|(/|\./|\.\./|~/).*", self.base):
            raise ValueError(f"base: {self.base}: give a hub id (owner/name), a folder (./name), job:<name> or new")
        return self


def check_language(value: str) -> str:
    """The code of a language given as code or English name; ValueError with the nearest known one."""
    code = find_language(value)
    if code is None:
        from difflib import get_close_matches

        near = get_close_matches(value.lower(), [*LANGUAGES.values(), *LANGUAGES], n=1, cutoff=0.5)
        raise ValueError(f"{value}: not a language of Whisper{f'; did you mean {near[0]}?' if near else ''}")
    return code


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
