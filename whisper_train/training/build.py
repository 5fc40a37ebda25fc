"""Puts a trainer together: model, data, order, arguments, callbacks."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from transformers import TrainerCallback, set_seed

from whisper_train.audio import SAMPLE_RATE
from whisper_train.augment.augmenter import augmenter_for
from whisper_train.augment.settings import longest_stretch, training_settings
from whisper_train.data.dataset import ClipDataset, Collator
from whisper_train.data.index import Index
from whisper_train.data.order import ClipOrder
from whisper_train.data.prepare import index_path
from whisper_train.data.weights import epoch_weights
from whisper_train.evaluation.passages import AUGMENT_SEED
from whisper_train.evaluation.transcribe import make_decoding
from whisper_train.job_data import Source
from whisper_train.labels import Labels
from whisper_train.mirror import Mirror
from whisper_train.model import is_multilingual, load_model, load_processor, prepare_for_training
from whisper_train.paths import find_directories, read_json
from whisper_train.plan import RunPlan
from whisper_train.planning.disk import checkpoint_bytes
from whisper_train.quantization.attach import check_attached
from whisper_train.run_folder import rate_factor
from whisper_train.training.arguments import compute_dtype, make_arguments, report_to
from whisper_train.training.callbacks import (
    EarlyStopCallback,
    MirrorCallback,
    NoticeCallback,
    OrderCallback,
    OwedEvaluationCallback,
    ProgressCallback,
    SmallerStepsCallback,
    StopCallback,
    TensorBoardCallback,
    ThroughputCallback,
)
from whisper_train.training.checkpoints import MANIFEST
from whisper_train.training.disk_room import DiskRoom
from whisper_train.training.evaluate import measure
from whisper_train.training.flops import StepFlops, count_passes
from whisper_train.training.job_trainer import JobTrainer
from whisper_train.training.last_step import StepWatch
from whisper_train.training.loss import is_deferred, make_loss
from whisper_train.training.meter import Meter, Work
from whisper_train.training.quantized import QuantizationCallback, Quantizing, make_teacher, quantize
from whisper_train.training.signals import StopRequest
from whisper_train.training.trainer import WhisperTrainer
from whisper_train.training.window import EncoderWindow, is_fitted, make_window


def build_trainer(
    plan: RunPlan, request: StopRequest, say: Callable[[str], None]
) -> tuple[WhisperTrainer, StopCallback, StepWatch]:
    """The trainer of a run on this rank, and the callbacks that know whether it was asked to stop, and in a step."""
    job = plan.job
    seed = job.training.get("seed", 42)
    set_seed(seed)  # before the model: new LoRA adapters are random

    # 1. model
    processor, model, labels = open_model(plan)
    quantizing = quantize(model, job)

    # 2. data
    clip_seconds = processor.feature_extractor.n_samples / SAMPLE_RATE
    name, sources = next(iter(job.data.eval.items()))
    eval_clips = open_eval_set(plan, name, sources, labels, clip_seconds)
    window_seconds = job.data.window_seconds or clip_seconds
    clips = open_train_set(plan, labels, window_seconds, seed)
    order = ClipOrder(
        clips.index,
        epoch_weights(job.data, clips.index),
        plan.layout.global_batch,
        seed,
        windows=job.data.windows,
        window_seconds=window_seconds,
        max_tokens=labels.max_tokens,
        stretch=longest_stretch(job.data) if is_fitted(job) else None,
    )

    # 3. trainer
    args = make_arguments(job, plan.layout, plan.folder.path, plan.deepspeed)
    window = make_window(job, model, window_seconds, processor.feature_extractor.hop_length)
    dtype = compute_dtype(args)
    teacher = make_teacher(job, plan.base, dtype, args.device)
    loss = make_loss(model, args.label_smoothing_factor, dtype, teacher)
    meter = make_meter(plan, model, window)
    stop, watch = StopCallback(request), StepWatch()
    decoding = make_decoding(job, workers=args.dataloader_num_workers)
    trainer = WhisperTrainer(
        model=model,
        args=args,
        train_dataset=clips,
        eval_dataset=eval_clips,
        data_collator=Collator(model.config.pad_token_id),
        callbacks=[stop, watch, *other_callbacks(plan, order, args, meter, say, quantizing)],
        processor=processor,
        order=order,
        measure=lambda trainer: measure(trainer, job, decoding),
        dropped_file=plan.folder.data / "dropped-in-training.jsonl",
        max_dropped_fraction=job.data.max_dropped_fraction,
        layer_decay=job.model.layer_decay,
        loss=loss,
        meter=meter,
        choices=model.config.vocab_size,
        window=window,
        teacher=teacher,
        quantization=quantizing.facts if quantizing else None,
        stop=stop,
        **options_of(plan, model, request, say),
    )
    add_last_callbacks(trainer, plan, say)
    check_launch(trainer, plan)
    return trainer, stop, watch


def open_model(plan: RunPlan) -> tuple[Any, Any, Labels]:
    """The processor and the model of the plan's base, ready to be trained, and what makes their labels."""
    job = plan.job
    processor = load_processor(plan.base, revision=job.base_revision)
    model = load_model(plan.base, revision=job.base_revision)
    labels = Labels(
        processor.tokenizer,
        job.task,
        multilingual=is_multilingual(model),
        hop_length=processor.feature_extractor.hop_length,
        max_tokens=model.config.max_target_positions,
    )
    return processor, prepare_for_training(model, processor.tokenizer, job), labels


