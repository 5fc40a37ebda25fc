"""Runs the processes of an evaluation: one in here, or one for every GPU there is."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from whisper_train.children import end_with_parent
from whisper_train.errors import RunFailed
from whisper_train.evaluation.transcription import gather_parts, join_parts
from whisper_train.evaluation.worker import ModelTask, transcribe_share, write_task
from whisper_train.job import Machine
from whisper_train.machine import list_gpus

WORKER_MODULE = "whisper_train.evaluation.worker"


def count_processes(machine: Machine, environment: Mapping[str, str]) -> int:
    """One for each GPU; without one, as many as the machine profile says."""
    gpus = 0 if machine.device == "cpu" else len(list_gpus(environment))
    return gpus or (1 if machine.processes == "all" else machine.processes)


def transcribe_sets(
    task: ModelTask, machine: Machine, environment: Mapping[str, str], plan: Path, say: Callable[[str], None]
) -> None:
    """Transcribes what `task` still lacks; its files are whole afterwards. Raises RunFailed when a process fails."""
    for one in task.sets:
        done = len(gather_parts(Path(one.file), one.header))
        say(f"{task.label}: transcribing {one.name}{f', {done:,} clips were done before' if done else ''}")
    if task.processes == 1:
        transcribe_share(task, 0, say)
    else:
        write_task(task, plan)
        run_workers(task, visible_gpus(machine, environment), environment, plan)
    plan.unlink(missing_ok=True)  # an interrupted evaluation leaves one
    for one in task.sets:
        join_parts(Path(one.file), one.header)


def visible_gpus(machine: Machine, environment: Mapping[str, str]) -> list[str]:
    """How each GPU is named to a process that shall see no other; nothing on a processor."""
    count = 0 if machine.device == "cpu" else len(list_gpus(environment))
    named = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return named.split(",")[:count]


def ended(workers: "list[subprocess.Popen[bytes]]") -> Iterator[tuple[int, int]]:
    """Number and status of each worker as it ends: one that fails is not to wait for the others."""
    running = dict(enumerate(workers))
    while running:
        for share, worker in list(running.items()):
            if (status := worker.poll()) is not None:
                del running[share]
                yield share, status
        time.sleep(0.1)


def run_workers(task: ModelTask, gpus: list[str], environment: Mapping[str, str], plan: Path) -> None:
    workers = []
    try:
        for share in range(task.processes):
            # A session of its own: Ctrl-C reaches this process alone, which ends the others.
            worker = subprocess.Popen(
                [sys.executable, "-m", WORKER_MODULE, str(plan), str(share)],
                env={
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": gpus[share] if gpus else "",
                    "OMP_NUM_THREADS": str(task.threads),
                    "TOKENIZERS_PARALLELISM": "false",
                },
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509
            )
            workers.append(worker)
        for share, status in ended(workers):
            if status:
                raise RunFailed(
                    f"a process of the evaluation failed (number {share}, status {status}); its own message is above;"
                    " started again, the evaluation goes on where it was"
                )
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()  # there is nothing to save: each batch is on the disk
                worker.wait()
