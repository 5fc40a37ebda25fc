"""`plan --probe`: tries on this machine what the plan computed, and writes a machine profile of what it found."""

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import yaml

from whisper_train.errors import UserError
from whisper_train.job import Hardware, Job, Measured
from whisper_train.job_file import display
from whisper_train.machine import Layout, with_device_batch
from whisper_train.paths import write_text
from whisper_train.planning.estimate import Memory, estimate
from whisper_train.planning.setup import Setup
from whisper_train.planning.trial import Trial, run_trial

MADE_BY = "# Made by whisper-train plan --probe"
SECONDS = 60.0  # of steps whose speed is measured
FEW_STEPS, MANY_STEPS = 2, 1_000  # to see whether a batch fits; to be ended by SECONDS
HOPELESS = 1.3  # times the room: an estimate that large is not tried
GB = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What was found: the largest batch that fits, what it took, and what had been planned for it."""

    setup: Setup
    trial: Trial
    planned: Memory
    room: float

    @property
    def expected(self) -> int:
        return self.planned.tensors if self.setup.card else self.planned.total

    @property
    def difference(self) -> float:
        """Of the estimate from what was measured, as a share of it."""
        return self.expected / self.trial.bytes - 1


def probe(setup: Setup, room: float, environment: Mapping[str, str], say: Callable[[str], None]) -> Probe:
    """Tries device batches, upwards or downwards from what is planned to fit; then measures the speed of the largest.

    `room` are bytes of a card, or of RAM for all ranks. Raises UserError when not even one window fits.
    """
    cap = room if setup.card else room / setup.layout.ranks_per_host
    sizes = list(batches(setup.layout))
    planned = {size: estimate(with_batch(setup, size))[0] for size in sizes}
    hopeful = [size for size in sizes if planned[size].total <= HOPELESS * cap] or sizes[:1]
    likely = max((size for size in hopeful if planned[size].total <= cap), default=hopeful[0])

    def fits(size: int) -> bool:
        trial = run_trial(with_batch(setup, size), environment, seconds=SECONDS, steps=FEW_STEPS, cap_bytes=cap)
        amount = f"takes {trial.bytes / GB:.2f} GB" if trial.fits else "does not fit"
        say(f"probe: {size} at a time: planned {planned[size].total / GB:.2f} GB, {amount}")
        return trial.fits

    best = climb(hopeful, likely, fits)
    if best is None:
        raise UserError(
            f"plan: not one window fits into {cap / GB:.1f} GB; the plan without --probe says what would help"
        )
    chosen = with_batch(setup, best)
    trial = run_trial(chosen, environment, seconds=SECONDS, steps=MANY_STEPS, cap_bytes=cap)
    if not trial.fits:
        raise UserError(f"plan: {best} at a time fitted for {FEW_STEPS} steps and not for {SECONDS:.0f} s; try again")
    say(f"probe: {best} at a time: {trial.windows_per_second:.2f} windows/s")
    return Probe(setup=chosen, trial=trial, planned=planned[best], room=cap)


def climb(sizes: list[int], start: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of `sizes` that fits, tried from `start` on; None when none does."""
    place = sizes.index(start)
    if fits(sizes[place]):
        while place + 1 < len(sizes) and fits(sizes[place + 1]):
            place += 1
        return sizes[place]
    while place > 0:
        place -= 1
        if fits(sizes[place]):
            return sizes[place]
    return None


def batches(layout: Layout) -> Iterator[int]:
    """Device batches that divide a rank's share of the global batch, the smallest first."""
    share = layout.per_device * layout.accumulation
    yield from (size for size in range(1, share + 1) if share % size == 0)


def with_batch(setup: Setup, size: int) -> Setup:
    return replace(setup, layout=with_device_batch(setup.layout, size))


def profile_path(job: Job, folder: Path) -> Path:
    """Where a probe leaves its profile; raises UserError where somebody wrote another file of that name."""
    path = folder / "machines" / f"{job.machine.name.removesuffix('-probed')}-probed.yaml"
    if path.is_file() and not path.read_text(encoding="utf-8").startswith(MADE_BY):
        raise UserError(f"{display(path)}: was not made by a probe, and is left as it is; rename it")
    return path


def write_profile(found: Probe, path: Path) -> None:
    """Writes the profile with which the job trains as it was tried."""
    setup, job = found.setup, found.setup.job
    ranks, batch = setup.layout.ranks_per_host, setup.layout.per_device
    host_gb = round(psutil.virtual_memory().total / GB, 1)
    hardware = Hardware(cards=ranks, card_gb=round(found.room / GB, 1), host_gb=host_gb)
    measured = Measured(job=job.name, windows_per_second=round(found.trial.windows_per_second, 3))
    settings = job.machine.model_copy(
        update={
            "per_device_train_batch_size": batch,
            "hardware": hardware if setup.card else None,
            "measured": measured,
        }
    )
    what = "tensors on each card" if setup.card else "resident memory of each rank"
    lines = [
        f"{MADE_BY} {job.name}, {datetime.now(UTC).date()}, on {platform.node()}; made anew by the next one.",
        f"# {batch} windows at a time, {ranks} rank(s), {setup.precision}: the largest batch that fitted into"
        f" {found.room / GB:.1f} GB.",
        f"# {what}: {found.trial.bytes / GB:.2f} GB measured, {found.expected / GB:.2f} GB planned"
        f" ({found.difference:+.1%}).",
        f"# Speed: {found.trial.windows_per_second:.2f} windows/s, without reading audio and without evaluations.",
    ]
    values = settings.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    write_text(path, "\n".join(lines) + "\n" + yaml.safe_dump(values, sort_keys=False))
