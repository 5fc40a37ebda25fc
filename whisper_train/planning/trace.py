"""A training step on tensors without memory: what it would hold at once, found by running the trainer's own code.

Every tensor is one of torch's fake tensors, which have a shape, a type and a storage size but no bytes, so that
large-v3 takes seconds on any computer. Attention is traced as the processor's fused kernel: it keeps what flash and
memory-efficient attention on a GPU keep, queries, keys, values, output and one number a row.
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from whisper_train.audio import SAMPLE_RATE
from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.model import shape_for_training
from whisper_train.planning.stand_in import Noise, UnmovedTrainer, stand_in_trainer, steps_alone
from whisper_train.training.arguments import make_arguments
from whisper_train.training.quantized import quantize
from whisper_train.training.window import see_all_of

COUNTED_TOKENS = 100  # of the global batch: any number, it only divides the loss
TYPES = {"bf16": torch.bfloat16, "fp16": torch.bfloat16, "fp32": torch.float32}  # fp16 is refused without a GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Parameters of a model as a job trains it, and the bytes of a micro-step of it at its most."""

    parameters: int
    trained: int
    largest: int  # parameters of the largest trained tensor
    weights: int
    gradients: int  # that are there when most is alive; with DeepSpeed none, since it takes them away
    activations: int  # what else is alive then


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, tuple[int, Any]] = {}
        self.total = 0
        self.gradients = 0  # of the total
        self.most = (0, 0)  # total and gradients when the total was largest

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default:  # how many there are only bytes would tell: as many as there can be
            return args[0].new_empty(args[0].numel(), args[0].dim(), dtype=torch.long)
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.note(value.untyped_storage())
        return result

    def note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self.sizes:
            return
        size = storage.nbytes()

        def gone(reference: Any) -> None:
            self.total -= self.sizes.pop(key)[0]

        self.sizes[key] = (size, weakref.ref(storage, gone))
        self.total += size
        if self.total > self.most[0]:
            self.most = (self.total, self.gradients)


def trace_step(
    config: Any, extractor: Any, job: Job, layout: Layout, *, precision: str, zero: bool, seconds: float, tokens: int
) -> Traced:
    """Traces a micro-step of `layout.per_device` windows with `seconds` of audio and `tokens` labels each.

    With `zero` the weights are in `precision`, as DeepSpeed holds them, and a gradient is taken away as soon as it is
    there. Without, weights are float32, autocast computes in `precision`, and gradients stay from the first micro-step
    on, so that the second one has them all beside its activations.
    """
    held = TYPES[precision] if zero else torch.float32
    model = build_empty(config, job, held)
    teacher = build_teacher(config, job, TYPES[precision])
    with FakeTensorMode(allow_non_fake_inputs=True), Alive() as alive:
        give_sizes(model)
        weights = size_of([*model.parameters(), *model.buffers()])
        if teacher is not None:
            give_sizes(teacher)
            weights += size_of([*teacher.parameters(), *teacher.buffers()])
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with (
            prepared_trainer(model, extractor, job, layout, precision, zero, teacher) as trainer,
            handed_over(learned, alive, zero),
        ):
            before = alive.total
            alive.most = (0, 0)
            for _ in range(1 if zero else min(layout.accumulation, 2)):
                micro_step(trainer, layout.per_device, seconds, tokens, held)
            most, gradients = alive.most
        return Traced(
            parameters=count(model.parameters()),
            trained=count(learned),
            largest=max((parameter.numel() for parameter in learned), default=0),
            weights=weights,
            gradients=gradients,
            activations=most - before - gradients,
        )


def build_empty(config: Any, job: Job, held: torch.dtype) -> Any:
    """The model that `job` trains, on torch's device without memory, its weights of type `held`."""
    from transformers import WhisperForConditionalGeneration

    with torch.device("meta"):
        model = shape_for_training(WhisperForConditionalGeneration(config), job.model).to(held)
        quantize(model, job, on=True)
        return model


def build_teacher(config: Any, job: Job, held: torch.dtype) -> Any:
    """The base as the teacher of `job`, on torch's device without memory, in `held`; None where it has none."""
    from transformers import WhisperForConditionalGeneration

    if job.quantization is None or job.quantization.distillation is None:
        return None
    with torch.device("meta"):
        return WhisperForConditionalGeneration(config).to(held)


def give_sizes(model: Any) -> None:
    """Makes every weight of `model` a fake tensor on the processor; what is tied stays tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in made:
                empty = torch.empty(weight.shape, dtype=weight.dtype)
                made[id(weight)] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
            if weight is not None:
                module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def micro_step(trainer: Any, windows: int, seconds: float, tokens: int, held: torch.dtype) -> None:
    """What the trainer does with one batch: features, loss, gradients."""
    waveforms = torch.zeros(windows, round(seconds * SAMPLE_RATE))
    features = trainer.log_mel(waveforms, trainer.window.samples(seconds)).to(held)
    see_all_of(trainer.model, features)
    ids = torch.zeros(windows, tokens, dtype=torch.long)
    batch = {"input_features": features, "decoder_input_ids": ids, "labels": ids.clone()}
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model_wrapped, batch, num_items_in_batch=COUNTED_TOKENS)
    trainer.accelerator.backward(loss)


@contextmanager
def prepared_trainer(
    model: Any, extractor: Any, job: Job, layout: Layout, precision: str, zero: bool, teacher: Any = None
) -> Iterator[Any]:
    """The trainer of a run as far as a micro-step goes, on the processor and without DeepSpeed.

    With `zero` its weights are in `precision` already, and nothing is left to autocast.
    """
    from accelerate.state import AcceleratorState

    mixed = "fp32" if zero or precision == "fp32" else "bf16"
    plain = steps_alone(job, mixed, optim="adamw_torch")  # any: it never steps
    AcceleratorState._reset_state(True)  # which remembers the precision of the trainer before
    with tempfile.TemporaryDirectory() as folder:
        args = make_arguments(plain, layout, Path(folder), None)
        trainer = stand_in_trainer(
            UnmovedTrainer,
            job,
            model,
            args,
            extractor,
            Path(folder),
            windows=Noise(layout.global_batch, 0.1, 1),
            dtype=TYPES[precision],
            teacher=teacher,
        )
        if args.activation_checkpointing:
            trainer.model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=args.activation_checkpointing_kwargs
            )
        trainer.model.train()
        trainer.model_wrapped = trainer.accelerator.prepare_model(trainer.model, device_placement=False)
        try:
            yield trainer
        finally:
            AcceleratorState._reset_state(True)


@contextmanager
def handed_over(learned: Sequence[Any], alive: Alive, zero: bool) -> Iterator[None]:
    """Within the block a gradient is taken away when it is complete, or else counted as one that stays."""
    stay: set[int] = set()

    def complete(parameter: Any) -> None:
        if zero:
            parameter.grad = None
        elif id(parameter) not in stay:
            stay.add(id(parameter))
            alive.gradients += parameter.grad.nbytes

    hooks = [parameter.register_post_accumulate_grad_hook(complete) for parameter in learned]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def size_of(tensors: Sequence[Any]) -> int:
    """Bytes of different storages among `tensors`: tied weights are counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
