"""The model card: the README.md of the model folder, with figures from results.json and nothing that is not known."""

import hashlib
import re
from pathlib import Path
from typing import Any

from whisper_train.job import Job
from whisper_train.job_data import MAX_WINDOW_SECONDS
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.languages import LANGUAGES
from whisper_train.licenses import OTHER
from whisper_train.paths import read_json, write_text
from whisper_train.report.card_metadata import make_metadata
from whisper_train.report.words import (
    describe_base,
    escape,
    gate_lines,
    learning_settings,
    percent,
    results_table,
    without_folders,
)
from whisper_train.run_folder import RunFolder

LAST_LINE = "<!-- Written by whisper-train, digest {}: once edited, this file is never overwritten. -->\n"
OURS = re.compile(LAST_LINE.format(r"(\w{64})") + r"\Z")
CARD, CARD_BESIDE = "README.md", "README.generated.md"


def write_card(job: Job, folder: RunFolder) -> Path:
    """Writes the card of the folder's results as README.md, or beside it where README.md is the user's own.

    Returns what was written. Needs evaluation/results.json.
    """
    audit = folder.data / "audit.json"
    card = make_card(
        job, read_json(folder.evaluation / "results.json"), folder.read(), read_json(audit) if audit.is_file() else None
    )
    return place_card(folder.path, card)


def place_card(folder: Path, card: str) -> Path:
    """Writes `card` as README.md of `folder`, or beside it where README.md is the user's own; returns what it wrote."""
    path, beside = folder / CARD, folder / CARD_BESIDE
    if path.exists() and not is_ours(path):
        path = beside
    elif beside.exists():
        beside.unlink()
    write_text(path, card)
    return path


