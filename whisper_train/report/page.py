"""The report of one evaluation: a single page that asks for nothing from anywhere."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_train.paths import written_whole
from whisper_train.report import figures
from whisper_train.report.averaging import draw_averaging
from whisper_train.report.clips import FindHallucinations, clips_to_listen_to, worst_clips
from whisper_train.report.formats import MISSING
from whisper_train.report.headline import describe_first_set
from whisper_train.report.render import render
from whisper_train.report.sound import BUDGET, Change, Sounds
from whisper_train.report.transcriptions import Transcription, open_transcription

REPORT = "report.html"


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    *,
    transcriptions: Sequence[Path],
    cache: Path,
    run: Mapping[str, Any] | None = None,
    audit: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    audio_columns: Mapping[str, Sequence[str | None]] | None = None,
    find_hallucinations: FindHallucinations = lambda clip: (),
    audio_budget: int = BUDGET,
    changes: Mapping[str, Change] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Writes `folder`/report.html, whole or not at all, and returns its path.

    `results`, `run` and `audit` are results.json, run.json and data/audit.json, `history` the trainer's log;
    `audio_columns` names per set the audio column of each source, where it is none of the usual ones;
    `find_hallucinations` gives the marks of a transcription line; `audio_budget` is in bytes of the page;
    `changes` makes the clips of a set sound as the model heard them; `say` is told of recordings that are not there.
    Raises UserError for a transcription that cannot be read.
    """
    results = {**results, "sets": results.get("sets") or {}}
    opened = [open_transcription(path) for path in transcriptions]
    sounds = Sounds(cache, audio_columns, audio_budget, changes)
    first, *others = figures.labels_of(results)
    labels = [first, *(label for label in others if label == figures.BASELINE)]
    worst = worst_clips(results, opened, labels, sounds, find_hallucinations)
    listen, to_listen = clips_to_listen_to(folder / "listen.jsonl", results, sounds, find_hallucinations)
    if sounds.warning:
        say(sounds.warning)
    page = render(
        "template.html",
        results=results,
        run=run or {},
        audit=audit or {},
        labels=figures.labels_of(results),
        lead=describe_first_set(results),
        curves=figures.draw_curves(history),
        averages=draw_averaging(run or {}),
        durations=figures.draw_durations(results),
        worst=worst,
        listen=listen,
        to_listen=to_listen,
        warning=sounds.warning,
        measured=describe_measurement(results, opened, run or {}),
    )
    path = folder / REPORT
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def describe_measurement(
    results: Mapping[str, Any], transcriptions: Sequence[Transcription], run: Mapping[str, Any]
) -> dict[str, str]:
    """How it was measured: what decides whether two results may be compared, by its name."""
    header = next((one.header for one in transcriptions if one.header), {})
    sets = results["sets"].values()
    units = [(result.get("comparison") or {}).get("wer") or {} for result in sets]
    return {
        "date": date_of(results, run),
        "base": str(results.get("base") or MISSING),
        "normalizer": distinct(f"{one.get('normalizer')} {one.get('normalizer_version', '')}" for one in sets),
        "intervals and comparisons over": distinct(f"{unit['unit']}s" for unit in units if unit.get("unit")),
        "decoding": pairs_of(header.get("decoding")),
        "task": str(header.get("task") or MISSING),
        "device": str(header.get("device") or MISSING),
        "seed": str(run.get("seed", MISSING)),
        "commit": str(run.get("commit") or MISSING),
        "whisper-train": str(run.get("version") or MISSING),
        "versions": pairs_of(header.get("versions") or run.get("versions")),
        "image": pairs_of(run.get("image")),
    }


def date_of(results: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """When it was measured: the results' own date, or the start of the run's last session; empty where unknown."""
    sessions = run.get("sessions") or [{}]
    return str(results.get("date") or sessions[-1].get("started") or "")


def pairs_of(values: Any) -> str:
    """{"beams": 5, "max_length": None} -> beams 5, max_length default."""
    if not isinstance(values, dict) or not values:
        return MISSING
    return ", ".join(f"{name} {'default' if value is None else value}" for name, value in values.items())


def distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values))).strip() or MISSING
