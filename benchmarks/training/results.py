"""From what the processes told to figures: rates by round, ratios with their spread, losses at equal audio and time."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.training.options import Options
from benchmarks.training.rounds import Process
from benchmarks.training.running import Spec
from benchmarks.training.ways import WAYS

RATES = ("audio_hours_per_hour", "clips_per_second")


def describe_machine(device: str) -> dict[str, Any]:
    """Where it was measured, and with what."""
    import torch
    import transformers

    lines = open("/proc/cpuinfo", encoding="utf-8").read().splitlines()  # noqa: SIM115  # closed with the expression
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name(0) if device == "cuda" else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def summarize(
    options: Options,
    material: Mapping[str, Any],
    specs: Mapping[str, Spec],
    processes: Mapping[str, Process],
    ceilings: Sequence[Mapping[str, float]],
    start_loss: float,
) -> dict[str, Any]:
    """Everything but the machine, as results.json holds it."""
    ceiling = {name: statistics.median(each[name] for each in ceilings) for name in ceilings[0]}
    ways = {}
    for name, process in processes.items():
        steady = steady_slices(process)[: options.rounds]
        ways[name] = {
            "label": WAYS[name].label,
            "windows_an_update": specs[name].global_batch,
            "first_update_after_seconds": process.slices[0]["since_start_seconds"],
            "phases_ended_at_seconds": process.slices[0]["phases_ended_at"],
            "data_prepared_in_seconds": data_seconds(process.slices[0]["phases_ended_at"]),
            **{rate: spread([each[rate] for each in steady]) for rate in RATES},
            "flops_utilization": spread(
                [each["flops_per_second"] / ceiling["matmul_tflops"] / 1e12 for each in steady]
            ),
            "data_wait_share": spread([each["data_wait_share"] for each in steady]),
            **{key: max(each[key] for each in process.slices) for key in process.slices[0] if key.endswith("bytes")},
            **process.end,
            "points": points_of(process, start_loss),
            "rounds": steady,
        }
    return {
        "settings": {key: str(value) if key in PATHS else value for key, value in asdict(options).items()},
        "precision": specs["stock"].precision,
        "material": dict(material),
        "ceilings": {**ceiling, "rounds": list(ceilings)},
        "ways": ways,
        "against_stock": {name: compare(ways["stock"], way) for name, way in ways.items() if name != "stock"},
    }


PATHS = ("data", "processor", "output")


def steady_slices(process: Process) -> list[dict[str, float]]:
    """What each slice after the first update reached."""
    found = []
    for before, each in zip(process.slices, process.slices[1:], strict=False):
        seconds = each["train_seconds"]
        found.append(
            {
                "updates": each["updates"] - before["updates"],
                "train_seconds": seconds,
                "audio_hours_per_hour": (each["audio_seconds"] - before["audio_seconds"]) / seconds,
                "clips_per_second": (each["clips"] - before["clips"]) / seconds,
                "flops_per_second": each["flops"] / seconds,
                "data_wait_share": each["data_wait_seconds"] / seconds,
            }
        )
    return found


def data_seconds(phases: Mapping[str, float]) -> float:
    """What computing the features or the audit took."""
    return phases.get("features", phases.get("audit", 0.0)) - phases["imports"]


def rate(process: Process) -> dict[str, Any]:
    """The last slice of a process by itself."""
    return steady_slices(process)[-1]


def points_of(process: Process, start_loss: float) -> list[dict[str, float]]:
    """Held-out loss by training wall time and by audio seen."""
    points = [{"updates": 0, "train_seconds": 0.0, "audio_hours": 0.0, "clips": 0, "held_out_loss": start_loss}]
    spent = 0.0
    for each in process.slices:
        spent += each["train_seconds"]
        points.append(
            {
                "updates": each["updates"],
                "train_seconds": spent,
                "audio_hours": each["audio_seconds"] / 3600,
                "clips": each["clips"],
                "held_out_loss": each["held_out_loss"],
            }
        )
    return points


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def compare(stock: Mapping[str, Any], way: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios by round, of slices that stand beside each other; losses where as much was heard, and as long trained."""
    ratios = {
        rate: spread([mine[rate] / theirs[rate] for mine, theirs in zip(way["rounds"], stock["rounds"], strict=True)])
        for rate in RATES
    }
    last = stock["points"][-1]
    heard = min(way["points"], key=lambda point: abs(point["audio_hours"] - last["audio_hours"]))
    timed = [point for point in way["points"] if point["train_seconds"] <= last["train_seconds"]][-1]
    return {
        **ratios,
        "first_update_sooner": stock["first_update_after_seconds"] / way["first_update_after_seconds"],
        "peak_memory": way["peak_bytes"] / stock["peak_bytes"],
        "peak_gpu_memory": way["peak_gpu_bytes"] / stock["peak_gpu_bytes"] if stock["peak_gpu_bytes"] else None,
        "disk": way["disk_bytes"] / stock["disk_bytes"],
        "equal_audio": {"stock": last, "ours": heard},  # the measured point that is nearest
        "equal_wall_time": {"stock": last, "ours": timed},  # the last measured point that is not later
    }
