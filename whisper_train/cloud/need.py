"""What a job needs of a rented machine: GPUs and their memory, RAM, disk. Estimates, each with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_train.cloud.travel import read_chain
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.machine import list_profiles
from whisper_train.paths import find_config_dir
from whisper_train.planning.bases import SIZES, dimensions_by_name, dimensions_of_new
from whisper_train.planning.disk import estimate_disk

LARGEST_ON_16_GB = 809_000_000  # parameters: turbo; larger ones want two such cards, or one of 80 GB
SMALL, LARGE = "2x16gb", "80gb"  # the profiles for them
IMAGE_BYTES = 40_000_000_000  # the image, its layers, packages' caches
RAM_GB = 32  # where a profile of one's own does not say
GB = 10**9


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
    folder = find_config_dir(environment)
    profile = machine
    if profile is None:
        profile, gpus = suit(read_chain(name, None, overrides, environment), gpus, folder)
    jobs = read_chain(name, profile, overrides, environment)
    settings = jobs[-1].machine
    if settings.device == "cpu":
        raise UserError(
            f"MACHINE: {settings.name}: has no GPU, and Vast.ai rents GPUs; name {', '.join(gpu_profiles(folder))}"
        )
    hardware = settings.hardware
    if hardware is None and (gpus is None or gpu_gb is None):
        raise UserError(
            f"MACHINE: {settings.name}: does not say what it needs; say it: --gpus 1 --gpu-memory 24, or `hardware` in"
            " the profile"
        )
    disk, why = disk_gb_of(jobs)
    return Need(
        jobs=jobs,
        profile=settings.name,
        gpus=gpus or (hardware.cards if hardware else 1),
        gpu_gb=gpu_gb or (hardware.card_gb if hardware else 0.0),
        ram_gb=round(hardware.host_gb) if hardware else RAM_GB,
        disk_gb=disk_gb or disk,
        why=f"machine profile {settings.name}; {'DISK as given' if disk_gb else why}",
    )


def gpu_profiles(folder: Path) -> list[str]:
    """The profiles that say which GPUs they are written for."""
    return [name for name, profile in list_profiles(folder).items() if profile.get("hardware")]


def suit(jobs: Sequence[Job], gpus: int | None, folder: Path) -> tuple[str, int | None]:
    """The profile for the base of `jobs` and how many GPUs of it; raises UserError when the base tells no size."""
    parameters = count_parameters(jobs)
    if parameters is None:
        raise UserError(
            f"{jobs[-1].name}: base: {jobs[0].base}: its size cannot be told from its name; choose the machine:"
            f" MACHINE={'|'.join(gpu_profiles(folder))}"
        )
    return (SMALL, gpus or 1) if parameters <= LARGEST_ON_16_GB else (LARGE, gpus)


def count_parameters(jobs: Sequence[Job]) -> int | None:
    """Parameters of what the first of `jobs` starts from, by its name; None when that says nothing."""
    if jobs[0].architecture is not None:
        return dimensions_of_new(jobs[0].architecture).parameters
    found = dimensions_by_name(jobs[0].base)
    return found.parameters if found else None


def disk_gb_of(jobs: Sequence[Job]) -> tuple[int, str]:
    """GB of disk, in tens, and what they are for. The disk of an instance cannot grow later."""
    disk = estimate_disk(jobs, count_parameters(jobs) or SIZES["large"].parameters)
    why = (
        f"disk: {IMAGE_BYTES // GB} for the image, {disk.data // GB} for data, {disk.models / GB:.1f} for models,"
        f" {disk.checkpoints} checkpoints of {disk.checkpoint / GB:.1f}; DISK= changes it"
    )
    return -(-(IMAGE_BYTES + disk.total) // (10 * GB)) * 10, why
