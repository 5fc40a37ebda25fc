"""`whisper-train plan`: from a job to what it will take, without a GPU and without reading audio."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.machine import Layout, list_gpus, plan_layout, precision_on
from whisper_train.paths import Directories, find_config_dir, find_directories, read_json
from whisper_train.planning.bases import find_dimensions
from whisper_train.planning.clips import Amount, count_data, earlier_rate
from whisper_train.planning.disk import estimate_disk
from whisper_train.planning.report import GB, Plan
from whisper_train.planning.setup import Setup
from whisper_train.run_folder import run_folder
from whisper_train.runner import check_trainable, resolve_with_bases
from whisper_train.tasks import check_of_speech
from whisper_train.training.arguments import deepspeed_file

MEBIBYTE = 2**20
NO_RATE = "no run of this job on this profile, and no probe of it (--probe), has told how fast it goes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A job on the machine that is planned for, before anything is computed."""

    jobs: Sequence[Job]
    setup: Setup
    base_from: str
    amount: Amount
    cards: Sequence[int]  # that are here, by their memory in MiB
    deepspeed: Path | None
    room: float  # bytes of a card, or of the host where a processor trains
    host: float
    config_dir: Path
    directories: Directories


def read_case(
    name: str,
    machine: str | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    *,
    gpus: int | None = None,
) -> Case:
    """The job called `name`; raises UserError for mistakes in it, and for a base that nothing here tells of."""
    jobs, _ = resolve_with_bases(name, machine, overrides, environment)
    job = jobs[-1]
    check_of_speech(job, "plan")
    check_trainable(job)
    directories, config_dir = find_directories(environment), find_config_dir(environment)
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    cards = list_gpus(environment)
    card = trains_on_card(job, cards)
    layout = plan_layout(job, gpus=(gpus or cards_of(job, cards)) if card else 0)
    dimensions, base_from = find_dimensions(jobs[0].base, jobs[0].architecture, directories)
    amount = count_data(job, directories, dimensions, layout.global_batch)
    path = deepspeed_file(job, config_dir)
    host = job.machine.hardware.host_gb * GB if job.machine.hardware else float(physical_bytes())
    setup = Setup(
        dimensions=dimensions,
        job=job,
        layout=layout,
        precision=precision_on(job, card=card, knows_bf16=True),
        deepspeed=read_json(path) if path else None,
        seconds=amount.seconds,
        tokens=amount.tokens,
        card=card,
    )
    return Case(
        jobs=jobs,
        setup=setup,
        base_from=base_from,
        amount=amount,
        cards=cards,
        deepspeed=path,
        room=card_bytes(job, cards, chosen=machine is not None) if card else host,
        host=host,
        config_dir=config_dir,
        directories=directories,
    )


def make_plan(case: Case, price: float | None) -> Plan:
    """What the training will take by the estimate, and what would change it where it does not fit."""
    setup, job = case.setup, case.setup.job
    with without_gpus():  # nothing is run on them: they may be busy with another job
        from whisper_train.planning.estimate import estimate
        from whisper_train.planning.ways import find_ways
        from whisper_train.run_log import quiet_libraries

        quiet_libraries(None)
        traces: dict[Any, Any] = {}
        memory, traced = estimate(setup, traces)
        ways = []
        if (memory.total if setup.card else memory.host) > case.room or memory.host > case.host:
            files = {file.stem: read_json(file) for file in (case.config_dir / "deepspeed").glob("*.json")}
            ways = find_ways(setup, case.room, case.host, files, traces)
    rate, rate_from = find_rate(job, setup.layout, run_folder(job, case.directories).read())
    return Plan(
        setup=setup,
        base=case.jobs[0].base,
        base_from=case.base_from,
        deepspeed=case.deepspeed.stem if case.deepspeed else None,
        traced=traced,
        memory=memory,
        measured=None,
        room=case.room,
        host=case.host,
        ways=tuple(ways),
        disk=estimate_disk(case.jobs, traced.parameters, traced.trained),
        amount=case.amount,
        steps_per_hour=rate,
        rate_from=rate_from,
        price=price,
    )


def probe_case(
    case: Case, plan: Plan, memory_gb: float | None, environment: Mapping[str, str], say: Callable[[str], None]
) -> Plan:
    """`plan` as a probe of this machine corrects it; leaves a machine profile of what was found.

    `memory_gb` is what each card, or all ranks in RAM, may take at most. Raises UserError where the cards are not here.
    """
    from whisper_train.planning.probe import probe, profile_path, write_profile

    setup, cards = case.setup, case.cards
    if setup.card and len(cards) < setup.layout.ranks_per_host:
        raise UserError(
            f"plan: --probe: {setup.layout.ranks_per_host} GPU(s) are planned for and {len(cards)} are here; run it on"
            " the machine itself, or with --gpus"
        )
    path = profile_path(setup.job, case.config_dir)  # refused before a minute is spent
    here = float(min(cards) * MEBIBYTE) if setup.card else float(available_bytes())
    with without_gpus():
        found = probe(setup, min(here, memory_gb * GB) if memory_gb else here, environment, say)
    write_profile(found, path)
    say(f"probe: wrote {display(path)}; use it with --machine {path.stem}")
    speed = found.trial.windows_per_second
    return replace(
        plan,
        setup=found.setup,
        memory=found.planned,
        measured=found.trial.bytes,
        ways=(),
        steps_per_hour=speed * 3600 / found.setup.layout.global_batch,
        rate_from=f"{speed:.2f} windows/s, as the probe measured them just now",
    )


@contextmanager
def without_gpus() -> Iterator[None]:
    """Within the block this process sees no GPU: the estimate needs none, and they may be busy with another job."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    before = {name: os.environ.get(name) for name in hidden}
    os.environ.update(hidden)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """RAM that a trial may take without pushing others out, in bytes (proc(5): MemAvailable)."""
    import psutil

    return int(psutil.virtual_memory().available)


def trains_on_card(job: Job, cards: Sequence[int]) -> bool:
    """Whether the planned machine has GPUs: the profile says so, or there are some here."""
    machine = job.machine
    return machine.device != "cpu" and bool(cards or machine.hardware or machine.processes == "all")


def cards_of(job: Job, cards: Sequence[int]) -> int:
    hardware = job.machine.hardware
    return len(cards) or (hardware.cards if hardware else 1)


def card_bytes(job: Job, cards: Sequence[int], *, chosen: bool) -> float:
    """Memory of a card: what a profile asked for by name is written for, else that of the smallest one here."""
    hardware = job.machine.hardware
    if cards and (hardware is None or not chosen):
        return float(min(cards) * MEBIBYTE)
    return hardware.card_gb * GB if hardware else float("inf")


def find_rate(job: Job, layout: Layout, facts: Mapping[str, Any]) -> tuple[float | None, str]:
    """Steps an hour as an earlier run or a probe measured them, and which of them; None and why it is not known."""
    if rate := earlier_rate(job, facts):
        return rate, f"{rate:,.0f} steps an hour, as the run in models/{job.name} made them"
    measured = job.machine.measured
    if measured and measured.job == job.name:
        rate = measured.windows_per_second * 3600 / layout.global_batch
        return rate, f"{measured.windows_per_second:g} windows/s, as --probe measured them"
    return None, NO_RATE
