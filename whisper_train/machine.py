"""What this machine has, which profile suits it, and the batch layout that follows from job and profile."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_file import display, find_file, read_yaml, suggest_file

PROFILES = ((120_000, "h200"), (60_000, "80gb"), (0, "2x16gb"))  # by the memory of the smallest card, in MiB


def list_gpus(environment: Mapping[str, str]) -> list[int]:
    """The memory in MiB of each NVIDIA GPU that CUDA_VISIBLE_DEVICES (or GPUS) leaves visible; empty without a driver.

    Raises UserError when it names a card that is not there.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    cards = all_gpus()
    if visible is None:
        return list(cards.values())
    setting = "GPUS" if environment.get("GPUS") == visible else "CUDA_VISIBLE_DEVICES"
    found = []
    for wanted in (part.strip() for part in visible.split(",")):
        memory = next((cards[card] for card in cards if wanted in card or card[1].startswith(wanted)), None)
        if memory is None:
            there = ", ".join(index for index, _ in cards) or "none"
            raise UserError(f"{setting}: {wanted}: this machine shows no such GPU; there are: {there}")
        found.append(memory)
    return found


def all_gpus() -> dict[tuple[str, str], int]:
    """The memory in MiB of every NVIDIA GPU by its index and UUID, as nvidia-smi tells them; empty without a driver."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        lines = [[value.strip() for value in line.split(",")] for line in answer.splitlines()]
        return {(index, uuid): int(memory) for index, uuid, memory in lines}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


def choose_profile(name: str | None, config_dir: Path, gpus: list[int]) -> tuple[Path, str]:
    """The path of the machine profile `name`, or of the one that suits `gpus`, and the sentence that says why."""
    folder = config_dir / "machines"
    if name:
        path = find_file(name, [folder], ".yaml")
        if path is None:
            raise UserError(f"MACHINE: {name}: no such profile in {display(folder)}{suggest_file(name, folder)}")
        return path, f"machine profile {path.stem}"
    if not gpus:
        chosen, why = "cpu", "no GPU found"
    else:
        chosen = next(name for least, name in PROFILES if min(gpus) >= least)
        why = f"found {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} with {min(gpus) // 1024} GiB"
    return folder / f"{chosen}.yaml", f"machine profile {chosen} ({why}; MACHINE=<profile> chooses another)"


def list_profiles(folder: Path) -> dict[str, dict[str, Any]]:
    """The machine profiles in `folder` by their names, as they stand in their files."""
    return {path.stem: read_yaml(path) for path in sorted((folder / "machines").glob("*.yaml"))}


def choose_gpus(job: Job, environment: Mapping[str, str]) -> int:
    """How many GPUs the job may use; hides the others from torch, which would spread a single process over them."""
    gpus = 0 if job.machine.device == "cpu" else len(list_gpus(environment))
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        visible = ""
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed looks for one, and warns
    elif job.machine.processes == 1:
        visible = (visible or "0").split(",")[0]
    if visible is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # what the base of this job was given
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    return gpus


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a global batch is spread: ranks × per_device × accumulation = global batch."""

    ranks: int
    ranks_per_host: int
    per_device: int
    accumulation: int
    threads: int

    @property
    def global_batch(self) -> int:
        return self.ranks * self.per_device * self.accumulation

    def __str__(self) -> str:
        shares = f"{self.ranks} rank(s) × {self.per_device} clips × {self.accumulation} accumulation"
        return f"global batch {self.global_batch} = {shares}"


def plan_layout(job: Job, *, gpus: int, hosts: int = 1) -> Layout:
    """The layout of `job` on a machine with `gpus`; raises UserError when the global batch cannot be spread evenly."""
    machine, training = job.machine, job.training
    per_host = max(gpus, 1) if machine.processes == "all" else machine.processes
    if gpus and per_host > gpus:
        raise UserError(
            f"{job.name}: machine.processes: {per_host}: this machine has {gpus} GPU(s); lower it or use all"
        )
    ranks = per_host * hosts
    largest = training.get("per_device_train_batch_size") or machine.per_device_train_batch_size
    steps = training.get("gradient_accumulation_steps")
    total = training.get("global_batch_size") or largest * (steps or 1)
    if total % ranks:
        raise UserError(
            f"{job.name}: training.global_batch_size: {total}: cannot be spread over {ranks} processes; use a multiple"
        )
    share = total // ranks
    cores = len(os.sched_getaffinity(0))
    whole = Layout(
        ranks=ranks,
        ranks_per_host=per_host,
        per_device=share,
        accumulation=1,
        threads=machine.threads or max(1, cores // per_host),
    )
    return with_device_batch(whole, largest)


def with_device_batch(layout: Layout, largest: int) -> Layout:
    """The layout of the same global batch that takes at most `largest` clips at a time."""
    share = layout.per_device * layout.accumulation
    per_device = max(size for size in range(1, min(largest, share) + 1) if share % size == 0)
    return replace(layout, per_device=per_device, accumulation=share // per_device)


def choose_precision(job: Job) -> str:
    """bf16, fp16 or fp32: what job and profile ask for, as far as the device here can do it."""
    import torch

    card = torch.cuda.is_available()
    return precision_on(job, card=card, knows_bf16=card and torch.cuda.is_bf16_supported(including_emulation=False))


def precision_on(job: Job, *, card: bool, knows_bf16: bool) -> str:
    """What job and profile ask for, as far as a processor, or a card that knows bf16 or does not, can do it."""
    wanted: str = job.machine.precision
    if wanted == "auto":
        asked = [name for name in ("bf16", "fp16") if job.training.get(name)]
        off = job.training.get("bf16") is False and job.training.get("fp16") is False
        wanted = asked[0] if asked else "fp32" if off else "auto"
    if not card:
        return "bf16" if job.machine.precision == "bf16" else "fp32"
    if wanted in ("auto", "bf16") and knows_bf16:
        return "bf16"
    return "fp16" if wanted in ("auto", "bf16", "fp16") else "fp32"
