"""Measures whether `whisper-train plan` is right: the peak memory of real training steps beside what it says.

    python -m benchmarks.memory [NAME …] [--device cpu|cuda] [--steps 2]

Each configuration trains in processes of its own with the trainer that a job gets, on noise and random weights: memory
depends on neither. On a processor the peak is that of the resident memory (VmHWM), in which
the program itself counts; on a GPU torch.cuda.max_memory_allocated, which counts tensors alone. Wanted is that the plan
is within 10 % of what is measured. With no NAME all configurations run, one after the other.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.paths import read_json
from whisper_train.planning.bases import SIZES, dimensions_by_name
from whisper_train.planning.estimate import estimate
from whisper_train.planning.setup import Setup
from whisper_train.planning.trial import run_trial

WANTED = 0.10  # of what is measured
GB = 1e9
DEEPSPEED = Path(__file__).parent.parent / "jobs" / "deepspeed"
WINDOW_SECONDS, WINDOW_TOKENS = 29.5, 180  # joined clips: a full window, and what is said in it
CLIP_SECONDS, CLIP_TOKENS = 5.0, 40


def configuration(size: str, batch: int, *, steps: int = 1, ranks: int = 1, joined: bool = False, **how: Any) -> Setup:
    """A training of whisper-`size` on `ranks` with `batch` windows at a time and `steps` of these in a global batch."""
    zero, window_seconds = how.pop("zero", None), how.pop("window_seconds", None)
    precision = how.pop("precision", "fp32")
    model, optimizer = how.pop("model", {}), how.pop("optim", None)
    machine = {"deepspeed": zero, "precision": precision, "processes": ranks, **how}
    training = {"global_batch_size": ranks * batch * steps, **({"optim": optimizer} if optimizer else {})}
    sets: dict[str, Any] = {"train": [{"manifest": "train.jsonl"}], "eval": [{"manifest": "eval.jsonl"}]}
    sets["window_seconds"] = window_seconds
    values = {"name": "measured", "language": "de", "base": f"openai/whisper-{size}", "data": sets, "model": model}
    dimensions = dimensions_by_name(f"whisper-{size}")
    assert dimensions is not None, SIZES
    return Setup(
        dimensions=dimensions,
        job=Job.model_validate({**values, "training": training, "machine": machine}),
        layout=Layout(ranks=ranks, ranks_per_host=ranks, per_device=batch, accumulation=steps, threads=1),
        precision=precision,
        deepspeed=read_json(DEEPSPEED / f"{zero}.json") if zero else None,
        seconds=WINDOW_SECONDS if joined else CLIP_SECONDS,
        tokens=WINDOW_TOKENS if joined else CLIP_TOKENS,
        card=False,
    )


CONFIGURATIONS: dict[str, Setup] = {
    "tiny, 4 clips": configuration("tiny", 4),
    "base, 4 clips": configuration("base", 4),
    "base, 2 clips, 3 times": configuration("base", 2, steps=3),
    "base, 8 clips, checkpointing": configuration("base", 8, gradient_checkpointing=True),
    "base, 4 clips, bf16": configuration("base", 4, precision="bf16"),
    "base, 4 clips, LoRA": configuration("base", 4, model={"lora": {"rank": 32}}),
    "base, 4 joined windows": configuration("base", 4, joined=True),
    "base, 8 clips in short windows": configuration("base", 8, window_seconds=30),
    "small, 1 clip": configuration("small", 1),
    "small, 1 clip, ZeRO-2": configuration("small", 1, zero="zero2"),
    "small, 1 clip, ZeRO-2, bf16": configuration("small", 1, zero="zero2", precision="bf16"),
    "small, 1 clip, twice, ZeRO-2, bf16": configuration("small", 1, steps=2, zero="zero2", precision="bf16"),
    "base, 1 clip, ZeRO-2 on two ranks, bf16": configuration("base", 1, ranks=2, zero="zero2", precision="bf16"),
}


def planned(name: str, device: str) -> int:
    """What the plan says of a configuration, in a process of its own, as the command `plan` is one."""
    command = [sys.executable, "-m", "benchmarks.memory", "--plan", name, "--device", device]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def on_device(name: str, device: str) -> Setup:
    return replace(CONFIGURATIONS[name], card=device == "cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of real steps beside the plan's figure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {'; '.join(CONFIGURATIONS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in CONFIGURATIONS]:
        parser.error(f"{unknown[0]}: no such configuration; there are {'; '.join(CONFIGURATIONS)}")
    if given.plan:
        memory, _ = estimate(on_device(given.plan, given.device))
        print(memory.tensors if given.device == "cuda" else memory.total)
        return
    worst = 0.0
    print("| configuration | planned | measured | difference |\n|---|---|---|---|", flush=True)
    for name in given.names or CONFIGURATIONS:
        said = planned(name, given.device)
        found = run_trial(on_device(name, given.device), os.environ, seconds=600, steps=given.steps)
        off = said / found.bytes - 1
        worst = max(worst, abs(off))
        print(f"| {name} | {said / GB:.2f} GB | {found.bytes / GB:.2f} GB | {off:+.1%} |", flush=True)
    print(f"\nlargest difference {worst:.1%}; wanted: {WANTED:.0%} at most")
    sys.exit(worst > WANTED)


if __name__ == "__main__":
    main()
