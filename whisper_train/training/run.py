"""One rank of a run, top to bottom: build, train, evaluate, save."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path
from whisper_train.evaluation.results import judge_goal, make_table, set_result, write_transcriptions
from whisper_train.evaluation.transcribe import choose_clips, transcribe
from whisper_train.model import load_model, load_processor, merge_lora, save_model, set_language
from whisper_train.paths import read_json, write_json
from whisper_train.plan import RunPlan
from whisper_train.run_folder import DONE, GOAL_MISSED, STOPPED, TRAINED, now
from whisper_train.training.arguments import choose_precision
from whisper_train.training.build import build_trainer, make_decoding
from whisper_train.training.callbacks import StopRequest, duration
from whisper_train.training.checkpoints import find_newest, is_complete


def run_rank(plan: RunPlan, request: StopRequest, say: Callable[[str], None]) -> str:
    """Runs the plan on this rank and returns the run's status: done, goal missed or stopped."""
    folder = plan.folder
    torch.set_num_threads(plan.layout.threads)
    main = int(os.environ.get("RANK", "0")) == 0
    started = time.monotonic()
    if folder.read().get("status") != TRAINED:
        status, facts = train(plan, request, say)
        if status == STOPPED:
            if main:
                folder.add_time("training", time.monotonic() - started)
            return status
        if main:
            folder.update(status=TRAINED, **facts)
            folder.add_time("training", time.monotonic() - started)
        wait_for_all()
    with request.leaving_at_once():
        return evaluate_and_save(plan, say, main=main)


def train(plan: RunPlan, request: StopRequest, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Trains from the plan's checkpoint or its base; returns the status and what run.json should say of it."""
    trainer, stop = build_trainer(plan, request, say)
    how = f"{trainer.args.device.type}, {choose_precision(plan.job)}{', DeepSpeed ZeRO-2' if plan.deepspeed else ''}"
    if plan.deepspeed and plan.deepspeed.get("zero_force_ds_cpu_optimizer"):
        how += " with its compiled Adam in RAM"
    say(f"train: {trainable(trainer.model)} on {how}, {plan.layout}")
    trainer.train(resume_from_checkpoint=str(plan.checkpoint) if plan.checkpoint else None)
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()  # its hooks would keep weights and optimizer alive beside those evaluated next
    step = trainer.state.global_step
    if stop.stopped and step < trainer.state.max_steps:
        say(f"stopped: saved checkpoint-{step}; the same command goes on from there")
        return STOPPED, {}
    best = trainer.state.best_global_step if trainer.keep_best else None
    return TRAINED, {"steps": step, "best_step": best, "best_metric": trainer.state.best_metric}


def trainable(model: Any) -> str:
    total = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    share = "" if learning == total else f", {learning / 1e6:.2f} M of them trained"
    return f"{total / 1e6:.2f} M parameters{share}"


def evaluate_and_save(plan: RunPlan, say: Callable[[str], None], *, main: bool) -> str:
    """Transcribes every eval set with the best model and with the base, saves the model and its results."""
    job, folder = plan.job, plan.folder
    started = time.monotonic()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    processor = load_processor(plan.base, revision=job.base_revision)
    chosen = choose_checkpoint(plan, say)

    # 1. evaluate
    tuned_model = load_trained(plan, chosen, processor)
    tuned = transcribe_sets(tuned_model, processor, plan)

    # 2. save
    if main:
        save_model(tuned_model, processor, folder.path)
        say(f"kept: {chosen.name} as the model in {folder.path}")
    del tuned_model
    gc.collect()
    baseline = None
    if job.base != "new":
        base = place(load_model(plan.base, revision=job.base_revision))
        baseline = transcribe_sets(base, processor, plan)
    if main:
        results = write_results(plan, tuned, baseline)
        say(make_table(results))
        status = DONE
        if goal := results["goal"]:
            status = DONE if goal["met"] else GOAL_MISSED
            verdict = "met" if goal["met"] else "missed"
            say(f"goal: WER {goal['goal']:.2%} on {goal['set']}: {verdict}, measured {goal['measured']:.2%}")
        folder.add_time("evaluation", time.monotonic() - started)
        folder.update(status=status, finished=now(), kept=chosen.name)
        spent = duration(sum(folder.read()["timings"].values()))
        say(f"done in {spent}; results in {folder.evaluation / 'results.json'}")
    wait_for_all()
    return str(folder.read()["status"])


def choose_checkpoint(plan: RunPlan, say: Callable[[str], None]) -> Path:
    """The best checkpoint where evaluations named one, else the newest."""
    best = plan.folder.read().get("best_step")
    if best is not None:
        if is_complete(path := plan.folder.checkpoints / f"checkpoint-{best}"):
            return path
        say(f"the best checkpoint, checkpoint-{best}, is not there any more; taking the newest")
    newest = find_newest(plan.folder.checkpoints, say)
    assert newest is not None, "training ended without a checkpoint"
    return newest


def load_trained(plan: RunPlan, checkpoint: Path, processor: Any) -> Any:
    """The model of a checkpoint, adapters merged, on this rank's device."""
    job = plan.job
    if not job.model.lora:
        return place(load_model(str(checkpoint)))
    from peft import PeftModel

    base = load_model(plan.base, revision=job.base_revision)
    model = merge_lora(PeftModel.from_pretrained(base, str(checkpoint)))
    set_language(model, processor.tokenizer, job.language, job.task)
    return place(model)


def place(model: Any) -> Any:
    """The model on this rank's device, ready to transcribe."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval()


def transcribe_sets(model: Any, processor: Any, plan: RunPlan) -> dict[str, dict[int, str]]:
    """Hypotheses of every clip of every eval set."""
    job = plan.job
    decoding = make_decoding(job, workers=job.machine.dataloader_num_workers)
    texts = {}
    for name, sources in job.data.eval.items():
        index = Index(index_path(plan.folder.data, f"eval.{name}"), plan.cache)
        columns = [source.audio_column for source in sources]
        texts[name] = transcribe(model, processor, index, columns, choose_clips(index, None), decoding)
    return texts


def write_results(
    plan: RunPlan, tuned: dict[str, dict[int, str]], baseline: dict[str, dict[int, str]] | None
) -> dict[str, Any]:
    """Writes evaluation/results.json and the transcriptions behind it; returns the results."""
    job, folder = plan.job, plan.folder
    folder.evaluation.mkdir(exist_ok=True)
    audit = read_json(folder.data / "audit.json")
    results: dict[str, Any] = {"job": job.name, "base": job.base, "sets": {}}
    for name in job.data.eval:
        index = Index(index_path(folder.data, f"eval.{name}"), plan.cache)
        before = baseline[name] if baseline is not None else None
        results["sets"][name] = set_result(
            index,
            tuned[name],
            before,
            normalizer=job.evaluation.normalizer,
            sources=audit["sources"][f"eval.{name}"],
            revisions=audit["revisions"][f"eval.{name}"],
            digest=audit["sets"][f"eval.{name}"]["digest"],
        )
        write_transcriptions(folder.evaluation / f"{name}.jsonl", index, tuned[name], before)
    results["goal"] = judge_goal(job.goal.wer if job.goal else None, results)
    write_json(folder.evaluation / "results.json", results)
    return results


def wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
