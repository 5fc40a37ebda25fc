"""One rank of a run, top to bottom: load, build, train, evaluate, save."""

import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from whisper_train.audio import SAMPLE_RATE
from whisper_train.data.dataset import ClipDataset, ClipOrder, Collator
from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path
from whisper_train.evaluation.results import judge_goal, make_table, set_result, write_transcriptions
from whisper_train.evaluation.transcribe import Decoding, choose_clips, transcribe
from whisper_train.job import Job, Source
from whisper_train.model import (
    is_multilingual,
    load_model,
    load_processor,
    make_encoder,
    merge_lora,
    prepare_for_training,
    save_model,
)
from whisper_train.paths import read_json, write_json
from whisper_train.plan import RunPlan
from whisper_train.run_folder import DONE, GOAL_MISSED, STOPPED, TRAINED, now
from whisper_train.training.arguments import choose_precision, make_arguments, report_to
from whisper_train.training.callbacks import (
    EarlyStopCallback,
    OrderCallback,
    ProgressCallback,
    StopCallback,
    StopRequest,
    TensorBoardCallback,
    duration,
)
from whisper_train.training.checkpoints import find_newest, is_complete
from whisper_train.training.evaluate import measure
from whisper_train.training.trainer import WhisperTrainer


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
    job, folder = plan.job, plan.folder

    # 1. load
    processor = load_processor(plan.base, revision=job.base_revision)
    model = load_model(plan.base, revision=job.base_revision)
    multilingual = is_multilingual(model)
    model = prepare_for_training(model, processor.tokenizer, job)
    encode = make_encoder(processor.tokenizer, job.task, multilingual=multilingual)

    # 2. build
    max_seconds = min(job.data.max_seconds, processor.feature_extractor.n_samples / SAMPLE_RATE)
    clips = open_set(plan, "train", job.data.train, encode, max_seconds)
    name, sources = next(iter(job.data.eval.items()))
    eval_clips = open_set(plan, f"eval.{name}", sources, encode, max_seconds)
    weights = [source.weight for source in job.data.train]
    order = ClipOrder(clips.index, weights, plan.layout.global_batch, job.training.get("seed", 42))
    args = make_arguments(job, plan.layout, folder.path, plan.deepspeed)
    stop, progress = StopCallback(request), ProgressCallback(say)
    callbacks = [stop, OrderCallback(order), progress, TensorBoardCallback(folder.logs)]
    callbacks.append(EarlyStopCallback(args.metric_for_best_model, job.training.get("early_stopping_patience")))
    if "tensorboard" not in report_to(job):
        callbacks.pop(3)
    decoding = make_decoding(job, workers=args.dataloader_num_workers)
    trainer = WhisperTrainer(
        model=model,
        args=args,
        train_dataset=clips,
        eval_dataset=eval_clips,
        data_collator=Collator(model.config.pad_token_id),
        callbacks=callbacks,
        processor=processor,
        order=order,
        measure=lambda trainer: measure(trainer, job, decoding),
        keep_checkpoints=job.training.get("save_total_limit"),
        keep_best=bool(job.training.get("load_best_model_at_end")),
        checkpoint_facts={
            "ranks": plan.layout.ranks,
            "deepspeed": plan.deepspeed is not None,
            "global_batch": plan.layout.global_batch,
        },
        dropped_file=folder.data / "dropped-in-training.jsonl",
        max_dropped_fraction=job.data.max_dropped_fraction,
    )
    check_launch(trainer, plan)

    # 3. train
    say(
        f"train: {trainable(model)} on {args.device.type}, {choose_precision(job)}, global batch"
        f" {plan.layout.global_batch} = {plan.layout.ranks} rank(s) × {plan.layout.per_device} clips"
        f" × {plan.layout.accumulation} accumulation{', DeepSpeed ZeRO-2' if plan.deepspeed else ''}"
    )
    trainer.train(resume_from_checkpoint=str(plan.checkpoint) if plan.checkpoint else None)
    if trainer.is_deepspeed_enabled:
        trainer.deepspeed.destroy()  # its hooks would keep weights and optimizer alive beside those evaluated next
    step = trainer.state.global_step
    if stop.stopped and step < trainer.state.max_steps:
        say(f"stopped: saved checkpoint-{step}; the same command goes on from there")
        return STOPPED, {}
    best = trainer.state.best_global_step if trainer.keep_best else None
    return TRAINED, {"steps": step, "best_step": best, "best_metric": trainer.state.best_metric}


