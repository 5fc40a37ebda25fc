"""How figures, names and settings of a run are written for people, the same in the model card and in TensorBoard."""

import html
import math
import re
from typing import Any

from whisper_train.job import Job


def percent(rate: float | None) -> str:
    """A fraction in percent: 0.0137 -> 1.37 %; a dash where there is no figure."""
    return "–" if rate is None or not math.isfinite(rate) else f"{rate:.2%}".replace("%", " %")


def with_interval(figures: dict[str, Any] | None, metric: str) -> str:
    """`metric` (wer, cer) of one model's figures with its 95 % interval: 1.37 % (0.71–2.14); a dash without figures."""
    rate = figures.get(metric) if figures else None
    interval = figures.get(f"{metric}_interval") if figures else None
    if rate is None or not math.isfinite(rate) or not interval or not all(map(math.isfinite, interval)):
        return percent(rate)
    return f"{percent(rate)} ({100 * interval[0]:.2f}–{100 * interval[1]:.2f})"


def escape(text: str) -> str:
    """`text` on one line, so that Markdown and HTML show it as it is, also within a table."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)


def without_folders(label: str) -> str:
    """A source's label without the folders of this machine: manifest: /home/anna/x.jsonl dev -> manifest: x.jsonl dev.

    Of Common Voice the folder that names the release stays.
    """
    kind, colon, rest = label.partition(": ")
    if not rest.startswith(("/", "~", "./", "../")):
        return label
    release = rest.find("/cv-corpus")
    return f"{kind}{colon}{rest[release + 1 :] if release >= 0 else rest.rpartition('/')[2]}"


def describe_base(base: str) -> str:
    """What the job starts from, as Markdown, without the folders of this machine."""
    if base == "new":
        return "random weights"
    if base.startswith("job:"):
        return f"the result of the job `{base.removeprefix('job:')}`"
    if is_hub_id(base):
        return f"[{base}](https://huggingface.co/{base})"
    return f"a model in a folder called {escape(base.rstrip('/').rpartition('/')[2])}"


def is_hub_id(place: str | None) -> bool:
    """Whether `place` names something on the hub: owner/name, or a data set's old name without an owner."""
    return place is not None and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", place) is not None


def results_table(results: dict[str, Any]) -> str:
    """Every set with its figures before and after, as a Markdown table."""
    head = ("Set", "Clips", "WER before", "WER after", "CER before", "CER after", "Normalizer", "Compared")
    rows = [head, ("---",) * len(head)]
    for name, measured in results["sets"].items():
        before, comparison = measured.get("baseline"), measured.get("comparison")
        figures = [with_interval(model, metric) for metric in ("wer", "cer") for model in (before, measured)]
        normalizer = f"{measured['normalizer']} {measured['normalizer_version']}"
        compared = escape(comparison["sentence"]) if comparison else "–"
        rows.append((escape(name), f"{measured['clips']:,}", *figures, escape(normalizer), compared))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def gate_lines(results: dict[str, Any]) -> str:
    """Every gate with what was measured, as a Markdown list; a sentence where the job has none."""
    lines = [
        f"- {'met' if gate['met'] else '**missed**'}: {escape(gate['sentence'])}" for gate in results.get("gates") or []
    ]
    return "\n".join(lines) or "The job names no gates: nothing was asked of this model."


def learning_settings(job: Job, steps: int) -> dict[str, str | float]:
    """What most decides the outcome of a run of `steps` steps, by name; the same names for every job.

    A name's value is always text or always a number, as TensorBoard compares them: 0 stands for what a job leaves out.
    """
    training, model = job.training, job.model
    batch = training.get("global_batch_size")
    if batch is None:
        device = training.get("per_device_train_batch_size") or job.machine.per_device_train_batch_size
        batch = device * (training.get("gradient_accumulation_steps") or 1)
    return {
        "base": job.base if job.base.startswith("job:") or is_hub_id(job.base) else describe_base(job.base),
        "language": job.language,
        "learning_rate": training.get("learning_rate", 5e-5),
        "lr_scheduler_type": str(training.get("lr_scheduler_type", "linear")),
        "warmup_steps": training.get("warmup_steps", 0),
        "weight_decay": training.get("weight_decay", 0.0),
        "label_smoothing_factor": training.get("label_smoothing_factor", 0.0),
        "global_batch_size": batch,
        "steps": steps,
        "epochs": training.get("num_train_epochs", 0.0),
        "dropout": "the base's own" if model.dropout is None else f"{model.dropout:g}",
        "freeze": ", ".join(model.freeze) or "nothing",
        "layer_decay": model.layer_decay or 0,
        "lora_rank": model.lora.rank if model.lora else 0,
        "lora_alpha": model.lora.alpha if model.lora else 0,
        "spec_augment": "yes" if model.spec_augment else "no",
        "replay_share": job.data.replay.share if job.data.replay else 0,
        "seed": training.get("seed", 42),
    }