def is_ours(path: Path) -> bool:
    """Whether the card at `path` is as this program wrote it: its last line holds the digest of all above."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    match = OURS.search(text)
    return match is not None and match[1] == digest(text[: match.start()])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_card(job: Job, results: dict[str, Any], run: dict[str, Any], audit: dict[str, Any] | None = None) -> str:
    """The card as text: metadata, sections, and a last line that tells our own card from an edited one.

    `results` is results.json (version 2), `run` run.json, `audit` data/audit.json.
    """
    if job.task == ENTITIES_TASK:
        from whisper_train.entities import card as entities_card

        own = entities_card.sections(job, results)
        metadata, what = entities_card.make_metadata(job, results), entities_card.summary(job, results)
    else:
        own, metadata, what = speech_sections(job, results, run), make_metadata(job, results), summary(job, results)
    sections = {
        "Results": own["Results"],
        "Gates": gate_lines(results),
        "How to use it": own["How to use it"],
        "Training data": training_data(job, audit, run.get("replay")),
        "Intended use": own["Intended use"],
        "Limits": own["Limits"],
        "How it was measured": own["How it was measured"],
        "How it was trained": how_trained(job, run),
        "Licence": license_text(job),
    }
    if run.get("lineage"):
        sections["Lineage"] = lineage_table(job, run["lineage"])
    return join_card(metadata, job.name, what, sections)


def join_card(metadata: str, title: str, first: str, sections: dict[str, str]) -> str:
    """The parts of a card as one text, with the last line that tells it from an edited one."""
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections.items())
    text = f"{metadata}\n# {escape(title)}\n\n{first}\n\n{body}\n\n"
    return text + LAST_LINE.format(digest(text))


def speech_sections(job: Job, results: dict[str, Any], run: dict[str, Any]) -> dict[str, str]:
    """Those sections that are of speech alone, by their titles."""
    return {
        "Results": f"{results_table(results)}\n\nIntervals (in brackets) are 95 %. {compared_with(job)}",
        "How to use it": usage(job),
        "Intended use": intended_use(job),
        "Limits": limits(job, results),
        "How it was measured": how_measured(job, results, run),
    }


def summary(job: Job, results: dict[str, Any]) -> str:
    """What the model is, in a sentence, and loudly if it is not promoted."""
    does = "translates {} speech to English text" if job.task == "translate" else "writes down {} speech"
    made = "trained from random weights" if job.base == "new" else f"fine-tuned from {describe_base(job.base)}"
    revision = f" (revision `{job.base_revision}`)" if job.base_revision else ""
    text = f"A Whisper that {does.format(language_name(job.language))}, {made}{revision}."
    if results.get("promoted") is True:
        return f"{text} It met its gates and is promoted." if results.get("gates") else text
    missed = [escape(gate["sentence"]) for gate in results.get("gates") or [] if not gate["met"]]
    reason = "; ".join(missed) or "its results do not say why"
    return f"{text}\n\n> **Not promoted: this model did not meet what was asked of it.** {reason}."


def language_name(code: str) -> str:
    return LANGUAGES.get(code, code).title()


def compared_with(job: Job) -> str:
    if job.base == "new":
        return "There is no figure before: the model started from random weights."
    return f"*Before* is {describe_base(job.base)}, *after* is this model, on the same clips by the same code."


def usage(job: Job) -> str:
    """A snippet that runs with the folder as with the hub id."""
    repository = job.training.get("hub_model_id")
    model = (
        f'"{repository}"  # or the folder of this file'
        if repository
        else '"."  # the folder of this file, or its hub id'
    )
    # English-only models refuse a language; the others of English have it in their generation settings.
    asked = f'"language": "{job.language}", "task": "{job.task}"'
    options = "" if job.language == "en" else f", generate_kwargs={{{asked}}}"
    return (
        "```python\nfrom transformers import pipeline\n\n"
        f"model = {model}\n"
        'transcribe = pipeline("automatic-speech-recognition", model=model)\n'
        f'print(transcribe("recording.wav"{options})["text"])\n```\n\n'
        "The pipeline reads files by `ffmpeg`, which must be installed; mono samples at 16 kHz can be given instead."
    )


def training_data(job: Job, audit: dict[str, Any] | None, replayed: dict[str, int] | None) -> str:
    """The sources, how much of them the audit kept, and how much of an epoch is replay (`replay` in run.json)."""
    revisions = audit["revisions"]["train"] if audit else []
    sources, learned = job.data.training_sources, len(job.data.train)
    lines = []
    for position, source in enumerate(sources):
        revision = revisions[position] if position < len(revisions) else source.revision
        facts = [f"revision `{revision}`"] if revision else []
        facts += [language_name(source.language)] if source.language else []
        facts += [f"shown {source.weight:g} times an epoch"] if source.weight != 1 and position < learned else []
        facts += ["replayed, so that it is not forgotten"] if position >= learned else []
        lines.append(f"- {escape(without_folders(source.label))}" + (f" ({', '.join(facts)})" if facts else ""))
    if audit:
        counted = audit["sets"]["train"]
        hours = f"{counted['hours']:.2f} hours" if counted["hours"] else "length not known beforehand"
        used = f"{counted['kept']:,} of {counted['clips']:,}"
        lines.append(
            f"\n{used} sentences were used." if job.task == ENTITIES_TASK else f"\n{used} clips were used, {hours}."
        )
    if replayed:
        clips, shown = replayed["clips"], replayed["shown"]
        lines.append(f"\nOf {shown:,} clips that an epoch showed, {clips:,} ({clips / shown:.0%}) were replayed.")
    if job.task != ENTITIES_TASK and not all(source.synthetic for source in sources):
        lines.append(
            "\nWho speaks in them, how they were chosen, and whether those who speak agreed to it is not known to the"
            " program that wrote this card."
        )
    return "\n".join(lines)


def intended_use(job: Job) -> str:
    return job.card.intended_use or (
        f"Its makers named none. It was measured on {language_name(job.language)} speech of the sets above, and nothing"
        " is known of any other use."
    )


def limits(job: Job, results: dict[str, Any]) -> str:
    """What the user says, then what was and was not measured."""
    lines = [f"{job.card.limitations}\n"] if job.card.limitations else []
    lines.append("- Other speakers, accents, rooms, microphones and subjects than those of the sets were not measured.")
    lines.append(f"- {about_silence(results)}")
    for name, measured in results["sets"].items():
        if (hallucination := measured.get("hallucination")) and hallucination["clips"]:
            share = percent(hallucination["share"])
            lines.append(f"- On {escape(name)}, {share} of the clips got loops or far too many words.")
        if (contamination := measured.get("contamination")) and (same := contamination["same_text"]):
            lines.append(f"- {same:,} clips of {escape(name)} have sentences that also stand in the training data.")
    longest = max((measured.get("longest_seconds") or 0 for measured in results["sets"].values()), default=0)
    if 0 < longest <= MAX_WINDOW_SECONDS:
        lines.append(f"- The longest clip measured has {longest:.1f} seconds: nothing is known of longer recordings.")
    return "\n".join(lines)


def about_silence(results: dict[str, Any]) -> str:
    """What the model writes where nobody speaks."""
    risk = "Whisper can write words that nobody said, most of all where nobody speaks"
    if not (silence := (results.get("silence") or {}).get("tuned")):
        return f"{risk}; how often this model does was not measured."
    return (
        f"{risk}: in {silence['seconds']:g} seconds without speech this model wrote {silence['words']:,} words"
        f" ({silence['words_per_minute']:.1f} a minute)."
    )


def how_measured(job: Job, results: dict[str, Any], run: dict[str, Any]) -> str:
    """By what procedure, with which versions."""
    used = results.get("decoding") or {}
    beams, length = used.get("beams"), used.get("max_length")
    decoding = f"{beams} beams" if beams else "as many beams as the model's own generation settings say"
    decoding += f", at most {length} tokens" if length else ""
    comparisons = [measured["comparison"] for measured in results["sets"].values() if measured.get("comparison")]
    units = list(dict.fromkeys(comparison["wer"]["unit"] for comparison in comparisons))
    versions = ", ".join(
        f"{name} {version}" for name, version in (results.get("versions") or run.get("versions") or {}).items()
    )
    program = " ".join(part for part in ("whisper-train", run.get("version")) if part)
    commit = f", commit `{run['commit']}`" if run.get("commit") else ""
    averaged = (
        "- How far the weights lie between base and tuned model was chosen on clips of these sets, up to"
        f" {max(run['averaging']['clips'].values()):,} of each: on others it may be a little worse.\n"
        if run.get("averaging")
        else ""
    )
    return (
        "- By generation, never with the right text before its eyes; language and task are given.\n"
        "- Errors are counted over a whole set, after the normalizer has been over both texts: no mean of clips.\n"
        f"- Decoding: {decoding}.\n"
        f"- Intervals (95 %) and comparisons {say_units(units)}.\n"
        f"{averaged}{how_quantized(job)}"
        f"- By {program}{commit}{f' ({versions})' if versions else ''}.\n"
        "- Every figure, also those of other normalizers and of parts of a set: `evaluation/results.json`."
    )


def how_quantized(job: Job) -> str:
    """What of a quantized model was measured: it is not what `from_pretrained` computes, where inputs are rounded."""
    if (quantization := job.quantization) is None:
        return ""
    what, plain = "weights", "from_pretrained loads the weights as they were measured"
    if quantization.activations:
        what, plain = "weights and inputs of its matrices", "from_pretrained loads these weights, and rounds no inputs"
    return (
        f"- In {quantization.scheme}: {what} were rounded as {quantization.target} rounds them, in torch; {plain}."
        " `quantization.json` says what is rounded.\n"
    )


def say_units(units: list[str]) -> str:
    """What the intervals of the sets are over: their speakers, their recordings, or where those are not known clips."""
    together = " or ".join(unit for unit in units if unit != "clip")
    if not together:
        return "take each clip by itself"
    return f"take the clips of one {together} together{', where that is known' if 'clip' in units else ''}"


def how_trained(job: Job, run: dict[str, Any]) -> str:
    """The settings that most decide the outcome; those at 0 are off."""
    settings = learning_settings(job, run.get("steps") or 0)
    rows = [f"| `{name}` | {escape(str(value))} |" for name, value in settings.items() if value != 0]
    kept = f"\n\nKept: `{run['kept']}`." if run.get("kept") else ""
    if averaged := run.get("averaging"):  # WiSE-FT, arXiv:2109.01903
        kept += f" Of the averages of its weights and the base's this one was chosen: {escape(averaged['sentence'])}."
    return "\n".join(["| Setting | |", "|---|---|", *rows]) + f"{kept} The whole job is in `job.yaml`."


def lineage_table(job: Job, ancestors: list[dict[str, Any]]) -> str:
    """The jobs that this one builds on, each with its data and what it had reached, as a Markdown table."""
    rows = ["| Job | Base | Training data | WER then |", "|---|---|---|---|"]
    for entry in ancestors:
        data = "; ".join(escape(without_folders(source)) for source in entry["sources"])
        clips = f"{entry['clips']:,} clips" if entry["clips"] else "not known"
        hours = f", {entry['hours']:.1f} h" if entry["hours"] else ""
        wers = ", ".join(f"{escape(name)} {percent(result['wer'])}" for name, result in entry["results"].items())
        rows.append(f"| `{entry['job']}` | {describe_base(entry['base'])} | {clips}{hours}: {data} | {wers or '–'} |")
    return "\n".join([*rows, f"\n`{job.name}` began where the last of them ended."])


def license_text(job: Job) -> str:
    given = {None: "Its makers named none.", OTHER: "See `LICENSE` in this folder."}
    text = given.get(job.card.license, f"`{job.card.license}`, as its makers say.")
    return f"{text} The licences of the base and of the training data may ask for more."
