"""Rented machines: created, found by the job in their label, destroyed."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.cloud.client import call, call_json, parse_json, rows_of
from whisper_train.cloud.image import CACHE_DIR, Mode, check_image, join_environment, launch_options
from whisper_train.cloud.need import Need
from whisper_train.cloud.parcel import job_path
from whisper_train.cloud.travel import pack_jobs
from whisper_train.errors import UserError
from whisper_train.machine import PROFILES

Instance = Mapping[str, Any]
LABEL = "whisper-train:"


def instance_options(
    need: Need, *, image: str, mode: Mode, bid: float | None, stop_when_done: bool, environment: Mapping[str, str]
) -> list[str]:
    """The client's options for an instance that trains the job of `need`; HF_TOKEN is among them where it is set.

    Fields: https://docs.vast.ai/api-reference/creating-instances-with-api.
    """
    check_image(image)
    name = need.job.name
    variables = {"EXP": name, **pack_jobs(need.jobs)}
    known = {name for _, name in PROFILES}  # the image has them; one of the user's own is in the packed job alone
    if need.profile in known:
        variables["MACHINE"] = need.profile
    if stop_when_done:
        variables["STOP_WHEN_DONE"] = "1"
    if environment.get("HF_TOKEN"):
        variables["HF_TOKEN"] = environment["HF_TOKEN"]
    options = ["--image", image, "--disk", str(need.disk_gb), "--label", LABEL + name]
    options += ["--env", join_environment(variables), "--cancel-unavail"]
    if bid is not None:
        options += ["--bid_price", f"{bid:g}"]
    if mode == "ssh":
        return [*options, "--raw", *launch_options(mode)]
    return [*options, "--raw", "--args", "train", job_path(name, CACHE_DIR)]  # takes all that follows it


def create_instance(offer: int, options: Sequence[str], environment: Mapping[str, str]) -> int:
    """Rents `offer`; the number of the instance. Raises UserError when Vast.ai does not."""
    told = parse_json(call(environment, "create", "instance", str(offer), *options), "create instance")
    if not isinstance(told, dict) or not told.get("success") or "new_contract" not in told:
        reason = told.get("msg") if isinstance(told, dict) else None
        raise UserError(f"OFFER: {offer}: Vast.ai does not rent it ({reason or 'no reason given'}); take another offer")
    return int(told["new_contract"])


def list_instances(environment: Mapping[str, str]) -> list[Instance]:
    """The user's instances that carry a label of ours."""
    rows = rows_of(call_json(environment, "show", "instances"), "show instances")
    return [row for row in rows if job_of(row)]


def job_of(instance: Instance) -> str:
    """The job in the label of `instance`; empty when it is none of ours."""
    label = str(instance.get("label") or "")
    return label.removeprefix(LABEL) if label.startswith(LABEL) else ""


def find_instance(job: str, number: int | None, environment: Mapping[str, str]) -> Instance:
    """The instance that trains `job`, or the one called `number` of several; raises UserError naming what there is."""
    everything = list_instances(environment)
    own = [row for row in everything if job_of(row) == job and number in (None, row.get("id"))]
    if len(own) == 1:
        return own[0]
    if own:
        numbers = ", ".join(f"ID={row.get('id')}" for row in own)
        raise UserError(f"{job}: there are {len(own)} instances; name one: {numbers}")
    there = ", ".join(f"{job_of(row)} (ID={row.get('id')})" for row in everything) or "none"
    wanted = f"{job} with ID={number}" if number is not None else job
    raise UserError(f"{wanted}: no such instance on Vast.ai; instances of whisper-train: {there}")


def describe(instance: Instance) -> str:
    """Number, machine, state and price of an instance, and what it has cost if it ran all the time."""
    hours = max(time.time() - float(instance.get("start_date") or time.time()), 0.0) / 3600
    price = float(instance.get("dph_total") or 0.0)
    state = instance.get("actual_status") or instance.get("cur_state") or "being set up"
    return (
        f"instance {instance.get('id')}: {job_of(instance)} on {instance.get('num_gpus')} × {instance.get('gpu_name')},"
        f" {state}, ${price:.3f} an hour, rented {hours:.1f} h ago: ${price * hours:.2f} at most, without traffic"
    )


def read_logs(number: int, lines: int, environment: Mapping[str, str]) -> str:
    """The last `lines` lines that the container of the instance wrote."""
    return call(environment, "logs", str(number), "--tail", str(lines)).rstrip("\n")


def destroy_instance(number: int, environment: Mapping[str, str]) -> None:
    """Destroys the instance and its disk; raises UserError when Vast.ai does not say that it did."""
    told = call(environment, "destroy", "instance", str(number), "--yes").strip()
    if not re.match(r"destroying instance", told):
        raise UserError(
            f"Vast.ai: destroy instance {number}: {told or 'no answer'}; it may go on and cost money: look into the"
            " console"
        )
