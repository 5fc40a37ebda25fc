"""The metadata of the model card, as the hub reads it: language, base, licence, data sets, and figures per eval set."""

import math
from collections.abc import Iterator
from typing import Any

from whisper_train.job import Job
from whisper_train.licenses import OTHER
from whisper_train.report.words import is_hub_id

TASK = "automatic-speech-recognition"
ISO_CODES = {"jw": "jv"}  # Whisper's code for Javanese is none of ISO 639
METRICS = {"wer": "Word error rate, %", "cer": "Character error rate, %"}


def make_metadata(job: Job, results: dict[str, Any], **changes: Any) -> str:
    """The YAML block of the card, between its lines of dashes; what is not known is left out.

    `changes` are fields of ModelCardData that are otherwise for another form of the same model.
    """
    from huggingface_hub import ModelCardData

    base = job.base if "/" in job.base and is_hub_id(job.base) else None
    sources = job.data.training_sources
    data_sets = dict.fromkeys(source.hub for source in sources if source.hub and is_hub_id(source.hub))
    languages = dict.fromkeys([job.language, *(source.language for source in sources if source.language)])
    figures = list(eval_results(job, results))
    fields: dict[str, Any] = {
        "language": [ISO_CODES.get(code, code) for code in languages],
        "license": job.card.license,
        "license_name": "custom" if job.card.license == OTHER else None,
        "license_link": "LICENSE" if job.card.license == OTHER else None,
        "library_name": "transformers",
        "pipeline_tag": TASK,
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
        "datasets": list(data_sets) or None,
        "metrics": list(METRICS) if figures else None,
        "tags": ["whisper", "whisper-train"],
        "model_name": job.name if figures else None,
        "eval_results": figures or None,
    }
    data = ModelCardData(**(fields | changes))
    return f"---\n{data.to_yaml()}\n---\n"


def eval_results(job: Job, results: dict[str, Any]) -> Iterator[Any]:
    """An EvalResult for each set and metric that has a figure, in percent."""
    from huggingface_hub import EvalResult

    known: set[tuple[Any, ...]] = set()
    for name, measured in results["sets"].items():
        data_set = describe_set(job, name, measured)
        if (identity := tuple(data_set[key] for key in sorted(data_set.keys() - {"dataset_name"}))) in known:
            data_set = own_set(name)  # the hub would take two sets of one identity for one and drop a name
        known.add(identity)
        for metric, title in METRICS.items():
            if (rate := measured.get(metric)) is None or not math.isfinite(rate):
                continue
            yield EvalResult(
                task_type=TASK,
                task_name="Speech translation" if job.task == "translate" else "Speech recognition",
                metric_type=metric,
                metric_name=title,
                metric_value=round(100 * rate, 2),
                metric_args={"normalizer": f"{measured['normalizer']} {measured['normalizer_version']}"},
                **data_set,
            )


def describe_set(job: Job, name: str, measured: dict[str, Any]) -> dict[str, Any]:
    """What EvalResult says of the data set: its hub id and revision where a set is one source of the hub."""
    sources = job.data.eval.get(name, [])
    if len(sources) != 1 or not is_hub_id(sources[0].hub):
        return own_set(name)
    source, revisions = sources[0], measured.get("revisions") or [None]
    return {
        "dataset_type": source.hub,
        "dataset_name": f"{name} ({source.hub})",
        "dataset_config": source.config,
        "dataset_split": source.split or "train",
        "dataset_revision": revisions[0] or source.revision,
    }


def own_set(name: str) -> dict[str, Any]:
    """A set that lies on no hub, or is mixed from several sources: its name is all that others can know of it."""
    empty = {"dataset_config": None, "dataset_split": None, "dataset_revision": None}
    return {"dataset_type": name, "dataset_name": name, **empty}
