"""A job: what to learn, from what, how good it must be. Validated, immutable, and cheap to import (no torch)."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from whisper_train.job_data import MAX_WINDOW_SECONDS, Data
from whisper_train.job_entities import ENTITIES_TASK, Entities, SpokenOrders, check_entities
from whisper_train.job_faults import Faults
from whisper_train.job_quantization import Quantization, check_with
from whisper_train.languages import check_language
from whisper_train.licenses import find_license
from whisper_train.model_parts import parse_part
from whisper_train.strict import Fraction, Name, Strict
from whisper_train.training_settings import TrainingSettings

MAX_LABEL_TOKENS = 448  # what Whisper's decoder has positions for


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), merged into the weights at the end."""

    rank: int = Field(32, gt=0)
    alpha: int = Field(64, gt=0)
    dropout: Fraction = 0.05
    target_modules: list[str] = Field(default_factory=lambda: ["q_proj", "v_proj"])


class SpecAugment(Strict):
    """Masks over time and frequency (Park et al. 2019, arXiv:1904.08779)."""

    mask_time_prob: Fraction = 0.05
    mask_time_length: int = Field(10, gt=0, description="frames")
    mask_feature_prob: Fraction = 0.0
    mask_feature_length: int = Field(10, gt=0, description="mel bins")


class Model(Strict):
    freeze: list[str] = Field(
        default_factory=list,
        description="parts that stay as they are: encoder, encoder.conv, encoder.layers.0-3, decoder.embeddings …",
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="learning rate of a layer, as a factor of that of the one above it; null: one rate",
    )
    dropout: Fraction | None = Field(None, description="null: the base's own")
    lora: Lora | None = None
    spec_augment: SpecAugment | None = None

    @field_validator("freeze")
    @classmethod
    def check_freeze(cls, value: list[str]) -> list[str]:
        for name in value:
            parse_part(name)
        return value


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


class LongFormSet(Strict):
    """Clips of an eval set joined to long recordings, transcribed by Whisper's sequential decoding."""

    set: Name | None = Field(None, description="whose clips: a name in data.eval; null: the first one")
    minutes: float = Field(10, gt=0, description="how much of it is joined")
    seconds: float = Field(60, gt=MAX_WINDOW_SECONDS, description="length of a joined recording, about")


class Evaluation(Strict):
    normalizer: Literal["raw", "whisper-basic", "whisper-english", "german", "french"] = Field(
        "whisper-basic", description="applied to reference and hypothesis"
    )
    clips_during_training: int | None = Field(
        None, gt=0, description="evaluate on this many during training; null: all"
    )
    long_form: LongFormSet | None = Field(None, description="null: measured only where gates.long_form asks for it")
    travel: SpokenOrders | None = Field(None, description="null: no eval set is of travel orders")


class Retention(Strict):
    """No eval set may get worse than the baseline by more than so much."""

    max_loss: Fraction = Field(0.005, description="of WER, as a fraction: 0.005 are half a point")
    sets: list[Name] | None = Field(None, min_length=1, description="null: all but the first")


class LongForm(Strict):
    """On long recordings (evaluation.long_form)."""

    max_worse: float | None = Field(0.1, ge=0, description="than the baseline there: 0.1 allows 10 % more errors")
    max_worse_than_clips: float | None = Field(None, ge=0, description="than the model's own clips, one by one")

    @model_validator(mode="after")
    def check(self) -> "LongForm":
        if self.max_worse is None and self.max_worse_than_clips is None:
            raise ValueError("max_worse: is null, and so is max_worse_than_clips: nothing to judge; give one of them")
        return self


class Hallucination(Strict):
    max_share: Fraction = Field(0.01, description="of clips whose text loops, or is longer than one can speak")
    max_words_per_minute: float = Field(5.0, ge=0, description="heard in silence and noise")


