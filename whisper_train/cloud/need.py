"""What a job needs of a rented machine: GPUs and their memory, RAM, disk. Estimates, each with its reason."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whisper_train.cloud.travel import read_chain
from whisper_train.errors import UserError
from whisper_train.job import Job

# Parameters in millions of the bases people start from (https://github.com/openai/whisper/blob/main/model-card.md).
PARAMETERS = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large": 1550, "turbo": 809}
LARGEST_ON_16_GB = 809  # millions of parameters; see jobs/machines/2x16gb.yaml

# GPUs, memory of each and RAM that a profile of jobs/machines/ is written for, in GB. A card offers a little less than
# its name says, so a little less is asked for.
PROFILES = {"h200": (1, 120.0, 64), "80gb": (1, 79.0, 64), "2x16gb": (2, 15.5, 48)}

BYTES_PER_PARAMETER = 16  # of a checkpoint: float32 weights, two moments of Adam, and what ZeRO adds
IMAGE_GB = 40  # the image, its layers, packages' caches
DATA_GB = 50  # for data from the hub, whose size nobody tells beforehand


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What to look for. Memory and disk in GB (10⁹ bytes), as Vast.ai counts."""

    jobs: tuple[Job, ...]
    profile: str
    gpus: int
    gpu_gb: float
    ram_gb: int
    disk_gb: int
    why: str

    @property
    def job(self) -> Job:
        return self.jobs[-1]

    def __str__(self) -> str:
        return (
            f"{self.job.name} needs {self.gpus} GPU{'s' if self.gpus > 1 else ''} of {self.gpu_gb:g} GB or more,"
            f" {self.ram_gb} GB of RAM and {self.disk_gb} GB of disk ({self.why})"
        )


def find_need(
    name: str,
    *,
    machine: str | None,
    gpus: int | None,
    gpu_gb: float | None,
    disk_gb: int | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
) -> Need:
    """What the job called `name` needs on the profile `machine`, by default one that suits its base.

    Raises UserError for mistakes in the job, and where the machine is a guess: an unknown base, a profile of one's own.
    """
    profile = machine
    if profile is None:
        profile, gpus = suit(read_chain(name, None, overrides, environment), gpus)
    jobs = read_chain(name, profile, overrides, environment)
    profile = jobs[-1].machine.name
    if jobs[-1].machine.device == "cpu":
        raise UserError(f"MACHINE: {profile}: has no GPU, and Vast.ai rents GPUs; name {', '.join(PROFILES)}")
    if profile not in PROFILES and (gpus is None or gpu_gb is None):
        raise UserError(f"MACHINE: {profile}: is a profile of your own; say what it needs: --gpus 1 --gpu-memory 24")
    default_gpus, default_gb, ram_gb = PROFILES.get(profile, (1, 0.0, 32))
    disk, why = estimate_disk(jobs)
    return Need(
        jobs=jobs,
        profile=profile,
        gpus=gpus or default_gpus,
        gpu_gb=gpu_gb or default_gb,
        ram_gb=ram_gb,
        disk_gb=disk_gb or disk,
        why=f"machine profile {profile}; {'DISK as given' if disk_gb else why}",
    )


def suit(jobs: Sequence[Job], gpus: int | None) -> tuple[str, int | None]:
    """The profile for the base of `jobs` and how many GPUs of it; raises UserError when the base tells no size."""
    parameters = count_parameters(jobs)
    if parameters is None:
        raise UserError(
            f"{jobs[-1].name}: base: {jobs[0].base}: its size cannot be told from its name; choose the machine:"
            f" MACHINE={'|'.join(PROFILES)}"
        )
    return ("2x16gb", gpus or 1) if parameters <= LARGEST_ON_16_GB else ("80gb", gpus)


def count_parameters(jobs: Sequence[Job]) -> int | None:
    """Millions of parameters of what the first of `jobs` starts from, by its name; None when that says nothing."""
    base = jobs[0].base
    if base == "new":
        return PARAMETERS["tiny"]
    if base.startswith("distil-whisper/distil-large"):
        return 756
    found = re.search(r"whisper-(tiny|base|small|medium|large|turbo)(.*)", base.lower())
    if found is None:
        return None
    return PARAMETERS["turbo" if "turbo" in found[2] else found[1]]


def estimate_disk(jobs: Sequence[Job]) -> tuple[int, str]:
    """GB of disk, in tens, and what they are for. The disk of an instance cannot grow later."""
    state_gb = (count_parameters(jobs) or PARAMETERS["large"]) * BYTES_PER_PARAMETER / 1000
    kept = sum((job.training.get("save_total_limit") or 5) + 2 for job in jobs)  # one being written, and the model
    sources = [source for job in jobs for source in job.data.training_sources]
    data_gb = DATA_GB if any(source.hub and not source.streaming for source in sources) else 10
    total = IMAGE_GB + data_gb + state_gb * kept
    why = f"disk: {IMAGE_GB} for the image, {data_gb} for data, {kept} checkpoints of {state_gb:.1f}; DISK= changes it"
    return -(-round(total) // 10) * 10, why
