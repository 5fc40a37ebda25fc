"""What a job of `task: entities` says beside other jobs, and what does not go with it."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from whisper_train.strict import Name, Strict

if TYPE_CHECKING:
    from whisper_train.job import Job

ENTITIES_TASK = "entities"
ENTITIES = ("DEPART", "ARRIVEE", "VIA")  # departure, arrival, intermediate stop
LABELS = ("O", *(f"{place}-{entity}" for entity in ENTITIES for place in "BI"))
# The kinds of sentence that the grammar makes: what most people write, then what is hard.
COMMON_KINDS = ("direct", "reversed", "arrival-only", "via", "vias", "dated", "compound")
HARD_KINDS = ("telegraphic", "station", "person", "distractor", "misspelt", "unaccented", "lowercase", "no-order")
Kind = Literal[
    "direct",
    "reversed",
    "arrival-only",
    "via",
    "vias",
    "dated",
    "compound",
    "telegraphic",
    "station",
    "person",
    "distractor",
    "misspelt",
    "unaccented",
    "lowercase",
    "no-order",
]
SPEECH_ALONE = ("quantization", "averaging")  # sections of a job that only speech has
DATA_OF_SPEECH = ("augment", "windows", "replay", "window_seconds")


class Travel(Strict):
    """Annotated travel sentences made by a grammar; the two parts share no city and no sentence pattern."""

    sentences: int = Field(gt=0, description="how many; no sentence comes twice")
    part: Literal["train", "test"] = "train"
    kinds: list[Kind] | None = Field(None, min_length=1, description="of sentence; null: all")
    places: int | None = Field(None, ge=4, description="so many of the part's places; null: all")
    invented: float = Field(
        0.0, ge=0, le=1, description="share of the cities that exist nowhere: a model learns no names"
    )
    seed: int = 0


class Encoder(Strict):
    """A CamemBERT-shaped model from random weights, for `base: new`, with a tokenizer made of the training texts."""

    vocabulary_size: int = Field(1_000, ge=200, description="word pieces")
    width: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    attention_heads: int = Field(4, ge=1)
    feed_forward: int = Field(512, ge=8)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def check(self) -> "Encoder":
        if self.width % self.attention_heads:
            raise ValueError(f"width: {self.width}: must be a multiple of attention_heads ({self.attention_heads})")
        return self


class Entities(Strict):
    max_tokens: int = Field(128, ge=8, le=512, description="word pieces of a sentence; longer ones are not trained on")
    encoder: Encoder | None = Field(None, description="for `base: new`")
    beside: list[str] = Field(default_factory=list, description="other models measured beside: job:<name>, a folder …")


class SpokenOrders(Strict):
    """An eval set of spoken travel orders: what an entity model finds in what was heard, against the true text."""

    entities: str = Field(description="the entity model: job:<name>, a folder or a hub id")
    set: Name | None = Field(None, description="a name in data.eval; null: the first one")

    @field_validator("entities")
    @classmethod
    def is_named(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; name a job (job:travel-demo), a folder or a hub id")
        return value


def check_entities(job: "Job") -> None:
    """Raises ValueError where `job` mixes what is of speech with what is of entities."""
    if job.task != ENTITIES_TASK:
        check_speech(job)
        return
    for section in SPEECH_ALONE:
        if getattr(job, section) is not None:
            raise ValueError(f"{section}: is of speech models; leave it out of a job of task: entities")
    for key in DATA_OF_SPEECH:
        if getattr(job.data, key) is not None:
            raise ValueError(f"data.{key}: is of speech; leave it out of a job of task: entities")
    model = job.model
    for key, given in (("freeze", model.freeze), ("layer_decay", model.layer_decay), ("lora", model.lora)):
        if given:
            raise ValueError(f"model.{key}: is of speech models; leave it out of a job of task: entities")
    if model.spec_augment:
        raise ValueError("model.spec_augment: masks spectrograms; leave it out of a job of task: entities")
    if job.architecture is not None:
        raise ValueError("architecture: is that of a Whisper; a job of task: entities has entities.encoder")
    if (job.base == "new") != (job.entities is not None and job.entities.encoder is not None):
        raise ValueError(
            "entities.encoder: goes with `base: new`, and `base: new` needs it (`encoder: {}` takes every default)"
        )
    check_sources(job, {"conll", "spans", "travel"})
    check_entity_gates(job)
    check_metric(job, ("macro_f1", "loss"))


def check_speech(job: "Job") -> None:
    if job.entities is not None:
        raise ValueError("entities: goes with `task: entities` only; leave it out")
    for name in ("macro_f1", "sentence_accuracy"):
        if getattr(job.gates, name) is not None:
            raise ValueError(f"gates.{name}: judges a job of task: entities; for speech there is gates.travel_f1")
    orders = job.evaluation.travel
    if job.gates.travel_f1 is not None and orders is None:
        raise ValueError(
            "gates.travel_f1: needs evaluation.travel, which names the entity model:"
            " evaluation: {travel: {entities: job:travel-demo}}"
        )
    if orders and orders.set not in (None, *job.data.eval):
        raise ValueError(f"evaluation.travel.set: {orders.set}: no such set; data.eval has {', '.join(job.data.eval)}")
    kinds = {"hub", "manifest", "folder", "common_voice", "parquet", "synthetic"}
    check_sources(job, kinds)
    check_metric(job, ("wer", "cer", "loss"))


def check_sources(job: "Job", known: set[str]) -> None:
    """Raises ValueError for a source that the job's task cannot read."""
    named = [("data.train", source) for source in job.data.training_sources]
    named += [(f"data.eval.{name}", source) for name, sources in job.data.eval.items() for source in sources]
    for key, source in named:
        if source.kind not in known:
            raise ValueError(
                f"{key}: {source.kind}: a job of task: {job.task} has sources of {', '.join(sorted(known))}"
            )


def check_entity_gates(job: "Job") -> None:
    gates = job.gates
    others = ("wer", "retention", "long_form", "hallucination", "travel_f1")
    if asked := [name for name in others if getattr(gates, name) is not None]:
        raise ValueError(
            f"gates.{asked[0]}: judges speech; a job of task: entities has macro_f1, sentence_accuracy and significant"
        )
    if job.evaluation.long_form or job.evaluation.travel:
        raise ValueError("evaluation: long_form and travel are of speech; leave them out of a job of task: entities")


def check_metric(job: "Job", known: tuple[str, ...]) -> None:
    metric = str(job.training.get("metric_for_best_model") or "loss").removeprefix("eval_")
    if metric not in known:
        raise ValueError(
            f"training.metric_for_best_model: {metric}: a job of task: {job.task} has {' and '.join(known)}"
        )
