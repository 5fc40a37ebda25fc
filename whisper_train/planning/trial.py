"""Real steps of a job's shapes on random weights and noise, in processes of their own: what they take, measured."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.machine import Layout
from whisper_train.paths import read_json, write_json
from whisper_train.planning.bases import Dimensions
from whisper_train.planning.setup import Setup
from whisper_train.rendezvous import join_ranks, torchrun_environment, torchrun_flags
from whisper_train.resident import peak_resident_bytes, return_freed_memory

MODULE = "whisper_train.planning.trial"
LOOK_SECONDS = 0.02  # between two looks at the resident memory of a trial
NEVER = 1_000_000  # steps
SHOWN = 2_000  # characters of what a failed trial said


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What the fullest rank of a trial took; `fits` is False where the device or the cap was too small."""

    fits: bool
    bytes: int = 0  # of tensors on a card, of resident memory on a processor
    windows_per_second: float = 0.0  # of all ranks, from the second step on


def run_trial(
    setup: Setup, environment: Mapping[str, str], *, seconds: float, steps: int, cap_bytes: float | None = None
) -> Trial:
    """Trains `steps` steps of `setup`, or for `seconds` if that is less; two at least. Raises RunFailed."""
    with tempfile.TemporaryDirectory() as folder:
        spec, outcome = Path(folder) / "spec.json", Path(folder) / "outcome"
        facts = {
            "dimensions": asdict(setup.dimensions),
            "job": setup.job.model_dump(mode="json"),
            "layout": asdict(setup.layout),
            "deepspeed": setup.deepspeed,
            "precision": setup.precision,
            "lengths": [setup.seconds, setup.tokens],
            "limits": [seconds, steps, cap_bytes],
            "card": setup.card,
        }
        write_json(spec, facts)
        said = run_ranks(setup, environment, spec, outcome, None if setup.card else cap_bytes)
        found = [read_json(path) for path in sorted(Path(folder).glob("outcome-*"))]
    if said is None or any(not one["fits"] for one in found):
        return Trial(fits=False)
    if len(found) != setup.layout.ranks_per_host:
        raise RunFailed(f"plan: the trial ended before its steps were done:\n{said[-SHOWN:]}")
    return Trial(fits=True, bytes=max(one["bytes"] for one in found), windows_per_second=found[0]["windows_per_second"])


def run_ranks(
    setup: Setup, environment: Mapping[str, str], spec: Path, outcome: Path, cap_bytes: float | None
) -> str | None:
    """What the ranks of a trial said; None when one of them grew above `cap_bytes` and all were ended."""
    ranks = setup.layout.ranks_per_host
    start = [sys.executable, "-m"]
    if ranks > 1 or setup.deepspeed is not None:
        meeting = str(spec.parent)
        start += ["torch.distributed.run", f"--nproc-per-node={ranks}", *torchrun_flags(meeting), "-m"]
        environment = {**environment, **torchrun_environment(meeting)}
    environment = {**environment, "OMP_NUM_THREADS": str(setup.layout.threads)}
    if not setup.card:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    with (spec.parent / "said").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*start, MODULE, str(spec), str(outcome)], stdout=said, stderr=subprocess.STDOUT, env=environment
        )
        try:
            within = watch(process, cap_bytes)
        finally:
            end(process)
        said.seek(0)
        return said.read() if within else None


def watch(process: "subprocess.Popen[bytes]", cap_bytes: float | None) -> bool:
    """Waits for `process`; False as soon as one of its processes is larger than `cap_bytes`."""
    import psutil

    if cap_bytes is None:
        process.wait()
        return True
    top = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            sizes = [each.memory_info().rss for each in [top, *top.children(recursive=True)]]
        except psutil.NoSuchProcess:
            continue
        if max(sizes) > cap_bytes:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends `process` and its children, and waits until they are gone."""
    import psutil

    if process.poll() is None:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for each in family:
            each.kill()
        process.wait()


def main(spec: Path, outcome: Path) -> None:
    """One rank of a trial; leaves its figures in `outcome`-<rank>."""
    import torch

    facts = read_json(spec)
    layout, card = Layout(**facts["layout"]), facts["card"]
    torch.set_num_threads(layout.threads)
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if card:
        torch.cuda.set_device(rank)
    else:
        return_freed_memory()
    if "RANK" in os.environ:
        join_ranks("nccl" if card else "gloo")
    if card and (cap := facts["limits"][2]):
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap / torch.cuda.get_device_properties(rank).total_memory))
    try:
        found = train(facts, layout)
    except torch.OutOfMemoryError:
        found = {"fits": False}
    write_json(outcome.with_name(f"{outcome.name}-{rank}"), found)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def train(facts: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Trains the steps that `facts` ask for; what they took."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from whisper_train.model import shape_for_training
    from whisper_train.planning.clock import StepClock
    from whisper_train.planning.estimate import make_config, make_extractor
    from whisper_train.planning.stand_in import Noise, stand_in_trainer, steps_alone
    from whisper_train.training.arguments import compute_dtype, make_arguments, use_compiled_adam
    from whisper_train.training.quantized import quantize
    from whisper_train.training.rank import start_deepspeed
    from whisper_train.training.trainer import WhisperTrainer

    job, dimensions = Job.model_validate(facts["job"]), Dimensions(**facts["dimensions"])
    (audio_seconds, tokens), (seconds, steps, _) = facts["lengths"], facts["limits"]
    if facts["deepspeed"] is not None:
        start_deepspeed()
    job = steps_alone(job, facts["precision"], max_steps=steps, logging_steps=NEVER)
    model = shape_for_training(WhisperForConditionalGeneration(make_config(dimensions)), job.model)
    quantize(model, job, on=True)
    clock = StepClock(seconds)
    with tempfile.TemporaryDirectory() as folder:
        deepspeed = use_compiled_adam(facts["deepspeed"]) if facts["deepspeed"] is not None else None
        args = make_arguments(job, layout, Path(folder), deepspeed)
        teacher = None
        if job.quantization and job.quantization.distillation:
            teacher = WhisperForConditionalGeneration(make_config(dimensions)).to(args.device, compute_dtype(args))
        trainer = stand_in_trainer(
            WhisperTrainer,
            job,
            model,
            args,
            make_extractor(dimensions),
            Path(folder),
            windows=Noise(steps * layout.global_batch, audio_seconds, tokens),
            dtype=compute_dtype(args),
            callbacks=[clock],
            teacher=teacher,
        )
        trainer.train()
    taken = torch.cuda.max_memory_allocated() if facts["card"] else peak_resident_bytes()
    times = clock.times
    rate = layout.global_batch * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    return {"fits": True, "bytes": taken, "windows_per_second": rate}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