class Gates(Strict):
    """What a run must meet to be promoted."""

    wer: float | None = Field(None, description="word error rate to reach on the first eval set, as a fraction")
    significant: bool = Field(False, description="better than the baseline there, certain at 95 %")
    retention: Retention | None = None
    long_form: LongForm | None = None
    hallucination: Hallucination | None = None
    travel_f1: float | None = Field(None, description="of cities in what was heard (evaluation.travel), at least")
    macro_f1: float | None = Field(None, description="of task: entities on the first eval set, at least")
    sentence_accuracy: float | None = Field(None, description="of task: entities there: all cities right, at least")

    @field_validator("wer", "travel_f1", "macro_f1", "sentence_accuracy")
    @classmethod
    def is_fraction(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{value:g}: give a fraction between 0 and 1; {value:g} % is {value / 100:g}")
        return value


class Averaging(Strict):
    """Weights between the base's and the tuned model's (WiSE-FT; Wortsman et al. 2022, arXiv:2109.01903)."""

    weights: list[Fraction] = Field(
        default_factory=lambda: [0.25, 0.5, 0.75, 1.0], min_length=1, description="of the tuned model: those tried"
    )
    clips: int | None = Field(200, gt=0, description="of each eval set that the choice is made on; null: all")
    max_loss: Fraction = Field(0.005, description="of WER that no other set may lose, as a fraction")

    @field_validator("weights")
    @classmethod
    def check_weights(cls, value: list[float]) -> list[float]:
        if not any(value):
            raise ValueError("has none above 0, and 0 is the base itself; give shares of the tuned model: [0.5, 1.0]")
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


class Hardware(Strict):
    """What a profile is written for; GB are 10⁹ bytes. `plan` holds a job against it, `vast` rents it."""

    cards: int = Field(gt=0)
    card_gb: float = Field(gt=0, description="memory of each card")
    host_gb: float = Field(gt=0, description="RAM of the host")


class Measured(Strict):
    """What `plan --probe` found out on a machine; it holds for one job."""

    job: Name
    windows_per_second: float = Field(gt=0, description="trained on by all ranks together")


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
    hardware: Hardware | None = Field(None, description="what the profile is written for; null: what is there")
    measured: Measured | None = Field(None, description="what a probe of this machine found out")

    @field_validator("processes")
    @classmethod
    def at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{value}: give 1 or more, or all")
        return value


class Job(Strict):
    name: Name
    language: str = Field(description="code or name: de, german, deutsch, as …")
    task: Literal["transcribe", "translate", "entities"] = "transcribe"
    base: str = Field(description="hub id, folder, job:<name>, or new (random weights, see architecture)")
    base_revision: str | None = None
    architecture: Architecture | None = None
    entities: Entities | None = Field(None, description="of task: entities")
    data: Data
    model: Model = Model()
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    quantization: Quantization | None = Field(None, description="null: the weights stay float")
    averaging: Averaging | None = Field(None, description="null: the tuned model as it is")
    evaluation: Evaluation = Evaluation()
    gates: Gates = Gates()
    card: Card = Card()
    faults: Faults = Faults()
    machine: Machine = Machine()

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str) -> str:
        return check_language(value)

    @model_validator(mode="after")
    def check(self) -> "Job":
        if self.base == "new" and self.architecture is None and self.task != ENTITIES_TASK:
            raise ValueError("architecture: is missing; `base: new` needs it (`architecture: {}` takes every default)")
        if self.base != "new" and self.architecture is not None:
            raise ValueError("architecture: goes with `base: new` only; leave it out")
        if self.base == f"job:{self.name}":
            raise ValueError(f"base: {self.base}: a job cannot start from its own result")
        check_with(self)
        check_entities(self)
        self.check_gates()
        self.check_replay()
        self.check_layer_decay()
        long_form = self.evaluation.long_form
        if long_form and long_form.set not in (None, *self.data.eval):
            raise ValueError(
                f"evaluation.long_form.set: {long_form.set}: no such set; data.eval has {', '.join(self.data.eval)}"
            )
        hub_id = r"([\w.-]+/)?[\w.-]+" if self.task == ENTITIES_TASK else r"[\w.-]+/[\w.-]+"  # camembert-base
        if self.base != "new" and not re.fullmatch(rf"job:[\w.-]+|{hub_id}|(/|\./|\.\./|~/).*", self.base):
            raise ValueError(f"base: {self.base}: give a hub id (owner/name), a folder (./name), job:<name> or new")
        return self

    def check_layer_decay(self) -> None:
        optimizer = str(self.training.get("optim", ""))
        if self.model.layer_decay is not None and optimizer.endswith(("lomo", "_layerwise")):
            raise ValueError(
                f"model.layer_decay: needs an optimizer that takes a rate a layer, and training.optim: {optimizer} has"
                " one for all; leave either of them out"
            )

    def check_replay(self) -> None:
        replay = self.data.replay
        if replay and self.base == "new":
            raise ValueError("data.replay: is of what the base knows, and `base: new` knows nothing; leave it out")
        if replay and replay.earlier and not self.base.startswith("job:"):
            raise ValueError(
                f"data.replay.earlier: true: the base {self.base} is no job (job:<name>), so nobody knows what it was"
                " trained on; write earlier: false and name what to replay in data.replay.sources"
            )

    def check_gates(self) -> None:
        retention = self.gates.retention
        long_form = self.gates.long_form
        needs_baseline = {
            "significant": self.gates.significant and self.task != ENTITIES_TASK,  # there random weights are a baseline
            "retention": retention,
            "long_form": long_form and long_form.max_worse is not None,
        }
        asked = [name for name, gate in needs_baseline.items() if gate]
        if not self.data.train and self.gates != Gates():
            raise ValueError("gates: judge what a job trains, and data.train is missing; leave them out (gates: null)")
        if self.averaging and not self.data.train:
            raise ValueError("averaging: is of what a job trains, and data.train is missing; leave it out")
        if self.averaging and self.base == "new":
            raise ValueError(
                "averaging: is between the base and the tuned model, and `base: new` has none; leave it out"
            )
        if asked and self.base == "new":
            raise ValueError(f"gates.{asked[0]}: compares with the base, and `base: new` has none; leave it out")
        for name in retention.sets or [] if retention else []:
            if name not in self.data.eval:
                raise ValueError(
                    f"gates.retention.sets: {name}: no such set; data.eval has {', '.join(self.data.eval)}"
                )
        if retention and retention.sets is None and len(self.data.eval) == 1:
            raise ValueError("gates.retention: needs a second set in data.eval: what must not get worse")
