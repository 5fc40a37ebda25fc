"""A job small enough to train within a test: a Whisper of a few thousand weights on a few clips of synthetic speech."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

TRAIN_CLIPS = 44  # no multiple of the batch: the last batch of an epoch is smaller
STEPS_PER_EPOCH = 6  # of 8 clips
PATIENCE = 900.0  # seconds for a run to come somewhere, on a crowded machine too

SPEECH = {
    "sentences": ["{who} {does} {what}"],
    "words": {
        "who": ["der Mann", "die Frau", "das Kind", "ein Hund"],
        "does": ["sucht", "findet", "kauft", "malt"],
        "what": ["den Apfel", "das Buch", "ein Bild", "zwei Eier", "die Uhr"],
    },
    "voices": ["de+m1", "de+f2"],
    "words_per_minute": [180, 220],
}


def tiny_job(**changes: Any) -> dict[str, Any]:
    """The values of a job file, with `changes` laid over its sections."""
    job: dict[str, Any] = {
        "language": "de",
        "base": "new",
        "architecture": {
            "vocabulary_size": 300,
            "width": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "attention_heads": 2,
            "hop_length": 320,
            "window_seconds": 4,
            "max_label_tokens": 64,
        },
        "data": {
            "train": [{"synthetic": {**SPEECH, "part": "train", "clips": TRAIN_CLIPS, "seed": 1}}],
            "eval": {"held-out": [{"synthetic": {**SPEECH, "part": "held-out", "clips": 6, "seed": 2}}]},
            "max_dropped_fraction": 0.5,
        },
        "training": {
            "global_batch_size": 8,
            "max_steps": 12,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "eval_steps": 6,
            "save_steps": 6,
            "generation_max_length": 16,
        },
        "machine": {"audit_workers": 1, "dataloader_num_workers": 0, "threads": 1},
    }
    for section, values in changes.items():
        job[section] = {**job.get(section, {}), **values} if isinstance(values, dict) else values
    return job


def write_job(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tiny_job(**changes), allow_unicode=True), encoding="utf-8")
    return path


def environment(base: Path, **more: str) -> dict[str, str]:
    """The environment of a run whose three directories lie under `base`."""
    kept = {key: value for key, value in os.environ.items() if key not in ("MODEL_DIR", "LOG_DIR", "CACHE_DIR")}
    return {**kept, "BASE_DIR": str(base), **more}


def command(job: Path, *more: str, verb: str = "train") -> list[str]:
    return [sys.executable, "-m", "whisper_train", verb, str(job), "--machine", "cpu", *more]


def run(job: Path, base: Path, *more: str, expect: int = 0, **variables: str) -> str:
    """Trains `job` in a process of its own and returns what it printed."""
    return call(command(job, *more), environment(base, **variables), expect=expect)


def run_here(job: Path, base: Path, *more: str, expect: int = 0) -> str:
    """As run(), but in this process, which has imported the libraries already: a tiny run then takes half the time.

    Where a process of its own is not what is tested, and none reads the clips. Several ranks, or DeepSpeed's one, are
    processes of their own here too; what they print is not in what is returned.
    """
    return call_here(command(job, *more)[3:], environment(base), expect=expect)


def call_here(words: list[str], variables: dict[str, str], *, expect: int, cwd: Path | None = None) -> str:
    """What `whisper-train` prints for `words` in this process, with the environment `variables`."""
    from click.testing import CliRunner

    from whisper_train.cli import main

    with patch.dict(os.environ, variables, clear=True), chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result.output


def call(
    words: list[str], variables: dict[str, str], *, expect: int, cwd: Path | None = None, timeout: float = 1800
) -> str:
    """What `words` print in a process of its own with the environment `variables`; `expect` is its exit status."""
    done = subprocess.run(words, env=variables, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == expect, output
    return output


def interrupt(
    job: Path,
    base: Path,
    moment: Callable[[], bool],
    number: signal.Signals,
    *more: str,
    group: bool = False,
    verb: str = "train",
    variables: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Starts a run and sends it `number` as soon as `moment()` holds; returns its status and what it printed.

    With `group` the whole process group gets it, as from Ctrl-C on a terminal or from `timeout`.
    """
    process = subprocess.Popen(
        command(job, *more, verb=verb),
        env=environment(base, **(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the run never came to where it was to be interrupted:\n{process.communicate()[0]}")
        time.sleep(0.002)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output
