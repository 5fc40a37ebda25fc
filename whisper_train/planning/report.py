"""A plan as text and as JSON. GB are 10⁹ bytes."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from whisper_train.planning.clips import Amount
from whisper_train.planning.disk import Disk
from whisper_train.planning.setup import Setup

if TYPE_CHECKING:
    from whisper_train.planning.estimate import Memory
    from whisper_train.planning.trace import Traced
    from whisper_train.planning.ways import Way

GB = 1e9
TIGHT = 0.9  # of what is there: above it an estimate that is 10 % off is too much


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one training will take; bytes, hours, and the price in the currency of the price per hour."""

    setup: Setup
    base: str
    base_from: str
    deepspeed: str | None
    traced: "Traced"
    memory: "Memory"
    measured: int | None  # what a probe measured in place of memory.tensors, or on a processor of memory.total
    room: float  # of each card; on a processor of the host
    host: float
    ways: tuple["Way", ...]
    disk: Disk
    amount: Amount
    steps_per_hour: float | None
    rate_from: str
    price: float | None

    @property
    def total(self) -> int:
        """Bytes of a rank, as measured where a probe did."""
        if self.measured is None:
            return self.memory.total
        return self.measured + (self.memory.process if self.setup.card else 0)

    @property
    def host_total(self) -> int:
        if self.measured is None or self.setup.card:
            return self.memory.host
        return self.memory.host + (self.measured - self.memory.total) * self.setup.layout.ranks_per_host

    @property
    def fits(self) -> bool:
        here = self.total if self.setup.card else self.host_total
        return here <= self.room and self.host_total <= self.host

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
    setup, memory = plan.setup, values["memory"]
    del values["setup"]
    ways = [{**asdict(way), "memory": {**asdict(way.memory), "total": way.memory.total}} for way in plan.ways]
    return {
        **values,
        "job": setup.job.name,
        "profile": setup.job.machine.name,
        "layout": asdict(setup.layout),
        "precision": setup.precision,
        "optimizer": setup.optimizer,
        "card": setup.card,
        "memory": {**memory, "total": plan.total, "host": plan.host_total},
        "ways": ways,
        "disk": {**values["disk"], "total": plan.disk.total},
        "fits": plan.fits,
        "hours": plan.hours,
        "cost": plan.cost,
    }


def as_text(plan: Plan) -> str:
    lines = [*heading(plan), "", *memory_table(plan), *host_line(plan), *ways_table(plan), "", *the_rest(plan)]
    return "\n".join(lines)


def heading(plan: Plan) -> list[str]:
    traced, amount, setup = plan.traced, plan.amount, plan.setup
    share = "" if traced.trained == traced.parameters else f", {traced.trained / 1e6:,.1f} M of them trained"
    zero = f"DeepSpeed ZeRO-2 ({plan.deepspeed})" if plan.deepspeed else "without DeepSpeed"
    return [
        f"{setup.job.name} on {setup.job.machine.name}: {plan.base} ({plan.base_from}),"
        f" {traced.parameters / 1e6:,.1f} M parameters{share}",
        f"{setup.layout}; {setup.precision}, {setup.optimizer}, {zero}",
        f"windows up to {amount.seconds:.1f} s, labels up to {amount.tokens} tokens ({amount.why})",
    ]


def memory_table(plan: Plan) -> list[str]:
    memory = plan.memory
    where = "each card" if plan.setup.card else "each rank, in RAM"
    parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("buffers", memory.buffers),
        ("CUDA (assumed)" if plan.setup.card else "the program itself", memory.process),
    ]
    lines = [f"memory of {where}, fullest in {memory.moment}:"]
    lines += [f"  {name:<20}{value / GB:8.2f} GB" for name, value in parts]
    lines.append(f"  {'together':<20}{memory.total / GB:8.2f} GB")
    if plan.measured is not None:
        lines.append(f"  {'as measured':<20}{plan.total / GB:8.2f} GB ({memory.total / plan.total - 1:+.1%} planned)")
    if plan.setup.card:
        lines[-1] += f" of {plan.room / GB:.1f}: {judge(plan.total, plan.room)}"
    return lines


def host_line(plan: Plan) -> list[str]:
    host, there = plan.host_total, plan.host
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
        figure = f"{way.memory.total / GB:.2f} GB, RAM {way.memory.host / GB:.1f}" if plan.setup.card else ""
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
