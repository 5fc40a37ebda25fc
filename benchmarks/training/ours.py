"""This program's way: a job file, then the pieces that `whisper-train train` runs one after the other."""

import copy
import json
import os
import socket
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.training.running import Running, Seen, Spec
from whisper_train.data.order import ClipOrder, Draw
from whisper_train.machine import choose_gpus, plan_layout
from whisper_train.paths import find_directories, write_text
from whisper_train.prepare import prepare
from whisper_train.run_folder import opened, run_folder
from whisper_train.run_log import open_log
from whisper_train.runner import resolve
from whisper_train.training.build import build_trainer
from whisper_train.training.signals import StopRequest
from whisper_train.training.window import whole_window

LOADING_PROCESSES = {"cpu": 1, "cuda": 8}


def job_values(spec: Spec) -> dict[str, Any]:
    """The job of a way: what it learns is the stock recipe's; how it hears it, the way's own."""
    machine: dict[str, Any] = {"device": "cpu" if spec.device == "cpu" else "auto"}
    if spec.own_layout:
        machine |= {
            "processes": 1,
            "deepspeed": None,
            "per_device_train_batch_size": spec.device_batch,
            "precision": spec.precision,
            "gradient_checkpointing": spec.gradient_checkpointing,
            "dataloader_num_workers": LOADING_PROCESSES[spec.device],
            "threads": spec.threads,
        }
    return {
        "name": spec.way,
        "language": spec.language,
        "base": str(spec.base),
        "data": {
            "train": [{"manifest": str(spec.train)}],
            "eval": {"held-out": [{"manifest": str(spec.held_out)}]},
            **spec.data,
        },
        "training": {
            "global_batch_size": spec.global_batch,
            "learning_rate": spec.learning_rate,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": spec.warmup_updates,
            "weight_decay": 0.0,
            "max_steps": spec.most_updates,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "metric_for_best_model": "loss",
            "report_to": [],
            "seed": spec.seed,
        },
        "machine": machine,
    }


def folder_of_audio(*manifests: Path) -> str:
    """The folder in which all recordings lie that `manifests` name by absolute paths."""
    lines = [line for manifest in manifests for line in manifest.read_text(encoding="utf-8").splitlines()]
    return os.path.commonpath([os.path.dirname(json.loads(line)["audio"]) for line in lines])


def build(spec: Spec, folder: Path) -> Running:
    """Audits the clips and puts the trainer together, as a job does."""
    spec.note("imports")
    path = folder / f"{spec.way}.yaml"
    write_text(path, yaml.safe_dump(job_values(spec), allow_unicode=True))
    environment = {**os.environ, "BASE_DIR": str(folder)}
    os.environ["DATA_DIR"] = folder_of_audio(spec.train, spec.held_out)  # the manifests lie elsewhere
    job, _ = resolve(str(path), spec.profile, (), environment)
    directories = find_directories(environment)
    run = run_folder(job, directories)
    layout = plan_layout(job, gpus=choose_gpus(job, environment))
    say = open_log(run.logs / "training.log")
    with opened(job, run):
        directories.cache.mkdir(parents=True, exist_ok=True)
        plan = prepare(job, run, layout, directories, environment, say)
    spec.note("audit")
    torch.set_num_threads(layout.threads)
    if plan.deepspeed is not None:
        start_one_rank()
    trainer, *_ = build_trainer(plan, StopRequest(), say)
    return Running(
        trainer,
        Shown(trainer.order, trainer.train_dataset.index.column("seconds")),
        lambda: whole_window(trainer.model),
    )


def start_one_rank() -> None:
    """DeepSpeed wants a process group, also of one; torchrun makes it for a job."""
    from whisper_train.training.rank import start_deepspeed

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address, port = free.getsockname()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": address, "MASTER_PORT": str(port)}
    if torch.cuda.is_available():
        torch.cuda.set_device(0)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    start_deepspeed()


class Shown:
    """What was trained on after so many updates: the order of the epochs is known, so nothing is asked of the trainer.

    The trainer's own count of audio has the pauses within windows in it, which are no recordings.
    """

    def __init__(self, order: ClipOrder, seconds: np.ndarray) -> None:
        self.draws = endless(copy.copy(order))
        self.windows_an_update = order.global_batch
        self.seconds = seconds  # (clips,)
        self.updates = 0
        self.seen = Seen(0, 0.0)

    def __call__(self, updates: int) -> Seen:
        shown = islice(self.draws, (updates - self.updates) * self.windows_an_update)
        positions = [position for draw in shown for position in draw.positions]
        audio_seconds = float(self.seconds[positions].sum())
        self.updates = updates
        self.seen = Seen(self.seen.clips + len(positions), self.seen.audio_seconds + audio_seconds)
        return self.seen


def endless(order: ClipOrder) -> Iterator[Draw]:
    """The draws of epoch after epoch."""
    for epoch in count():
        order.set_epoch(epoch)
        yield from order
