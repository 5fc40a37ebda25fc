"""What would make a training fit its card: each way tried by the same estimate, then the gentlest ones together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whisper_train.job import Lora
from whisper_train.machine import with_device_batch
from whisper_train.planning.estimate import Memory, estimate
from whisper_train.planning.setup import Setup
from whisper_train.planning.trace import Traced

EIGHT_BIT = "adamw_bnb_8bit"
OFFLOAD = "zero2-offload"

Change = Callable[[Setup], Setup | None]  # None: there is nothing of the kind to change


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A change with its `--set`s, and the memory it leads to."""

    settings: tuple[str, ...]
    memory: Memory
    fits: bool


def smallest_batch(setup: Setup) -> Setup | None:
    if setup.layout.per_device == 1:
        return None
    return replace(setup, layout=with_device_batch(setup.layout, 1))


def checkpointing(setup: Setup) -> Setup | None:
    if setup.job.machine.gradient_checkpointing:
        return None
    return with_job(setup, machine=setup.job.machine.model_copy(update={"gradient_checkpointing": True}))


def eight_bit(setup: Setup) -> Setup | None:
    if "8bit" in setup.optimizer or "4bit" in setup.optimizer or setup.job.model.lora:
        return None
    training = type(setup.job.training)({**setup.job.training, "optim": EIGHT_BIT})
    return with_job(setup, training=training)


def offloading(files: Mapping[str, dict[str, Any]]) -> Change:
    def offload(setup: Setup) -> Setup | None:
        settings = files.get(OFFLOAD)
        if not setup.card or settings is None or setup.deepspeed == settings:
            return None
        return replace(setup, deepspeed=settings)

    return offload


def adapters(setup: Setup) -> Setup | None:
    if setup.job.model.lora:
        return None
    return with_job(setup, model=setup.job.model.model_copy(update={"lora": Lora(rank=32, alpha=64)}))


def with_job(setup: Setup, **sections: Any) -> Setup:
    return replace(setup, job=setup.job.model_copy(update=sections))


def settings_of(before: Setup, after: Setup) -> tuple[str, ...]:
    """What `--set` makes `after` of `before`."""
    found = []
    if after.layout != before.layout:
        found.append(f"machine.per_device_train_batch_size={after.layout.per_device}")
    if after.job.machine != before.job.machine:
        found.append("machine.gradient_checkpointing=true")
    if after.job.training != before.job.training:
        found.append(f"training.optim={EIGHT_BIT}")
    if after.deepspeed != before.deepspeed:
        found.append(f"machine.deepspeed={OFFLOAD}")
    if after.job.model != before.job.model:
        found.append("model.lora.rank=32")
    return tuple(found)


def find_ways(
    setup: Setup,
    card_bytes: float,
    host_bytes: float,
    files: Mapping[str, dict[str, Any]],
    done: dict[Any, Traced],
) -> list[Way]:
    """Every single change, then one after the other until it fits; `files` are the DeepSpeed files by their names."""
    changes: Sequence[Change] = (checkpointing, smallest_batch, eight_bit, offloading(files), adapters)

    def tried(changed: Setup) -> Way:
        memory, _ = estimate(changed, done)
        fits = memory.total <= card_bytes and memory.host <= host_bytes
        return Way(settings=settings_of(setup, changed), memory=memory, fits=fits)

    ways = [tried(changed) for change in changes if (changed := change(setup)) is not None]
    if any(way.fits for way in ways):
        return ways
    return [
        *ways,
        *together(setup, changes[:3], tried),
        *together(setup, (checkpointing, smallest_batch, adapters), tried),
    ]


def together(setup: Setup, changes: Sequence[Change], tried: Callable[[Setup], Way]) -> Iterator[Way]:
    """The changes one on top of the other, up to the first that fits."""
    made = 0
    for change in changes:
        changed = change(setup)
        if changed is None:
            continue
        setup, made = changed, made + 1
        if made > 1:  # each by itself was tried before
            way = tried(setup)
            yield way
            if way.fits:
                return
