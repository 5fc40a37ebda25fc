"""A plan as text and as JSON. GB are 10⁹ bytes."""

from dataclasses import asdict, dataclass
from typing import Any

from whisper_train.machine import Layout
from whisper_train.planning.clips import Amount
from whisper_train.planning.disk import Disk
from whisper_train.planning.estimate import Memory
from whisper_train.planning.trace import Traced
from whisper_train.planning.ways import Way

GB = 1e9
TIGHT = 0.9  # of what is there: above it an estimate that is 10 % off is too much


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one training will take; bytes, hours, and the price in the currency of the price per hour."""

    job: str
    base: str
    base_from: str
    profile: str
    layout: Layout
    precision: str
    optimizer: str
    deepspeed: str | None
    traced: Traced
    memory: Memory
    card: bool
    card_bytes: float  # of each card; on a processor the RAM of the host
    host_bytes: float
    ways: tuple[Way, ...]
    disk: Disk
    amount: Amount
    steps_per_hour: float | None
    rate_from: str
    price: float | None

    @property
    def fits(self) -> bool:
        here = self.memory.total if self.card else self.memory.host
        return here <= self.card_bytes and self.memory.host <= self.host_bytes

    @property
    def hours(self) -> float | None:
        steps = self.amount.steps
        return steps / self.steps_per_hour if steps and self.steps_per_hour else None

    @property
    def cost(self) -> float | None:
        return None if self.hours is None or self.price is None else self.hours * self.price


def as_json(plan: Plan) -> dict[str, Any]:
    """Every figure of `plan`; what is not known is null."""
    values = asdict(plan)
    values["memory"] |= {"total": plan.memory.total}
    values["disk"] |= {"total": plan.disk.total}
    for way, values_of_way in zip(plan.ways, values["ways"], strict=True):
        values_of_way["memory"] |= {"total": way.memory.total}
    return {**values, "fits": plan.fits, "hours": plan.hours, "cost": plan.cost}


def as_text(plan: Plan) -> str:
    lines = [*heading(plan), "", *memory_table(plan), *host_line(plan), *ways_table(plan), "", *the_rest(plan)]
    return "\n".join(lines)


def heading(plan: Plan) -> list[str]:
    traced, amount = plan.traced, plan.amount
    share = "" if traced.trained == traced.parameters else f", {traced.trained / 1e6:,.1f} M of them trained"
    zero = f"DeepSpeed ZeRO-2 ({plan.deepspeed})" if plan.deepspeed else "without DeepSpeed"
    return [
        f"{plan.job} on {plan.profile}: {plan.base} ({plan.base_from}), {traced.parameters / 1e6:,.1f} M parameters{share}",
        f"{plan.layout}; {plan.precision}, {plan.optimizer}, {zero}",
        f"windows up to {amount.seconds:.1f} s, labels up to {amount.tokens} tokens ({amount.why})",
    ]


def memory_table(plan: Plan) -> list[str]:
    memory = plan.memory
    where = "each card" if plan.card else "each rank, in RAM"
    parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("buffers", memory.buffers),
        ("CUDA (assumed)" if plan.card else "the program itself", memory.process),
    ]
    lines = [f"memory of {where}, fullest in {memory.moment}:"]
    lines += [f"  {name:<20}{value / GB:8.2f} GB" for name, value in parts]
    verdict = f" of {plan.card_bytes / GB:.1f}: {judge(memory.total, plan.card_bytes)}" if plan.card else ""
    return [*lines, f"  {'together':<20}{memory.total / GB:8.2f} GB{verdict}"]


def host_line(plan: Plan) -> list[str]:
    host, there = plan.memory.host, plan.host_bytes
    return [f"  {'RAM of the host':<20}{host / GB:8.2f} GB of {there / GB:.1f}: {judge(host, there)}"]


def judge(wanted: float, there: float) -> str:
    if wanted > there:
        return "does not fit"
    return "fits" if wanted <= TIGHT * there else "tight (--probe tries it)"


def ways_table(plan: Plan) -> list[str]:
    if plan.fits:
        return []
    lines = ["", "what changes it:"]
    for way in plan.ways:
        figure = f"{way.memory.total / GB:.2f} GB, RAM {way.memory.host / GB:.1f}" if plan.card else ""
        figure = figure or f"RAM {way.memory.host / GB:.2f} GB"
        lines.append(f"  {'fits' if way.fits else 'not ':<6}{figure:<26}--set {' --set '.join(way.settings)}")
    if not any(way.fits for way in plan.ways):
        lines.append("  nothing here makes it fit: take a smaller base, or a larger card")
    return lines


def the_rest(plan: Plan) -> list[str]:
    disk, amount = plan.disk, plan.amount
    kept = f"{disk.checkpoints} checkpoints of {disk.checkpoint / GB:.1f}"
    lines = [
        f"disk    {disk.total / GB:.0f} GB: {kept}, base and model {disk.models / GB:.1f}, data {disk.data / GB:.0f}"
    ]
    if amount.steps is None:
        lines.append(f"steps   not known: {amount.why}")
    else:
        of = [f"{amount.windows:,} windows an epoch" if amount.windows else "training.max_steps"]
        of += [f"{amount.hours:,.1f} h of audio"] if amount.hours else []
        lines.append(f"steps   {amount.steps:,} ({', '.join(of)})")
    if plan.hours is None:
        lines.append(f"hours   not known: {plan.rate_from if amount.steps else 'nor are the steps'}")
        return lines
    lines.append(f"hours   {plan.hours:.1f} ({plan.rate_from})")
    if plan.cost is not None:
        lines.append(f"cost    {plan.cost:.2f} at {plan.price:g} an hour")
    return lines
