"""What decides on the memory of a training; light enough to be made before torch is imported."""

from dataclasses import dataclass
from typing import Any

from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.planning.bases import Dimensions

FP32 = 4  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What decides on memory: how the job is trained, and the batches that it sees."""

    dimensions: Dimensions
    job: Job
    layout: Layout
    precision: str  # bf16, fp16 or fp32
    deepspeed: dict[str, Any] | None
    seconds: float  # of the longest window
    tokens: int  # of its label
    card: bool  # a GPU trains, not the processor

    @property
    def optimizer(self) -> str:
        return str(self.job.training.get("optim", "adamw_torch_fused"))

    @property
    def held(self) -> int:
        """Bytes of a weight under DeepSpeed."""
        return FP32 if self.precision == "fp32" else 2
