"""`whisper-train plan`: from a job to what it will take, without a GPU and without reading audio."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.job import Hardware, Job
from whisper_train.machine import Layout, list_gpus, plan_layout
from whisper_train.paths import find_config_dir, find_directories, read_json
from whisper_train.planning.bases import find_dimensions
from whisper_train.planning.clips import count_data, earlier_rate
from whisper_train.planning.disk import estimate_disk
from whisper_train.planning.report import GB, Plan
from whisper_train.run_folder import run_folder
from whisper_train.runner import check_trainable, resolve_with_bases

MEBIBYTE = 2**20
NO_RATE = "no run of this job on this profile, and no probe of it (--probe), has told how fast it goes"


def make_plan(
    name: str,
    machine: str | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    *,
    gpus: int | None = None,
    price: float | None = None,
) -> Plan:
    """The plan of the job called `name`; raises UserError for mistakes in it, and for a base that nothing tells of."""
    jobs, _ = resolve_with_bases(name, machine, overrides, environment)
    job = jobs[-1]
    check_trainable(job)
    directories = find_directories(environment)
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    cards = list_gpus(environment)
    card = trains_on_card(job, cards)
    layout = plan_layout(job, gpus=(gpus or cards_of(job, cards)) if card else 0)
    base, architecture = jobs[0].base, jobs[0].architecture
    dimensions, base_from = find_dimensions(base, architecture, directories.models)
    amount = count_data(job, directories, dimensions, layout.global_batch)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nothing is run: a GPU here may be busy with another job

    from whisper_train.planning.estimate import Setup, estimate
    from whisper_train.planning.ways import find_ways
    from whisper_train.run_log import quiet_libraries
    from whisper_train.training.arguments import deepspeed_file

    quiet_libraries(None)
    config_dir = find_config_dir(environment)
    path = deepspeed_file(job, config_dir)
    setup = Setup(
        dimensions=dimensions,
        job=job,
        layout=layout,
        precision=planned_precision(job, card=card),
        deepspeed=read_json(path) if path else None,
        seconds=amount.seconds,
        tokens=amount.tokens,
        card=card,
    )
    traces: dict[Any, Any] = {}
    memory, traced = estimate(setup, traces)
    host = host_bytes(job.machine.hardware)
    room = card_bytes(job, cards, chosen=machine is not None) if card else host
    ways = []
    if (memory.total if card else memory.host) > room or memory.host > host:
        files = {file.stem: read_json(file) for file in (config_dir / "deepspeed").glob("*.json")}
        ways = find_ways(setup, room, host, files, traces)
    rate, rate_from = find_rate(job, layout, run_folder(job, directories).read())
    return Plan(
        job=job.name,
        base=base,
        base_from=base_from,
        profile=job.machine.name,
        layout=layout,
        precision=setup.precision,
        optimizer=setup.optimizer,
        deepspeed=path.stem if path else None,
        traced=traced,
        memory=memory,
        card=card,
        card_bytes=room,
        host_bytes=host,
        ways=tuple(ways),
        disk=estimate_disk(jobs, traced.parameters, traced.trained),
        amount=amount,
        steps_per_hour=rate,
        rate_from=rate_from,
        price=price,
    )


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


def host_bytes(hardware: Hardware | None) -> float:
    """RAM of the host: what the profile is written for, else what is here."""
    return hardware.host_gb * GB if hardware else float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def planned_precision(job: Job, *, card: bool) -> str:
    """The precision on the planned machine, whose cards are taken to know bf16; see machine.choose_precision."""
    wanted = job.machine.precision
    if not card:
        return "bf16" if wanted == "bf16" else "fp32"
    if wanted != "auto":
        return wanted
    if job.training.get("fp16") and not job.training.get("bf16"):
        return "fp16"
    off = job.training.get("bf16") is False and job.training.get("fp16") is False
    return "fp32" if off else "bf16"


def find_rate(job: Job, layout: Layout, facts: Mapping[str, Any]) -> tuple[float | None, str]:
    """Steps an hour as an earlier run or a probe measured them, and which of them; None and why it is not known."""
    if rate := earlier_rate(job, facts):
        return rate, f"{rate:,.0f} steps an hour, as the run in models/{job.name} made them"
    measured = job.machine.measured
    if measured and measured.job == job.name:
        rate = measured.windows_per_second * 3600 / layout.global_batch
        return rate, f"{measured.windows_per_second:g} windows/s, as --probe measured them"
    return None, NO_RATE