def count_parameters(model: Any) -> tuple[int, int]:
    """All of them, and those that are trained."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def options_of(plan: RunPlan, model: Any, request: StopRequest, say: Callable[[str], None]) -> dict[str, Any]:
    """What a trainer of any task is told of its job: which checkpoints to keep, their room, how long to wait."""
    return {
        "keep_checkpoints": plan.job.training.get("save_total_limit"),
        "keep_best": bool(plan.job.training.get("load_best_model_at_end")),
        "checkpoint_facts": checkpoint_facts(plan),
        "room": make_room(plan, model, request, say),
        "batch_timeout": plan.job.faults.batch_timeout,
    }


def make_room(plan: RunPlan, model: Any, request: StopRequest, say: Callable[[str], None]) -> DiskRoom:
    """What looks for room on the disk before each checkpoint."""
    alone = plan.job.machine.model_copy(update={"deepspeed": plan.job.machine.deepspeed if plan.deepspeed else None})
    return DiskRoom(
        folder=plan.folder.checkpoints,
        first=checkpoint_bytes(plan.job.model_copy(update={"machine": alone}), *count_parameters(model)),
        stops=plan.job.faults.full_disk == "stop",
        request=request,
        say=say,
    )


def checkpoint_facts(plan: RunPlan) -> dict[str, Any]:
    """What a later session must know of a checkpoint before it goes on from it."""
    return {
        "ranks": plan.layout.ranks,
        "deepspeed": plan.deepspeed is not None,
        "global_batch": plan.layout.global_batch,
        "optim": plan.job.training.get("optim"),
        "rate_factor": rate_factor(plan.folder),
    }


def make_meter(plan: RunPlan, model: Any, window: EncoderWindow) -> Meter:
    """Goes on from what earlier sessions of a resumed run have trained on."""
    throughput = plan.folder.read().get("throughput") if plan.checkpoint else None
    earlier = Work(**throughput["totals"]) if throughput else Work()
    flops = StepFlops(model.config, window, count_passes(model), labels_only=is_deferred(model))
    return Meter(earlier, lambda batch: window.samples(batch.window_seconds) / SAMPLE_RATE, flops)


def other_callbacks(
    plan: RunPlan,
    order: ClipOrder,
    args: Any,
    meter: Meter,
    say: Callable[[str], None],
    quantizing: Quantizing | None = None,
) -> list[TrainerCallback]:
    """Those that a trainer of any task has, beside what it is left by."""
    callbacks: list[TrainerCallback] = [OrderCallback(order), ProgressCallback(say), NoticeCallback(say)]
    if quantizing:
        callbacks.append(QuantizationCallback(quantizing, say))
    saved_with = read_json(plan.checkpoint / MANIFEST).get("rate_factor", 1.0) if plan.checkpoint else 1.0
    callbacks.append(SmallerStepsCallback(rate_factor(plan.folder) / saved_with))
    callbacks.append(ThroughputCallback(meter, plan.folder))
    best, patience = max if args.greater_is_better else min, plan.job.training.get("early_stopping_patience")
    callbacks.append(EarlyStopCallback(args.metric_for_best_model, patience, best))
    if "tensorboard" in report_to(plan.job):
        callbacks.append(TensorBoardCallback(plan.folder.logs))
    return callbacks


def add_last_callbacks(trainer: JobTrainer, plan: RunPlan, say: Callable[[str], None]) -> None:
    """Those that come after all others: the evaluation that a session owes, and the copy of every checkpoint."""
    if plan.checkpoint and read_json(plan.checkpoint / MANIFEST).get("owes_evaluation"):
        trainer.add_callback(OwedEvaluationCallback(partial(trainer.evaluate_first, plan.checkpoint)))
    mirror = find_directories(os.environ).mirror
    if mirror and trainer.args.should_save:
        trainer.add_callback(MirrorCallback(Mirror(plan.folder, mirror / plan.job.name, say)))


def open_train_set(plan: RunPlan, labels: Labels, window_seconds: float, seed: int) -> ClipDataset:
    """The clips to train on, augmented and joined as the job says."""
    data = plan.job.data
    columns = [source.audio_column for source in data.training_sources]
    index = Index(index_path(plan.folder.data, "train"), plan.cache)
    return ClipDataset(
        index,
        columns,
        labels,
        min(data.max_seconds, window_seconds),
        augmenter=augmenter_for(training_settings(data), index, columns, seed),
        window_seconds=window_seconds,
        pause_seconds=data.windows.pause_seconds if data.windows else (0.0, 0.0),
        seed=seed,
    )


def open_eval_set(
    plan: RunPlan, name: str, sources: Sequence[Source], labels: Labels, window_seconds: float
) -> ClipDataset:
    """The clips of an eval set, as noisy as its sources say, always the same."""
    columns = [source.audio_column for source in sources]
    index = Index(index_path(plan.folder.data, f"eval.{name}"), plan.cache)
    augmenter = augmenter_for([source.augment for source in sources], index, columns, AUGMENT_SEED)
    return ClipDataset(index, columns, labels, min(plan.job.data.max_seconds, window_seconds), augmenter=augmenter)


def check_launch(trainer: Any, plan: RunPlan) -> None:
    """A launcher that falls back to one process, or drops DeepSpeed, does so in silence (accelerate launch --cpu).

    So does a quantization-aware training whose fake quantizers were never attached.
    """
    assert trainer.args.world_size == plan.layout.ranks, (
        f"launched {plan.layout.ranks} ranks, found {trainer.args.world_size}"
    )
    assert trainer.is_deepspeed_enabled == (plan.deepspeed is not None), "DeepSpeed was asked for and is not on"
    if plan.job.quantization:
        check_attached(trainer.model, plan.job.quantization)
