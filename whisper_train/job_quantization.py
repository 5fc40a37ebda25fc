"""The `quantization:` section of a job: on which grid its weights are to end, and how training gets them there."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from whisper_train.strict import Strict

GROUP_SIZES = (16, 32, 64, 128, 256)  # block sizes of ONNX Runtime's MatMulNBits
INT4_GROUP = 128


class Distillation(Strict):
    """The loss is also how far the model is from its unquantized base (Hinton et al. 2015, arXiv:1503.02531)."""

    weight: float = Field(0.5, gt=0, le=1, description="share of it in the loss; 1: the transcripts do not count")
    temperature: float = Field(2.0, gt=0, description="divides the logits of both; above 1: unlikely words count more")


class Quantization(Strict):
    """Quantization-aware training: each step sees the weights as the target runtime will."""

    scheme: Literal["int8", "int4"]
    target: Literal["onnx", "ctranslate2"] = Field(description="the runtime whose arithmetic is trained for")
    group_size: int | None = Field(None, description="columns that share a scale; null: int4 128, int8 the whole row")
    activations: bool = Field(True, description="the inputs of matrices are rounded too, to 8 bits")
    keep_float: list[str] = Field(default_factory=list, description="names of modules, * stands for anything")
    start_step: float = Field(0.0, ge=0, description="steps before rounding begins; below 1: as a share of all")
    distillation: Distillation | None = Field(None, description="null: from the transcripts alone")

    @property
    def bits(self) -> int:
        return 4 if self.scheme == "int4" else 8

    @model_validator(mode="before")
    @classmethod
    def fill_in(cls, values: Any) -> Any:
        """What the scheme decides where the job is silent, so that a resolved job says it."""
        if isinstance(values, dict) and values.get("scheme") == "int4" and values.get("group_size") is None:
            return {**values, "group_size": INT4_GROUP}
        return values

    @field_validator("start_step")
    @classmethod
    def check_start(cls, value: float) -> float:
        if value >= 1 and value != int(value):
            raise ValueError(f"{value:g}: give whole steps, or a share of them below 1")
        return value

    @model_validator(mode="after")
    def check(self) -> "Quantization":
        if self.target == "ctranslate2":
            self.check_ctranslate2()
        if self.group_size is not None and self.group_size not in GROUP_SIZES:
            raise ValueError(f"group_size: {self.group_size}: ONNX Runtime has {', '.join(map(str, GROUP_SIZES))}")
        return self

    def check_ctranslate2(self) -> None:
        if self.scheme == "int4":
            raise ValueError(
                "scheme: int4: CTranslate2 has none for Whisper, so the model would become int8; write target: onnx, or"
                " scheme: int8"
            )
        if self.group_size is not None:
            raise ValueError("group_size: CTranslate2 has one scale for each row; leave it out, or write target: onnx")
        if not self.activations:
            raise ValueError(
                "activations: false: CTranslate2 multiplies int8 by int8; leave it out, or write target: onnx"
            )
        if self.keep_float:
            raise ValueError(
                "keep_float: CTranslate2 rounds every matrix when it loads an int8 model; leave it out, or write"
                " target: onnx"
            )


def check_with(job: Any) -> None:
    """Raises ValueError for what does not go together with the quantization of `job`, a Job, where it has one."""
    if not job.quantization:
        return
    if not job.data.train:
        raise ValueError("quantization: is learned in training, and data.train is missing; leave it out")
    if job.model.lora:
        raise ValueError(
            "quantization: adapters learn beside weights that stay as they are, so these would never learn their grid;"
            " leave out model.lora (model.lora: null)"
        )
    if job.averaging:
        raise ValueError(
            "averaging: a weight between base and tuned model is not on the grid that was learned; leave it out where"
            " there is quantization (averaging: null)"
        )
    if job.quantization.distillation and job.base == "new":
        raise ValueError("quantization.distillation: random weights (base: new) have nothing to teach; leave it out")
