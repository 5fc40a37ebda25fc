"""Bytes of weights, gradients and optimizer on each card and in RAM, by the rules of torch and of DeepSpeed.

DeepSpeed's rules were read in deepspeed 0.19.8, runtime/zero/stage_1_and_2.py; the names in the comments are its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whisper_train.planning.setup import FP32

if TYPE_CHECKING:
    from whisper_train.planning.trace import Traced

DEFAULT_BUCKET = 5e8  # parameters: deepspeed, runtime/zero/config.py
BLOCK = 256  # values of an 8-bit or 4-bit state that share a float32 scale: bitsandbytes, torchao

# Bytes of optimizer state for each trained parameter.
ADAM = 2 * FP32
STATE_BYTES = {
    "adamw_torch_8bit": 2 * (1 + FP32 / BLOCK),
    "adamw_torch_4bit": 2 * (0.5 + FP32 / 128),
    "adamw_bnb_8bit": 2 * (1 + FP32 / BLOCK),
    "adamw_8bit": 2 * (1 + FP32 / BLOCK),
    "paged_adamw_8bit": 2 * (1 + FP32 / BLOCK),
    "ademamix_8bit": 3 * (1 + FP32 / BLOCK),
    "ademamix": 3 * FP32,
    "lion_8bit": 1 + FP32 / BLOCK,
    "lion_32bit": FP32,
    "sgd": 0,
    "adagrad": FP32,
    "rmsprop": FP32,
    "adafactor": 0.02,  # a row and a column for each matrix
}
# Optimizers of torch that make a tensor of their whole step beside the states; the fused one, our default, makes none.
FOREACH = {"adamw_torch", "sgd", "adagrad", "rmsprop"}
# bitsandbytes has no kernel for a processor and computes there in whole float32 tensors; measured, bytes a parameter.
BITSANDBYTES = {"adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"}
BITSANDBYTES_ON_PROCESSOR = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A moment of a step that may be the fullest, and the bytes that are there beside what always stands."""

    name: str
    gradients: int
    buffers: int
    with_activations: bool = False  # those of a micro-step, at their most


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """Bytes of one rank: what always stands, and the moments of a step."""

    weights: int
    optimizer: int
    moments: tuple[Moment, ...]
    host: int = 0  # in RAM instead: what DeepSpeed offloads


BACKWARD, REDUCTION, STEP = "the backward pass", "the reduction of gradients", "the optimizer's step"


def state_bytes(optimizer: str) -> float:
    """Bytes of state a parameter; an optimizer that is not in the table counts as Adam in float32."""
    return STATE_BYTES.get(optimizer, ADAM)


def step_temporaries(optimizer: str, together: int, largest: int, *, card: bool) -> int:
    """Bytes that a step makes beside its states for `together` parameters, in tensors of `largest` at most."""
    if optimizer in BITSANDBYTES and not card:
        return BITSANDBYTES_ON_PROCESSOR * largest
    return FP32 * together if optimizer in FOREACH else 0


def plain_states(traced: "Traced", optimizer: str, *, ranks: int, card: bool) -> States:
    """Without DeepSpeed: weights, gradients and states in float32 on every rank.

    With several ranks DistributedDataParallel has a second copy of the gradients, its buckets (torch.nn.parallel:
    gradient_as_bucket_view is off).
    """
    gradients = FP32 * traced.trained
    copies = gradients if ranks > 1 else 0
    temporaries = step_temporaries(optimizer, traced.trained, traced.largest, card=card)
    return States(
        weights=traced.weights,
        optimizer=round(state_bytes(optimizer) * traced.trained),
        moments=(
            Moment(name=BACKWARD, gradients=traced.gradients, buffers=copies, with_activations=True),
            Moment(name=STEP, gradients=gradients, buffers=copies + temporaries),
        ),
    )


