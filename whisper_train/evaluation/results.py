"""results.json: every figure of an evaluation, computed from its transcription files alone."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.errors import UserError
from whisper_train.evaluation.bootstrap import rate_interval
from whisper_train.evaluation.compare import Unit, choose_unit, compare_sets
from whisper_train.evaluation.contamination import suspicious_clips
from whisper_train.evaluation.gates import judge
from whisper_train.evaluation.hallucination import find_hallucinations, heard_in_silence
from whisper_train.evaluation.normalize import VERSIONS, make_normalizer, normalizers_for
from whisper_train.evaluation.score import Scored, count_pairs, rates
from whisper_train.evaluation.slices import slice_scores
from whisper_train.evaluation.transcription import QUESTION, Transcription, as_line, heard_digest, read_transcription
from whisper_train.job import Gates
from whisper_train.job_data import LONG_FORM_SET, SILENCE_SET
from whisper_train.job_file import display
from whisper_train.paths import write_json, written_whole
from whisper_train.run_folder import now

FORMAT = 2
TUNED, BASELINE = "tuned", "baseline"  # the model that is judged, and what it is compared with
SHOWN_CONFUSIONS = 100


def write_results(
    folder: Path,
    *,
    normalizer: str,
    gates: Gates | None,
    long_form: bool = False,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Scores the evaluation folder's transcriptions into results.json and listen.jsonl; returns the results.

    Sets come in the order of `names`, all of them without; of the models those of `labels`. Joined clips are among them
    where `long_form` or a gate asks for them, or nobody could: else they may be what an earlier model heard. Without
    `gates` nothing is judged, and `promoted` is null. Raises UserError when there is nothing to score, or it does not
    belong together.
    """
    results, listen = make_results(folder, normalizer, gates, names, labels, long_form=long_form)
    with written_whole(folder / "listen.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(as_line(clip) for clip in listen)
    write_json(folder / "results.json", results)
    return results


def make_results(
    folder: Path,
    normalizer: str,
    gates: Gates | None,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    *,
    long_form: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results, and the clips whose transcripts are worth a listen."""
    files = find_transcriptions(folder)
    files = {label: files[label] for label in labels or files if label in files}
    there = [name for name in files.get(TUNED, {}) if name not in (LONG_FORM_SET, SILENCE_SET)]
    order = [name for name in names or there if name in there]
    if not order:
        raise UserError(f"{display(folder)}: holds no transcription of a model; evaluate first (make eval)")
    asked = long_form or gates is None or gates.long_form is not None
    if asked and LONG_FORM_SET in files[TUNED] and read_transcription(files[TUNED][LONG_FORM_SET]).lines:
        order.append(LONG_FORM_SET)
    headers: dict[str, dict[str, Any]] = {}
    listen: list[dict[str, Any]] = []
    results: dict[str, Any] = {"version": FORMAT, "date": now(), "sets": {}}
    for name in order:
        read = {label: read_transcription(sets[name]) for label, sets in files.items() if name in sets}
        headers |= {label: transcription.header for label, transcription in read.items()}
        results["sets"][name], suspicious = set_result(read, normalizer)
        listen += [{"set": name, **clip} for clip in suspicious]
    if LONG_FORM_SET in order:
        add_parts_alone(results["sets"][LONG_FORM_SET], files, order[:-1], normalizer)
    tuned = headers[TUNED]
    results |= {key: tuned.get(key) for key in ("job", "language", "decoding", "versions")}
    results["base"] = headers.get(BASELINE, {}).get("model")
    results["models"] = {
        label: {"model": header.get("model"), "digest": header.get("model_digest")} for label, header in headers.items()
    }
    results["silence"] = {
        label: silence(read_transcription(sets[SILENCE_SET]).lines)
        for label, sets in files.items()
        if SILENCE_SET in sets
    }
    results["travel"] = spoken_orders(folder, list(files))
    results["gates"] = judge(gates, results, names or ()) if gates else []
    results["promoted"] = all(gate["met"] for gate in results["gates"]) if gates else None
    return results, listen


def spoken_orders(folder: Path, labels: Sequence[str]) -> dict[str, Any] | None:
    """What was found in spoken travel orders; None where there are none (evaluation.travel)."""
    if not any((folder / "orders").glob("*.jsonl")):
        return None
    from whisper_train.entities.speech import travel_figures

    return travel_figures(folder, labels)


def add_parts_alone(
    result: dict[str, Any], files: Mapping[str, Mapping[str, Path]], names: Sequence[str], normalizer: str
) -> None:
    """Adds to the joined clips' entry, under `alone`, how each model did on the same clips one by one.

    None where these were not all transcribed: `names` are the sets that were.
    """
    entries = {TUNED: result, BASELINE: result["baseline"], **result["others"]}
    for label, entry in entries.items():
        if entry is not None:
            joined = read_transcription(files[label][LONG_FORM_SET])
            entry["alone"] = parts_alone(
                joined, [files[label][name] for name in names if name in files[label]], normalizer
            )


def parts_alone(joined: Transcription, paths: Sequence[Path], normalizer: str) -> dict[str, Any] | None:
    """`set`, `clips`, `wer` and `cer` of the clips that `joined` is made of, as the same model heard each by itself."""
    positions = {position for line in joined.lines for position in line.get("parts", [])}
    for path in paths:
        transcription = read_transcription(path)
        header = transcription.header
        if any(header.get(key) != joined.header.get(key) for key in ("set_digest", "augment", "model_digest")):
            continue
        lines = [line for line in transcription.lines if line["position"] in positions]
        if len(lines) < len(positions):
            return None
        pairs = [(line["reference"], line["hypothesis"]) for line in lines]
        scored = rates(count_pairs(pairs, [normalizer])[normalizer])
        return {"set": header["set"], "clips": len(lines), "wer": scored["wer"], "cer": scored["cer"]}
    return None


def file_figures(transcription: Transcription, normalizers: Sequence[str]) -> dict[str, Any]:
    """The rates of a single file under each of `normalizers`; without any, under those of its languages."""
    lines = transcription.lines
    names = normalizers or normalizers_for(languages_of(transcription))
    scores = count_pairs(
        [(line["reference"], line["hypothesis"]) for line in lines], names, len(os.sched_getaffinity(0))
    )
    by_normalizer = {name: {"version": VERSIONS[name], **rates(scored)} for name, scored in scores.items()}
    return {"clips": len(lines), "hallucination": hallucination(lines), "by_normalizer": by_normalizer}


def find_transcriptions(folder: Path) -> dict[str, dict[str, Path]]:
    """Label -> set -> file, the judged model first, then the baseline."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted((folder / "transcriptions").glob("*/*.jsonl")):
        found.setdefault(path.parent.name, {})[path.stem] = path
    first = [label for label in (TUNED, BASELINE) if label in found]
    return {label: found[label] for label in [*first, *sorted(found.keys() - set(first))]}


def set_result(read: Mapping[str, Transcription], normalizer: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One set's entry: the judged model's figures, the baseline's, the others', and how they compare.

    And its clips that are worth a listen, since the baseline disagrees with their transcripts.
    """
    tuned = read[TUNED]
    lines, header = tuned.lines, tuned.header
    normalizers = list(dict.fromkeys([*normalizers_for(languages_of(tuned)), normalizer]))
    scores = {
        label: count_pairs(aligned(transcription, tuned), normalizers, len(os.sched_getaffinity(0)))
        for label, transcription in read.items()
    }
    unit = choose_unit(column(lines, "speaker"), within_source(lines, "recording"), within_source(lines, "clip"))
    own = scores[TUNED][normalizer]
    before = scores[BASELINE][normalizer] if BASELINE in scores else None
    shown = {label: figures(scores[label], read[label].lines, normalizer, unit) for label in read}
    result = {
        "clips": len(lines),
        "languages": languages_of(tuned),
        "seconds": round(sum(line.get("seconds") or 0.0 for line in lines), 3),
        "longest_seconds": max((line.get("seconds") or 0.0 for line in lines), default=0.0),
        "speakers": len(set(filter(None, column(lines, "speaker")))),
        "sources": header.get("sources", []),
        "revisions": header.get("revisions", []),
        "digest": heard_digest(header),
        "augment": header.get("augment"),
        "normalizer": normalizer,
        "normalizer_version": VERSIONS[normalizer],
        "unit": unit.name,
        **shown.pop(TUNED),
        "baseline": shown.pop(BASELINE, None),
        "others": shown,
        "comparison": compare_sets(before, own, unit) if before else None,
        "slices": slice_scores(
            lines,
            header.get("sources", []),
            own.words.edits,
            own.words.units,
            unit.groups,
            before.words.edits if before else None,
        ),
        "confusions": most_confused(own.confusions),
        "contamination": contamination(header, lines, own),
    }
    if before is None or header.get("set") == LONG_FORM_SET:
        return result, []
    heard = column(read[BASELINE].lines, "hypothesis")
    normalize = make_normalizer(normalizer)
    return result, suspicious_clips(lines, heard, before.characters, own.characters, normalize)


def figures(scores: Mapping[str, Scored], lines: list[dict[str, Any]], normalizer: str, unit: Unit) -> dict[str, Any]:
    """What one model reached on one set."""
    own = scores[normalizer]
    audio = sum(line.get("seconds") or 0.0 for line in lines)
    spent = sum(line.get("compute_seconds") or 0.0 for line in lines)
    return {
        **rates(own),
        "wer_interval": rate_interval(own.words.edits, own.words.units, unit.groups),
        "cer_interval": rate_interval(own.characters.edits, own.characters.units, unit.groups),
        "real_time_factor": round(spent / audio, 5) if audio and spent else None,
        "hallucination": hallucination(lines),
        "by_normalizer": {name: {"version": VERSIONS[name], **rates(scored)} for name, scored in scores.items()},
    }


def hallucination(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = [float(line.get("seconds") or np.nan) for line in lines]
    return find_hallucinations(column(lines, "reference"), column(lines, "hypothesis"), seconds).as_dict()


def silence(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return heard_in_silence(column(lines, "hypothesis"), [line["seconds"] for line in lines])


def aligned(transcription: Transcription, tuned: Transcription) -> list[tuple[str, str]]:
    """(reference, hypothesis) of each clip; raises UserError when the models were not asked the same."""
    lines, header = tuned.lines, tuned.header
    same_clips = all(column(transcription.lines, name) == column(lines, name) for name in ("clip", "reference"))
    same_way = all(transcription.header.get(key) == header.get(key) for key in QUESTION)
    if not (same_clips and same_way):
        label = transcription.header.get("label")
        raise UserError(
            f"{header.get('set')}: {label} and {TUNED} transcribed other clips, or otherwise; evaluate again"
        )
    return [(line["reference"], line["hypothesis"]) for line in transcription.lines]


def column(lines: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return [str(line.get(name) or "") for line in lines]


def within_source(lines: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """What a source calls its clips or recordings, told from what another source calls the same."""
    return [f"{line.get('source', 0)}:{line[name]}" if line.get(name) else "" for line in lines]


def languages_of(transcription: Transcription) -> list[str]:
    spoken = {line.get("language") or transcription.header.get("language") or "" for line in transcription.lines}
    return sorted(spoken - {""})


def most_confused(confusions: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"reference": said, "hypothesis": heard, "count": count}
        for (said, heard), count in sorted(confusions.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_CONFUSIONS]
    ]


def contamination(
    header: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], scored: Scored
) -> dict[str, Any] | None:
    """How many clips were trained on too, and the WER of the others; None where that is not known."""
    seen = header.get("contamination")
    if seen is None:
        return None
    known = {*seen["same_text"], *seen["same_audio"]}
    clean = np.array([line["position"] not in known for line in lines], bool)
    units = int(scored.words.units[clean].sum())
    without = float(scored.words.edits[clean].sum() / units) if units and not clean.all() else None
    counts = {}
    for kind in ("same_text", "same_audio"):
        positions = set(seen[kind])
        counts[kind] = sum(line["position"] in positions for line in lines)
    return {**counts, "wer_without": without}