def open_set(
    plan: RunPlan, name: str, sources: Sequence[Source], encode: Callable[[str, str], list[int]], max_seconds: float
) -> ClipDataset:
    columns = [source.audio_column for source in sources]
    return ClipDataset(Index(index_path(plan.folder.data, name)), columns, encode, max_seconds)


def check_launch(trainer: Any, plan: RunPlan) -> None:
    """A launcher that falls back to one process, or drops DeepSpeed, does so in silence (accelerate launch --cpu)."""
    assert trainer.args.world_size == plan.layout.ranks, (
        f"launched {plan.layout.ranks} ranks, found {trainer.args.world_size}"
    )
    assert trainer.is_deepspeed_enabled == (plan.deepspeed is not None), "DeepSpeed was asked for and is not on"


def trainable(model: Any) -> str:
    total = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    share = "" if learning == total else f", {learning / 1e6:.2f} M of them trained"
    return f"{total / 1e6:.2f} M parameters{share}"


def make_decoding(job: Job, *, workers: int) -> Decoding:
    return Decoding(
        task=job.task,
        batch_size=job.training.get("per_device_eval_batch_size") or job.machine.per_device_eval_batch_size,
        beams=job.training.get("generation_num_beams"),
        max_length=job.training.get("generation_max_length"),
        workers=workers,
        precision=choose_precision(job),
    )


def evaluate_and_save(plan: RunPlan, say: Callable[[str], None], *, main: bool) -> str:
    """Transcribes every eval set with the best model and with the base, saves the model and its results."""
    job, folder = plan.job, plan.folder
    started = time.monotonic()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    processor = load_processor(plan.base, revision=job.base_revision)
    chosen = choose_checkpoint(plan, say)

    # 4. evaluate
    tuned_model = load_trained(plan, chosen)
    tuned = transcribe_sets(tuned_model, processor, plan)

    # 5. save
    if main:
        save_model(tuned_model, processor, folder.path)
        say(f"kept: {chosen.name} as the model in {folder.path}")
    del tuned_model
    gc.collect()
    baseline = None
    if job.base != "new":
        base = place(load_model(plan.base, revision=job.base_revision), job)
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


def load_trained(plan: RunPlan, checkpoint: Path) -> Any:
    """The model of a checkpoint, adapters merged, on this rank's device."""
    job = plan.job
    if not job.model.lora:
        return place(load_model(str(checkpoint)), job)
    from peft import PeftModel

    base = load_model(plan.base, revision=job.base_revision)
    model = merge_lora(PeftModel.from_pretrained(base, str(checkpoint)))
    processor = load_processor(plan.base, revision=job.base_revision)
    from whisper_train.model import set_language

    set_language(model, processor.tokenizer, job.language, job.task)
    return place(model, job)


def place(model: Any, job: Job) -> Any:
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval()


def transcribe_sets(model: Any, processor: Any, plan: RunPlan) -> dict[str, dict[int, str]]:
    """Hypotheses of every clip of every eval set."""
    job = plan.job
    decoding = make_decoding(job, workers=job.machine.dataloader_num_workers)
    texts = {}
    for name, sources in job.data.eval.items():
        index = Index(index_path(plan.folder.data, f"eval.{name}"))
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
        index = Index(index_path(folder.data, f"eval.{name}"))
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
