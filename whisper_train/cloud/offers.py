"""Machines for rent: the search that follows from what a job needs, the table, and what one of them costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whisper_train.cloud.client import call_json, rows_of
from whisper_train.cloud.need import Need
from whisper_train.errors import UserError

LEAST_CUDA = "13.0"  # what the image is built for
LEAST_COMPUTE_CAPABILITY = 800  # 8.0, Ampere: bf16, and the oldest cards the image has code for
LEAST_RELIABILITY = "0.98"
HOURS_PER_MONTH = 730.0

Offer = Mapping[str, Any]


def search_offers(need: Need, *, bid: bool, limit: int, environment: Mapping[str, str]) -> Sequence[Offer]:
    """Offers that can run the job, the cheapest first, `limit` at most; raises UserError when there is none.

    Fields: https://docs.vast.ai/cli/reference/search-offers. Verified machines only, which is the client's default.
    """
    query = (
        f"num_gpus={need.gpus} gpu_ram>={need.gpu_gb:g} cpu_ram>={need.ram_gb} disk_space>={need.disk_gb}"
        f" cuda_vers>={LEAST_CUDA} compute_cap>={LEAST_COMPUTE_CAPABILITY} reliability>={LEAST_RELIABILITY}"
        " direct_port_count>=1 verified=true rentable=true"
    )
    price = "min_bid" if bid else "dph"
    answer = call_json(
        environment, "search", "offers", query, *common(need, bid), "--order", price, "--limit", str(limit)
    )
    offers = rows_of(answer, "search offers")
    if not offers:
        raise UserError(
            f"Vast.ai: no offer for this now: {need}; try again later, a smaller DISK=, or another MACHINE="
        )
    return sorted(offers, key=lambda offer: hourly(offer, bid=bid))


def find_offer(number: int, need: Need, *, bid: float | None, environment: Mapping[str, str]) -> Offer:
    """The offer called `number`, priced with the disk of the job; raises UserError when it is gone or too small.

    A smaller GPU than the profile is written for is the user's choice; a disk cannot grow later.
    """
    answer = call_json(environment, "search", "offers", f"id={number}", "--no-default", *common(need, bid is not None))
    offers = [offer for offer in rows_of(answer, "search offers") if offer.get("id") == number]
    if not offers or offers[0].get("rentable") is False:
        raise UserError(f"OFFER: {number}: is not for rent any more; list others with make vast-offers")
    offer = offers[0]
    if float(offer.get("disk_space") or 0) < need.disk_gb:
        raise UserError(
            f"OFFER: {number}: has {float(offer.get('disk_space') or 0):.0f} GB of disk, {need.disk_gb} are asked for;"
            " take another offer, or a smaller DISK="
        )
    if bid is not None and bid < number_of(offer, "min_bid"):
        raise UserError(f"BID: {bid:g}: offer {number} takes {number_of(offer, 'min_bid'):.3f} $ an hour at least")
    return offer


def common(need: Need, bid: bool) -> list[str]:
    """The part of the search that sets the price: with the disk of the job, at once or by bid."""
    return ["--storage", str(need.disk_gb), "--type", "bid" if bid else "on-demand"]


def hourly(offer: Offer, *, bid: bool) -> float:
    """$ an hour: the price with its disk, or the lowest bid."""
    return float(offer.get("min_bid" if bid else "dph_total") or 0.0)


def make_table(offers: Sequence[Offer], *, bid: bool) -> str:
    """The offers as text. Memory in GiB, disk in GB, the network in Mb/s, money in $."""
    price = "$/h bid from" if bid else "$/h with disk"
    rows: list[tuple[str, ...]] = [
        ("offer", "GPUs", "GB each", "RAM", "disk", "down", "up", "place", "reliable", price, "disk $/GB a month")
    ]
    rows[0] += ("traffic $/GB down, up",)
    for offer in offers:
        rows.append(
            (
                str(offer.get("id")),
                f"{offer.get('num_gpus')} × {offer.get('gpu_name')}",
                f"{number_of(offer, 'gpu_ram') / 1024:.0f}",
                f"{number_of(offer, 'cpu_ram') / 1024:.0f}",
                f"{number_of(offer, 'disk_space'):.0f}",
                f"{number_of(offer, 'inet_down'):.0f}",
                f"{number_of(offer, 'inet_up'):.0f}",
                str(offer.get("geolocation") or "-"),
                f"{number_of(offer, 'reliability2', 'reliability'):.1%}",
                f"{hourly(offer, bid=bid):.3f}",
                f"{number_of(offer, 'storage_cost'):.2f}",
                f"{number_of(offer, 'inet_down_cost'):.3f}, {number_of(offer, 'inet_up_cost'):.3f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def number_of(offer: Offer, *names: str) -> float:
    """The first of the fields `names` that the offer has; 0 when the API left them all out."""
    return next((float(offer[name]) for name in names if offer.get(name) is not None), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What an instance costs, in $ an hour. The disk is paid for as long as the instance exists, stopped or not."""

    machine: float
    disk: float
    bid: bool

    @property
    def together(self) -> float:
        return self.machine + self.disk


def cost_of(offer: Offer, disk_gb: int, bid: float | None) -> Cost:
    """The cost of `offer` with `disk_gb` GB, at the price `bid` ($ an hour) or on demand."""
    disk = number_of(offer, "storage_cost") * disk_gb / HOURS_PER_MONTH
    machine = bid if bid is not None else max(number_of(offer, "dph_total") - disk, 0.0)
    return Cost(machine=machine, disk=disk, bid=bid is not None)
