"""One rank of a run, top to bottom: build, train; and the model that is kept of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.machine import choose_precision
from whisper_train.model import load_model, load_processor, merge_lora, save_model, set_language
from whisper_train.plan import RunPlan
from whisper_train.quantization.attach import attach
from whisper_train.quantization.saved import describe, round_weights
from whisper_train.resident import free_memory, return_freed_memory
from whisper_train.run_folder import STOPPED, TRAINED, RunFolder
from whisper_train.tasks import parts_of
from whisper_train.training.checkpoints import find_damage, find_good
from whisper_train.training.last_step import train_steps
from whisper_train.training.signals import StopRequest


def run_rank(plan: RunPlan, request: StopRequest, say: Callable[[str], None]) -> str:
    """Trains the plan on this rank and returns the run's status: trained or stopped."""
    folder = plan.folder
    torch.set_num_threads(plan.layout.threads)
    if not torch.cuda.is_available():
        return_freed_memory()
    started = time.monotonic()
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        status, facts = train(plan, request, say)
    finally:
        if first:
            folder.add_time("training", time.monotonic() - started)
    if first and status == TRAINED:
        folder.update(status=TRAINED, kept=None, **facts)
    free_memory()  # for the evaluation, where it follows in this process
    return status


def train(plan: RunPlan, request: StopRequest, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Trains from the plan's checkpoint or its base; returns the status and what run.json should say of it."""
    parts = parts_of(plan.job)
    trainer, stop, watch = parts.build_trainer(plan, request, say)
    how = f"{trainer.args.device.type}, {choose_precision(plan.job)}{', DeepSpeed ZeRO-2' if plan.deepspeed else ''}"
    if plan.deepspeed and plan.deepspeed.get("zero_force_ds_cpu_optimizer"):
        how += " with its compiled Adam in RAM"
    if decay := plan.job.model.layer_decay:
        how += f", each layer at {decay:g} of the rate of the one above"
    say(f"train: {trainable(trainer.model)} on {how}, {plan.layout}")
    for line in parts.describe_training(trainer, plan.job):
        say(line)
    train_steps(trainer, watch, plan.checkpoint, say)
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()  # its hooks would keep weights and optimizer alive beside those evaluated next
    step = trainer.state.global_step
    if trainer.owes_evaluation or (stop.stopped and step < trainer.state.max_steps):
        took = f" {time.monotonic() - request.since:.1f} s after it was asked to" if request.since else ""
        say(f"stopped: saved checkpoint-{step}{took}; the same command goes on from there")
        return STOPPED, {}
    best = trainer.state.best_global_step if trainer.keep_best else None
    return TRAINED, {"steps": step, "best_step": best, "best_metric": trainer.state.best_metric}


def trainable(model: Any) -> str:
    total = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    share = "" if learning == total else f", {learning / 1e6:.2f} M of them trained"
    return f"{total / 1e6:.2f} M parameters{share}"


def save_best(job: Job, folder: RunFolder, base: str, say: Callable[[str], None]) -> None:
    """Puts the best checkpoint's model into the run folder, adapters merged: the tuned model, not yet averaged."""
    processor = load_processor(base, revision=job.base_revision)
    chosen = choose_checkpoint(folder, say)
    model = load_trained(job, base, chosen, processor)
    facts = None
    if job.quantization:  # what the forward pass saw, to the bit: the checkpoint's weights, on their grids
        attached = attach(model, job.quantization)
        round_weights(model)
        facts = describe(model, job.quantization, attached, rounded=True)
    save_model(model, processor, folder.path, facts)
    folder.update(kept=chosen.name, averaging=None)
    rounded = f", rounded to {job.quantization.scheme}" if job.quantization else ""
    say(f"kept: {chosen.name} as the model in {display(folder.path)}{rounded}")


def choose_checkpoint(folder: RunFolder, say: Callable[[str], None]) -> Path:
    """The best checkpoint where evaluations named one, else the newest; never a damaged one."""
    best = folder.read().get("best_step")
    if best is not None:
        if (damage := find_damage(path := folder.checkpoints / f"checkpoint-{best}")) is None:
            return path
        say(f"the best checkpoint, {path.name}, is DAMAGED: {damage}; taking the newest instead")
    newest = find_good(folder.checkpoints, say)
    if newest is None:
        folder.update(status=STOPPED)  # the next start trains again
        raise RunFailed("no checkpoint of this run is undamaged any more; the same command trains it again")
    return newest


def load_trained(job: Job, base: str, checkpoint: Path, processor: Any) -> Any:
    """The model of a checkpoint, adapters merged."""
    if not job.model.lora:
        return load_model(str(checkpoint))
    from peft import PeftModel

    model = merge_lora(PeftModel.from_pretrained(load_model(base, revision=job.base_revision), str(checkpoint)))
    set_language(model, processor.tokenizer, job.language, job.task)
    return model
