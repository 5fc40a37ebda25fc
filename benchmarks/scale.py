"""Measures whether the cost of training grows with what was done: with the clips there are, and with the steps before.

    python -m benchmarks.scale [CLIPS] [STEPS] [ROUNDS]      100,000 clips, 300 steps, 3 rounds by default

Clips of 50 ms and a Whisper of a few thousand weights, so that next to all of the time is reading: the hard case.

1. Clips per second with CLIPS in the manifest, against 1 % of them: rounds of STEPS steps, one after the other in turn.
2. From the start of the program to the first step of a new run, and to the next one of a run resumed at step 10, and at
   step CLIPS, within an epoch of a quarter more; its checkpoint is the one of step 10 under another number.

Every run is a process of its own, as users start it. Everything lies in a temporary folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import yaml

from whisper_train.training.checkpoints import MANIFEST, write_manifest

BATCH = 32
LEFT = 143  # exit status of a run that was asked to stop
EARLY_STEP = 10
EPOCH = 1.25  # its steps, for each step that the late run has behind it


def write_corpus(folder: Path, clips: int) -> None:
    """So many different clips of 50 ms with a manifest of all, and one of the first 1 %."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    lines = []
    for number in range(clips):
        soundfile.write(folder / f"{number}.wav", chance.uniform(-0.5, 0.5, 800), 16_000, subtype="PCM_U8")
        lines.append(json.dumps({"audio": f"{number}.wav", "text": f"clip {number}"}) + "\n")
    (folder / "all.jsonl").write_text("".join(lines))
    (folder / "few.jsonl").write_text("".join(lines[: clips // 100]))


def write_job(base: Path, name: str, manifest: str, *, weight: float) -> Path:
    """A job over one of the two manifests; `weight` is how many times an epoch shows each clip."""
    corpus = base / "corpus"
    sizes = {"width": 16, "encoder_layers": 1, "decoder_layers": 1, "attention_heads": 2}
    job: dict[str, Any] = {
        "language": "en",
        "base": "new",
        "architecture": {**sizes, "hop_length": 320, "window_seconds": 1, "max_label_tokens": 32},
        "data": {
            "train": [{"manifest": str(corpus / manifest), "weight": weight}],
            "eval": {"last": [{"manifest": str(corpus / "few.jsonl"), "split": "[-4:]"}]},
            "max_dropped_fraction": 0.5,
        },
        "training": {"global_batch_size": BATCH, "eval_strategy": "no", "load_best_model_at_end": False},
        "machine": {"per_device_train_batch_size": BATCH, "dataloader_num_workers": 1, "threads": 1},
    }
    job["training"] |= {"save_strategy": "steps", "save_steps": 1_000_000, "save_total_limit": 1}
    path = base / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def train(job: Path, max_steps: int, *, logging_steps: int, until: int | None = None) -> float:
    """Trains `job` until `max_steps`; returns the seconds from the start to the log of step `until`, or to the end."""
    command = [sys.executable, "-m", "whisper_train", "train", str(job), "--machine", "cpu"]
    command += ["--set", f"training.max_steps={max_steps}", "--set", f"training.logging_steps={logging_steps}"]
    environment = {**os.environ, "BASE_DIR": str(job.parent)}
    started, seconds, said = time.perf_counter(), None, []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if until is not None and seconds is None and re.match(rf"step {until:,}/", line):
                seconds = time.perf_counter() - started
                process.terminate()  # it saves a checkpoint and leaves
    anew = until is not None and until > 1 and not any("resuming from checkpoint" in line for line in said)
    if process.returncode not in (0, LEFT) or (until is not None and seconds is None) or anew:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}:\n{''.join(said)}")
    return time.perf_counter() - started if seconds is None else seconds


def totals(job: Path) -> dict[str, float]:
    facts = json.loads((job.parent / "models" / job.stem / "run.json").read_text())
    return dict(facts["throughput"]["totals"])


def measure_clips(base: Path, steps: int, rounds: int) -> dict[str, list[float]]:
    """Clips per second of each round, with all clips and with 1 % of them; the audit is done in a run before."""
    weights = {"few": 100.0, "all": 1.0}  # epochs of the same length: the beginning of one takes its time
    jobs = {name: write_job(base, f"clips-{name}", f"{name}.jsonl", weight=weights[name]) for name in weights}
    for job in jobs.values():
        train(job, 2, logging_steps=1)
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            before = totals(job)
            train(job, 2 + (number + 1) * steps, logging_steps=steps)
            after = totals(job)
            rates[name].append((after["clips"] - before["clips"]) / (after["seconds"] - before["seconds"]))
    return rates


def measure_starts(base: Path, clips: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first step: of a new run whose data are known, and of runs resumed early and late."""
    job = write_job(base, "starts", "all.jsonl", weight=EPOCH * BATCH)
    folder = base / "models" / job.stem
    train(job, EARLY_STEP, logging_steps=1)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": "stopped"}))  # else it would be finished
    kept = base / "kept"
    folder.rename(kept)
    seconds: dict[str, list[float]] = {"new": [], "early": [], "late": []}
    for _ in range(rounds):
        for name, step in (("new", 0), ("early", EARLY_STEP), ("late", clips)):
            shutil.copytree(kept, folder)
            number_checkpoint(folder / "checkpoints", step)
            seconds[name].append(train(job, step + 100, logging_steps=1, until=step + 1))
            shutil.rmtree(folder)
    return seconds


def number_checkpoint(checkpoints: Path, step: int) -> None:
    """Makes the checkpoint of step 10 one of `step`; 0: removes it."""
    checkpoint = checkpoints / f"checkpoint-{EARLY_STEP}"
    if step == 0:
        shutil.rmtree(checkpoint)
        return
    state, complete = checkpoint / "trainer_state.json", checkpoint / MANIFEST
    state.write_text(json.dumps({**json.loads(state.read_text()), "global_step": step}))
    write_manifest(checkpoint, json.loads(complete.read_text()), [state])
    checkpoint.rename(checkpoints / f"checkpoint-{step}")


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(clips: int = 100_000, steps: int = 300, rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_corpus(base / "corpus", clips)
        rates = measure_clips(base, steps, rounds)
        ratios = [more / less for less, more in zip(rates["few"], rates["all"], strict=True)]
        print(f"clips/s with {clips // 100:,} clips:  {spread(rates['few'])}")
        print(f"clips/s with {clips:,} clips:  {spread(rates['all'])}")
        print(f"ratio, round by round:  {spread(ratios)}", flush=True)
        seconds = measure_starts(base, clips, rounds)
        print(f"seconds to the first step of a new run:  {spread(seconds['new'])}")
        print(f"seconds to step {EARLY_STEP + 1:,}, resumed:  {spread(seconds['early'])}")
        print(f"seconds to step {clips + 1:,}, resumed:  {spread(seconds['late'])}")
        later = [late - early for early, late in zip(seconds["early"], seconds["late"], strict=True)]
        print(f"seconds later at step {clips:,}, round by round:  {spread(later)}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
