"""The process of one way: prepares, then trains a slice of updates whenever it is told to, and answers what it took.

    python -m benchmarks.training.child SPEC FOLDER

Commands come in as lines of JSON, answers go out so. Between two of them it waits, with all that it holds.
Nothing heavy is imported at the top: the processes of the audit are spawned, and each imports this file first.
"""

import sys
import time
from pathlib import Path

import psutil

from benchmarks.training.channel import Channel
from benchmarks.training.running import Running, Spec, read_spec


def build(spec: Spec, folder: Path) -> Running:
    if spec.way == "stock":
        from benchmarks.training import stock

        return stock.build(spec, folder)
    from benchmarks.training import ours

    return ours.build(spec, folder)


def limit_memory(spec: Spec) -> None:
    """Makes the GPU as small as the cap says."""
    if spec.cap_gib and spec.device == "cuda":
        import torch

        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, spec.cap_gib * 2**30 / whole))


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(spec_file: Path, folder: Path) -> None:
    started = psutil.Process().create_time() - time.time() + time.monotonic()
    channel = Channel()
    spec = read_spec(spec_file)
    limit_memory(spec)
    running = build(spec, folder)
    from benchmarks.training.held_out import held_out_wer
    from benchmarks.training.slices import Slices

    slices = Slices(channel, spec, running, started)
    running.trainer.add_callback(slices)
    running.trainer.train()
    wer = None
    if slices.wer_clips:
        model = running.trainer.model
        with running.whole_window():
            wer = held_out_wer(model, slices.processor, spec.held_out_index, slices.wer_clips, spec.precision)
    channel.tell(disk_bytes=disk_bytes(folder), wer=wer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
