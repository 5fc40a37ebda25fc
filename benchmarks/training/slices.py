"""What is measured of a way while it trains: time, work, waiting, memory, and the held-out loss between slices."""

import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from benchmarks.training.channel import Channel
from benchmarks.training.flops import training_flops, wait_for
from benchmarks.training.held_out import held_out_loss
from benchmarks.training.running import Running, Spec
from whisper_train.model import load_processor
from whisper_train.resident import peak_resident_bytes


class Meter:
    """Counts what the trainer computes and how long it waits for data, by wrapping two of its functions."""

    def __init__(self, trainer: Any) -> None:
        self.flops = self.waited = 0.0
        self.loss, self.batches = trainer.compute_loss, trainer.get_batch_samples
        self.config = trainer.model.config
        trainer.compute_loss, trainer.get_batch_samples = self.compute_loss, self.get_batch_samples

    def compute_loss(self, model: Any, inputs: dict[str, Any], *more: Any, **options: Any) -> Any:
        windows, _, frames = inputs["input_features"].shape
        self.flops += training_flops(self.config, windows, frames, inputs["labels"].shape[1])
        return self.loss(model, inputs, *more, **options)

    def get_batch_samples(self, *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        batches = self.batches(*arguments, **options)
        self.waited += time.perf_counter() - started
        return batches

    def take(self) -> dict[str, float]:
        """What was counted since the last call."""
        counted = {"flops": self.flops, "data_wait_seconds": self.waited}
        self.flops = self.waited = 0.0
        return counted


class Slices(TrainerCallback):
    """Stops the clock after each slice, measures, and waits for the next command."""

    def __init__(self, channel: Channel, spec: Spec, running: Running, started: float) -> None:
        self.channel = channel
        self.spec = spec
        self.running = running
        self.processor: Any = None  # read when the first slice has ended: it is for the evaluation alone
        self.meter = Meter(running.trainer)
        self.started = started
        self.clock = 0.0
        self.done, self.goal = 0, 1  # updates; the first one is a slice by itself
        self.wer_clips = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.spec.note("model")
        self.clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.done += 1
        if self.done == self.goal:
            wait_for(self.spec.device)
            self.report(time.monotonic())
            command = self.channel.next_command()
            self.goal += command["updates"]
            self.wer_clips = command.get("wer_clips", 0)
            control.should_training_stop = not command["updates"]
            self.clock = time.monotonic()
        return control

    def report(self, now: float) -> None:
        """Tells what the slice that ends `now` took. The loss is measured afterwards, and costs nobody anything."""
        seen = self.running.seen(self.done)
        facts: dict[str, Any] = {
            "updates": self.done,
            "train_seconds": now - self.clock,
            "clips": seen.clips,
            "audio_seconds": seen.audio_seconds,
            **self.meter.take(),
            **peak_memory(),
        }
        if self.done == 1:
            phases = {name: ended - self.started for name, ended in self.spec.phases.items()}
            facts |= {"since_start_seconds": now - self.started, "phases_ended_at": phases}
        self.processor = self.processor or load_processor(str(self.spec.base))
        model = self.running.trainer.model
        with self.running.whole_window():
            loss = held_out_loss(model, self.processor, self.spec.held_out_index, self.spec.precision)
        if self.spec.device == "cuda":
            torch.cuda.empty_cache()  # the next way needs the room
        forget_peak()
        self.channel.tell(**facts, held_out_loss=loss)


def peak_memory() -> dict[str, int]:
    """Bytes: the most that this process held since forget_peak(), its loading processes, and on the GPU.

    Pages that a loading process shares with this one count in both.
    """
    loading = sum(peak_resident_bytes(child.pid) for child in psutil.Process().children(recursive=True))
    cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"peak_bytes": peak_resident_bytes(), "loading_bytes": loading, "peak_gpu_bytes": cuda}


def forget_peak() -> None:
    """Lets the peak begin again, so that an evaluation does not count (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
