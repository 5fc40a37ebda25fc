"""The card of a converted model: what it is made of, in which integers, what was proven, and what was measured."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from whisper_train.job import Job
from whisper_train.report.card import (
    intended_use,
    join_card,
    license_text,
    limits,
    lineage_table,
    summary,
    training_data,
)
from whisper_train.report.card_metadata import make_metadata
from whisper_train.report.words import (
    describe_base,
    escape,
    gate_lines,
    is_hub_id,
    percent,
    results_table,
)

RUNTIMES = {
    "onnx": "onnxruntime",
    "ctranslate2": "CTranslate2 and faster-whisper",
    "ggml": "whisper.cpp",
    "safetensors": "transformers",
}
LIBRARIES = {"onnx": "onnx", "ctranslate2": "ctranslate2", "ggml": "whisper.cpp", "safetensors": "transformers"}
NOT_MEASURED = "Speed, memory and WER of this file through its runtime were not measured."
CONVERTERS = ("torch", "transformers", "onnx", "onnxruntime", "ctranslate2")


def make_export_card(
    job: Job,
    results: dict[str, Any],
    run: Mapping[str, Any],
    facts: Mapping[str, Any],
    proof: Mapping[str, Any],
    benchmark: str | None,
    repository: str,
) -> str:
    """The card as text. `facts` is export.json, `proof` verification.json, `benchmark` a table."""
    form = f"{facts['format']} {facts['precision']}"
    sections = {
        "What it is": what_it_is(facts),
        "What was verified": what_was_verified(proof),
        "Measured": benchmark or NOT_MEASURED,
        "The model it was made of": f"{results_table(results)}\n\nMeasured before the conversion, in torch."
        " Intervals (in brackets) are 95 %.",
        "Gates": gate_lines(results),
        "How to use it": usage(job, facts["format"], repository),
        "Base and credits": credits(job, run, facts),
        "Intended use": intended_use(job),
        "Limits": limits(job, results),
        "Licence": license_text(job),
    }
    if run.get("lineage"):
        sections["Lineage"] = lineage_table(job, run["lineage"])
    quantized = facts["precision"].startswith("int")
    base = published(run) or (job.base if "/" in job.base and is_hub_id(job.base) else None)
    metadata = make_metadata(
        job,
        results,
        library_name=LIBRARIES[facts["format"]],
        base_model=base,
        base_model_relation=("quantized" if quantized else "finetune") if base else None,
        tags=["whisper", "whisper-train", facts["format"], facts["precision"]],
        metrics=None,  # the figures of results.json are those of the model before its conversion
        model_name=None,
        eval_results=None,
    )
    first = f"The model `{job.name}` as {form}, for {RUNTIMES[facts['format']]}. {summary(job, results)}"
    return join_card(metadata, f"{job.name} {form}", first, sections)


def published(run: Mapping[str, Any]) -> str | None:
    """The hub id of the model before its conversion, where it was pushed."""
    parts = str(run.get("pushed") or "").rstrip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 2 else None


def what_it_is(facts: Mapping[str, Any]) -> str:
    """Scheme, groups and what stayed in floats, as export.json has them."""
    tensors, other = facts["tensors"], facts["not_trained_on_their_grid"]
    if not tensors:
        return f"All weights are floats: {facts['precision']}."
    kinds = Counter((grid["bits"], grid["group"]) for grid in tensors.values())
    lines = [
        f"- {count} tensors in int{bits}, a scale for each {f'group of {group} columns' if group else 'row'}"
        for (bits, group), count in kinds.items()
    ]
    lines.append("- All others are floats.")
    if trained := facts.get("trained_for"):
        lines.append(
            f"- Quantization-aware training for {trained['scheme']} in {trained['target']}: the model learned with its"
            " weights rounded."
        )
    if other:
        said = "All of these" if len(other) == len(tensors) else f"{len(other)} of these"
        lines.append(f"- {said} were rounded after training, to a grid that they were not trained on.")
    else:
        lines.append("- Every one of these stands on the grid it was trained on.")
    return "\n".join(lines)


def what_was_verified(proof: Mapping[str, Any]) -> str:
    """verification.json as a list; what is not there was not verified, and is said."""
    lines = []
    if integers := proof.get("integers"):
        lines.append(
            f"- {integers['integers']:,} integers of {integers['tensors']} tensors were read back from the file;"
            f" {integers['differing']:,} differ from the model's grid."
        )
    for key, facts in proof.items():
        if key.endswith("with_float_activations"):
            lines.append(f"- {key.replace('_', ' ').capitalize()}: logits {facts['fraction']:.1e} of their range away.")
    if logits := proof.get("logits"):
        lines.append(
            f"- Logits as the file is used: {logits['fraction']:.1e} of their range from the model's;"
            f" {logits['bound']:g} was allowed."
        )
    for key in sorted(key for key in proof if key == "greedy" or key.startswith("beam_")):
        words = "greedy" if key == "greedy" else f"{key.removeprefix('beam_')} beams"
        lines.append(f"- Tokens, {words}: {proof[key]['equal']} of {proof[key]['clips']} clips equal the model's.")
    if heard := proof.get("words"):
        lines.append(
            f"- WER of these clips through the runtime: {percent(heard['wer'])} ({heard['normalizer']}); the model's"
            f" is {percent(heard['wer_of_model'])}."
        )
    if proof.get("not_compared"):
        lines.append(f"- Logits and tokens were not compared: {escape(str(proof['not_compared']))}.")
    return "\n".join([*lines, "", "Every figure, and every clip that differs: `verification.json`."])


def usage(job: Job, format_: str, repository: str) -> str:
    """A way to use the folder; each of these is tried in docs/conversion.md."""
    folder = repository.rpartition("/")[2]
    fetch = f"Fetch the folder (`hf download {repository} --local-dir {folder}`). "
    if format_ == "ctranslate2":
        fetch += (
            "With faster-whisper, where the model has OpenAI's vocabulary and window:\n\n```python\n"
            f'from faster_whisper import WhisperModel\n\nmodel = WhisperModel("{folder}", device="cpu")\n'
            f'segments, info = model.transcribe("recording.wav", language="{job.language}")\n```\n\nElse: '
        )
    if format_ == "ggml":
        return f"{fetch}`whisper-cli -m {folder}/ggml-model.bin -f recording.wav -l {job.language}`."
    return f"{fetch}`whisper-train transcribe {folder} recording.wav --language {job.language}`."


def credits(job: Job, run: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Whose work is in it: the base, the data, the programs."""
    tools = ", ".join(
        f"{name} {version}" for name, version in facts["made_with"].items() if name in CONVERTERS and version
    )
    model = f"[{published(run)}](https://huggingface.co/{published(run)})" if published(run) else f"`{job.name}`"
    return "\n".join(
        [
            f"- The model: {model}, trained and converted with whisper-train {facts['made_with']['whisper-train']}.",
            f"- Its base: {describe_base(job.base)}"
            + ("." if job.base == "new" else ", by its own makers, whose licence counts too."),
            "- Whisper: Radford et al., 2022, [arXiv:2212.04356](https://arxiv.org/abs/2212.04356).",
            f"- Converted with {tools}.",
            f"\nTrained on:\n\n{training_data(job, None, None)}",
        ]
    )
