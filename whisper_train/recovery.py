"""A run that goes on with half the device batch, and twice the accumulation, where a step ran out of memory."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.launch import Hosts, launch
from whisper_train.machine import Layout, list_gpus, with_device_batch
from whisper_train.out_of_memory import OutOfMemory
from whisper_train.plan import RunPlan
from whisper_train.prepare import make_resumable
from whisper_train.resident import free_memory
from whisper_train.rollback import rolled_back
from whisper_train.run_folder import RunFolder
from whisper_train.sudden_ends import BadLoss
from whisper_train.training.checkpoints import find_good, step_of


def launch_until_it_fits(plan: RunPlan, hosts: Hosts, say: Callable[[str], None]) -> str:
    """launch(), again with half the device batch for as long as a step runs out of memory.

    And again from an earlier checkpoint where the loss is bad and the job says rollback. Raises RunFailed when one clip
    at a time does not fit. With several hosts too: each has a launcher of its own.
    """
    while True:
        try:
            return launch(plan, hosts, say)
        except BadLoss as error:
            bad = BadLoss(str(error), error.step)
        except OutOfMemory as error:
            if error.step is None:
                raise
            bad, ran_out, step = None, str(error), error.step
        free_memory()  # the error is gone, and with it the frames that held model and optimizer
        if bad is not None:
            plan = rolled_back(plan, bad, hosts, say)
            continue
        say(ran_out)
        plan = halved(plan, step, say)
        if hosts.count > 1:
            raise RunFailed(f"{ran_out}; start the job again on every host: it goes on with {per_rank(plan.layout)}")


def halved(plan: RunPlan, step: int, say: Callable[[str], None]) -> RunPlan:
    """The plan that goes on where `step` ran out of memory, which run.json remembers for later sessions."""
    layout = plan.layout
    if layout.per_device == 1:
        raise RunFailed(f"step {step:,} does not fit into memory with one clip at a time; {what_helps(plan)}")
    smaller = with_device_batch(layout, layout.per_device // 2)
    plan.folder.update(device_batch={"clips": smaller.per_device, "holds_for": setting(plan.job, layout.ranks)})
    newest = find_good(plan.folder.checkpoints, say)
    begun = step_of(newest) if newest else 0
    steps = f"steps {begun + 1:,} to {step - 1:,}" if step - 2 > begun else f"step {step - 1:,}"
    lost = f", trains {steps} again" if step - 1 > begun else ""
    say(
        f"the run goes on from {newest.name if newest else 'its beginning'}{lost} and takes {per_rank(smaller)}"
        f" instead of {per_rank(layout)}; the global batch stays {layout.global_batch}, and the result the same"
    )
    deepspeed = make_resumable(newest, smaller, plan.deepspeed, say) if newest else plan.deepspeed
    return replace(plan, layout=smaller, checkpoint=newest, deepspeed=deepspeed)


def known_to_fit(layout: Layout, job: Job, folder: RunFolder, say: Callable[[str], None]) -> Layout:
    """`layout`, with the smaller device batch that an earlier session of this run came to on the same machine."""
    known = folder.read().get("device_batch")
    if not known or known["holds_for"] != setting(job, layout.ranks):
        return layout
    smaller = with_device_batch(layout, known["clips"])
    say(f"{per_rank(smaller)} instead of {per_rank(layout)}, which ran out of memory before")
    return smaller


def setting(job: Job, ranks: int) -> dict[str, Any]:
    """What decides whether a device batch fits: where it is another one, a run tries its own size again."""
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps")
    return {
        "machine": job.machine.model_dump(mode="json"),
        "training": {key: job.training.get(key) for key in keys},
        "ranks": ranks,
        "gpus_mib": list_gpus(os.environ),
    }


def per_rank(layout: Layout) -> str:
    clips = "1 clip" if layout.per_device == 1 else f"{layout.per_device} clips"
    return f"{clips} × {layout.accumulation} accumulation"


def what_helps(plan: RunPlan) -> str:
    """The ways out when not even one clip fits: those that keep the run first."""
    machine, offloads = plan.job.machine, "offload_optimizer" in (plan.deepspeed or {}).get("zero_optimization", {})
    keeping = [] if machine.gradient_checkpointing else ["machine.gradient_checkpointing=true"]
    keeping += ["machine.deepspeed=zero2-offload"] if plan.deepspeed and not offloads else []
    kept = f"this run can go on with --set {' or --set '.join(keeping)}; " if keeping else ""
    return (
        f"{kept}another run (--set name={plan.job.name}-2) can have model.lora, model.freeze, a smaller"
        " data.window_seconds or a smaller base; whisper-train plan tells what fits"
    )