def zero2_states(
    traced: "Traced", optimizer: str, settings: dict[str, Any], *, held: int, ranks: int, accumulation: int, card: bool
) -> States:
    """With DeepSpeed's ZeRO-2, whose `settings` are those of its file; weights take `held` bytes a parameter."""
    zero = settings.get("zero_optimization", {})
    share = -(-traced.trained // ranks)  # partition_size
    several = accumulation > 1
    buckets, reduction = bucket_bytes(traced, zero, held, card=card)
    if zero.get("offload_optimizer", {}).get("device") == "cpu":
        return offloaded(traced, optimizer, held, share, reduction, several=several)
    wide = settings.get("data_types", {}).get("grad_accum_dtype") == "fp32" and held < FP32
    if wide:  # _use_compact_grad_partition_buffer: one flat tensor, summed in place, and used by the step as it is
        summed = arriving = at_step = FP32 * share
        reduction += FP32 * traced.largest  # _add_to_grad_partition_buffer: a gradient as it is added
    else:
        # all_grad_tensors, the sum of those before, beside grads_in_partition, those of this micro-step
        summed, arriving = held * share, held * share * (2 if several else 1)
        # averaged_gradients, their flat copy, and for bf16 the float32 one that the optimizer gets
        at_step = 2 * held * share + (FP32 * share if held < FP32 else 0)
    if card or buckets:  # buckets are reduced while there still are activations
        moments = [Moment(name=BACKWARD, gradients=arriving, buffers=reduction, with_activations=True)]
    else:  # the only bucket is reduced at the end, and on a processor takes no memory before it is written to
        before = Moment(name=BACKWARD, gradients=summed if several else 0, buffers=buckets, with_activations=True)
        # Where gradients are copied to grads_in_partition, the flat copy of the bucket is gone by then.
        reused = 0 if wide else held * min(traced.trained, share)
        moments = [before, Moment(name=REDUCTION, gradients=arriving, buffers=reduction - reused)]
    temporaries = step_temporaries(optimizer, share, share, card=card)  # the optimizer has one flat tensor a group
    return States(
        weights=traced.weights,
        optimizer=FP32 * share + round(state_bytes(optimizer) * share),  # single_partition_of_fp32_groups: the master
        moments=(*moments, Moment(name=STEP, gradients=at_step, buffers=temporaries)),
    )


def bucket_bytes(traced: "Traced", zero: dict[str, Any], held: int, *, card: bool) -> tuple[int, int]:
    """Bytes of the buckets that gradients are gathered in: before the first is full, and while one is reduced."""
    bucket = int(float(zero.get("reduce_bucket_size", DEFAULT_BUCKET)))
    buffers = 2 if zero.get("overlap_comm") else 1  # setup_buckets: double buffers
    filled = min(bucket, traced.trained)
    copies = held * filled  # the flat copy that is reduced: allreduce_bucket
    if traced.largest > bucket:
        copies += 2 * held * traced.largest  # extra_large_param_to_reduce, and its flat copy
    if card:
        return held * bucket * buffers, held * bucket * buffers + copies
    written = held * min(traced.trained, bucket * buffers)  # on a processor memory is taken as it is written to
    return (0 if traced.trained <= bucket else written), written + copies


def offloaded(traced: "Traced", optimizer: str, held: int, share: int, reduction: int, *, several: bool) -> States:
    """ZeRO-2 with offload_optimizer: master, states and float32 gradients of a rank's share are in RAM."""
    in_ram = share * (FP32 + FP32 + held)  # master, its gradient, param_buffer_of_bit16_for_cpu_offload_groups
    in_ram += round(state_bytes(optimizer) * share) + held * traced.largest  # temp_grad_buffer_for_cpu_offload
    in_ram += held * share if several else 0  # accumulated_grads_in_cpu
    on_card = reduction + held * traced.largest  # temp_grad_buffer_for_gpu_offload
    return States(
        weights=traced.weights,
        optimizer=0,
        moments=(Moment(name=BACKWARD, gradients=0, buffers=on_card, with_activations=True),),
        host=in_ram,
    )
