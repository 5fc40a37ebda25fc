"""The model card of an entity model, with figures from results.json and nothing that is not known."""

from collections.abc import Mapping
from typing import Any

from whisper_train.entities.results import models_in
from whisper_train.job import Job
from whisper_train.job_entities import ENTITIES, LABELS
from whisper_train.licenses import OTHER
from whisper_train.report.words import describe_base, escape, is_hub_id, percent

TASK = "token-classification"


def make_metadata(job: Job, results: dict[str, Any]) -> str:
    """The YAML block of the card, between its lines of dashes; what is not known is left out."""
    from huggingface_hub import EvalResult, ModelCardData

    figures = [
        EvalResult(
            task_type=TASK,
            task_name="Departure, arrival and stops of travel orders",
            dataset_type=name,
            dataset_name=name,
            metric_type="f1",
            metric_name="Macro F1, strict spans, %",
            metric_value=round(100 * result["macro_f1"], 2),
        )
        for name, result in results["sets"].items()
    ]
    data = ModelCardData(
        language=[job.language],
        license=job.card.license,
        license_name="custom" if job.card.license == OTHER else None,
        license_link="LICENSE" if job.card.license == OTHER else None,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=job.base if "/" in job.base and is_hub_id(job.base) else None,
        metrics=["f1"],
        tags=["camembert", "whisper-train"],
        model_name=job.name,
        eval_results=figures,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def summary(job: Job, results: dict[str, Any]) -> str:
    """What the model is, in a sentence, and loudly if it is not promoted."""
    made = "trained from random weights" if job.base == "new" else f"fine-tuned from {describe_base(job.base)}"
    text = f"A model that finds departure, arrival and stops in French travel orders, {made}."
    if results.get("promoted") is True:
        return f"{text} It met its gates and is promoted." if results.get("gates") else text
    missed = [escape(gate["sentence"]) for gate in results.get("gates") or [] if not gate["met"]]
    reason = "; ".join(missed) or "its results do not say why"
    return f"{text}\n\n> **Not promoted: this model did not meet what was asked of it.** {reason}."


def sections(job: Job, results: dict[str, Any]) -> dict[str, str]:
    """Those sections of the card that are other than a speech model's, by their titles."""
    lines = [
        f"- {escape(name)}: {result['contamination']['same_pattern']:,} of {result['clips']:,} sentences have a pattern"
        f" that was trained on, {result['contamination']['same_place']:,} of {result['contamination']['places']:,}"
        " cities were."
        for name, result in results["sets"].items()
        if result.get("contamination")
    ]
    limits = [f"{job.card.limitations}\n"] if job.card.limitations else []
    limits += lines
    limits.append("- Made-up sentences say little of what people write: measure it on your own (docs/travel.md).")
    return {
        "Results": f"{results_table(results)}\n\nIntervals (in brackets) are 95 %, over sentence patterns. An entity is"
        f" right when its span and its label are (seqeval, strict).\n\n{kinds_table(results)}",
        "How to use it": usage(job),
        "Intended use": job.card.intended_use
        or "Its makers named none. It was measured on the sentences above, and nothing is known of any other use.",
        "Limits": "\n".join(limits),
        "How it was measured": "- Words are told apart at spaces, signs, hyphens and behind apostrophes; the first word"
        f" piece of each is labelled: {', '.join(f'`{label}`' for label in LABELS)}.\n- Every figure:"
        " `evaluation/results.json`.",
    }


def usage(job: Job) -> str:
    return (
        "```python\nfrom transformers import pipeline\n\n"
        'find = pipeline("token-classification", model=".", aggregation_strategy="first")\n'
        'print(find("Je veux aller de Lyon à Saint-Étienne."))\n```\n\n'
        "`whisper-train order --entities . --text …` gives departure, arrival and stops, from speech too."
    )


def results_table(results: dict[str, Any]) -> str:
    head = ("Set", "Sentences", "Model", *(f"F1 {entity}" for entity in ENTITIES), "Macro F1", "All cities right")
    rows = [head, ("---",) * len(head)]
    for name, result in results["sets"].items():
        for label, one in models_in(result):
            scores = [percent(one["entities"][entity]["f1"]) for entity in ENTITIES]
            figures = [with_interval(one, "macro_f1"), with_interval(one, "sentence_accuracy")]
            rows.append((escape(name), f"{result['clips']:,}", escape(label), *scores, *figures))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def kinds_table(results: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("Set", "Kind", "Sentences", "All cities right"), ("---",) * 4]
    for name, result in results["sets"].items():
        for row in result["kinds"]:
            shown = with_interval(row, "sentence_accuracy")
            rows.append((escape(name), row["kind"], f"{row['sentences']:,}", shown))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_interval(figures: Mapping[str, Any], key: str) -> str:
    ends = figures.get(f"{key}_interval")
    return percent(figures[key]) + (f" ({100 * ends[0]:.2f}–{100 * ends[1]:.2f})" if ends else "")
