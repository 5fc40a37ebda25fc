"""An evaluation folder as a run leaves it: results.json, transcriptions, audio, run.json, audit and training log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from whisper_train.paths import write_json

WHO = ("der Mann", "die Frau", "das Kind", "ein Hund", "meine Nachbarin", "der alte Bäcker")
DOES = ("sucht", "findet", "kauft", "malt", "verkauft")
WHAT = ("den Apfel", "das Buch", "ein Bild", "zwei Eier", "die Uhr", "das größte Fahrrad")
HEARD_WRONG = {"den": "denn", "das": "dass", "größte": "Größte", "Uhr": "Ohr", "Eier": "Eyer"}
DIGEST = "4f2a91c07be3d65a8e1f0b7c9d2e3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b"


def sentence(number: int) -> str:
    where = " am Montag vor dem Rathaus" if number % 3 == 0 else ""
    return f"{WHO[number % 6].capitalize()} {DOES[number % 5]} {WHAT[number % 7 % 6]}{where}."


def hear_well(number: int) -> str:
    """What a good model hears: now and then a wrong word, a missing one, or one too many."""
    words = sentence(number).split()
    if number % 4 == 0:
        words = [HEARD_WRONG.get(word, word) for word in words]
    if number % 10 == 3:
        del words[1]
    if number % 12 == 5:
        words.insert(2, "auch")
    return " ".join(words)


def hear_badly(number: int) -> str:
    if number % 20 == 7:
        return " ".join(["und dann"] * 40)
    return " ".join(word[::-1].lower() if place % 4 else word for place, word in enumerate(sentence(number).split()))


def write_audio(cache: Path, clips: int, seconds: float = 1.0) -> None:
    folder = cache / "synthetic"
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(16_000 * seconds)) / 16_000
    for number in range(clips):
        tone = 0.3 * np.sin(2 * np.pi * (180 + 5 * number) * time)
        soundfile.write(folder / f"{number:06}.wav", tone, 16_000)


def clip_line(number: int, hypothesis: str, **changes: Any) -> dict[str, Any]:
    line = {
        "clip": f"{number:06}.wav",
        "position": number,
        "reference": sentence(number),
        "hypothesis": hypothesis,
        "language": "de",
        "speaker": f"de+m{number % 3 + 1}",
        "recording": "",
        "tags": {"accent": "bavarian" if number % 2 else "saxon"},
        "source": 0,
        "seconds": 1.0 + number % 9,
        "compute_seconds": 0.04,
        "audio": f"cache:synthetic/{number:06}.wav",
        "row_group": -1,
        "row": -1,
        "audio_hash": 1_000 + number,
    }
    return line | changes


def write_transcription(folder: Path, label: str, set_name: str, lines: list[dict[str, Any]]) -> Path:
    header = {
        "transcription": 1,
        "label": label,
        "model": "models/demo" if label == "tuned" else "models/demo-base",
        "model_digest": DIGEST,
        "set": set_name,
        "set_digest": DIGEST,
        "job": "demo",
        "language": "de",
        "task": "transcribe",
        "sources": ["synthetic: speech by espeak-ng"],
        "revisions": [None],
        "decoding": {"batch_size": 16, "beams": 5, "max_length": None, "precision": "fp32"},
        "device": "cpu",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    }
    path = folder / "transcriptions" / label / f"{set_name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return path


def figures(wer: float, spread: float) -> dict[str, Any]:
    """One model's figures on one set, around the given WER."""
    rates = {"wer": wer, "cer": wer * 0.42, "mer": wer * 0.95, "wil": min(wer * 1.3, 1.0)}
    edits = round(1460 * wer)
    counts = {"words": 1460, "substitutions": edits // 2, "deletions": edits // 4, "insertions": edits // 4}
    cer = rates["cer"]
    return {
        **rates,
        "wer_interval": [max(wer - spread, 0.0), wer + 1.2 * spread],
        "cer_interval": [max(cer - spread / 2, 0.0), cer + spread / 2],
        **counts,
        "hits": 1460 - edits,
        "real_time_factor": 0.031,
        "hallucination": {"loops": edits // 100, "too_long": edits // 200, "clips": edits // 90, "share": wer / 20},
        "by_normalizer": {
            name: {"version": "1", **{key: rate * factor for key, rate in rates.items()}, **counts}
            for name, factor in (("raw", 1.9), ("whisper-basic", 1.0), ("german", 0.9))
        },
    }


def slice_rows(values: tuple[str, ...], wer: float) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "clips": 80 - 9 * place,
            "words": 320 + 20 * place,
            "wer": wer * (1.6 - 0.3 * place),
            "wer_interval": [wer * (1.1 - 0.3 * place), wer * (2.3 - 0.3 * place)],
            "baseline_wer": 0.75 - 0.05 * place,
        }
        for place, value in enumerate(values)
    ]


def set_result(wer: float, before: float, digest: str = DIGEST) -> dict[str, Any]:
    compared = {"before": before, "after": wer, "difference": wer - before, "interval": [-0.76, -0.69]}
    compared |= {"p_value": 0.0001, "certain": True, "unit": "clip", "units": 240, "needed_units": None}
    return {
        "clips": 240,
        "seconds": 396.1,
        "speakers": 3,
        "sources": ["synthetic: speech by espeak-ng"],
        "revisions": [None],
        "digest": digest,
        "augment": None,
        "normalizer": "whisper-basic",
        "normalizer_version": "1",
        **figures(wer, 0.0065),
        "baseline": figures(before, before / 20),
        "others": {},
        "comparison": {
            "wer": compared,
            "cer": compared,
            "sentence": f"WER {100 * before:.1f} → {100 * wer:.1f}, {100 - 100 * wer / before:.0f} % fewer errors,"
            " certain at 95 % (240 clips)",
        },
        "slices": {
            "duration": slice_rows(("under 2 s", "2 to 5 s", "5 to 10 s", "over 10 s"), wer),
            "speaker": slice_rows(("de+m1", "de+m2", "de+m3"), wer),
            "accent": slice_rows(("bavarian", "saxon"), wer),
        },
        "confusions": [
            {"reference": "das", "hypothesis": "dass", "count": 7},
            {"reference": "den", "hypothesis": "denn", "count": 4},
            {"reference": "", "hypothesis": "auch", "count": 3},
            {"reference": "mann", "hypothesis": "", "count": 2},
        ],
        "contamination": {"same_text": 4, "same_audio": 0, "wer_without": wer + 0.0002},
    }


def make_results(job: str = "demo", wer: float = 0.0137, **changes: Any) -> dict[str, Any]:
    gate = {"gate": "wer", "set": "hard", "limit": 0.1, "measured": wer, "met": wer <= 0.1}
    gate["sentence"] = f"WER on hard is {100 * wer:.2f} %; at most 10.00 % was asked for"
    results = {
        "version": 2,
        "job": job,
        "base": "job:demo-base",
        "language": "de",
        "promoted": wer <= 0.1,
        "gates": [gate],
        "models": {
            "tuned": {"model": f"models/{job}", "digest": DIGEST},
            "baseline": {"model": "models/demo-base", "digest": DIGEST[::-1]},
        },
        "silence": {
            "tuned": {"clips": 12, "seconds": 72.0, "words": 3, "words_per_minute": 2.5},
            "baseline": {"clips": 12, "seconds": 72.0, "words": 51, "words_per_minute": 42.5},
        },
        "sets": {"hard": set_result(wer, 0.7369), "ordinary": set_result(0.0312, 0.0295, DIGEST[::-1])},
    }
    return results | changes


def make_run() -> dict[str, Any]:
    return {
        "job": "demo",
        "status": "done",
        "seed": 42,
        "version": "0.1.0",
        "commit": "8d2949e0c1f2a3b4c5d6e7f8091a2b3c4d5e6f70",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "image": None,
        "sessions": [{"started": "2026-11-01T09:30:00+00:00", "command": ["train", "demo"], "machine": {}}],
    }


def make_averaging() -> dict[str, Any]:
    """What run.json says of a model that lies halfway between base and tuned model."""
    rates = {0.0: (0.7369, 0.0295), 0.5: (0.0137, 0.0312), 1.0: (0.0121, 0.0648)}
    curve = [
        {"weight": weight, "rates": dict(zip(("hard", "ordinary"), row, strict=True))} for weight, row in rates.items()
    ]
    return {
        "asked": {"weights": [0.5, 1.0], "clips": 200, "max_loss": 0.005},
        "chosen": 0.5,
        "within": True,
        "sentence": "0.5 of the tuned model, the rest of its base: errors on hard 73.69 % → 1.37 %, the lowest",
        "retention": ["ordinary"],
        "metrics": {"hard": "wer", "ordinary": "wer"},
        "clips": {"hard": 200, "ordinary": 200},
        "curve": curve,
    }


def make_audit() -> dict[str, Any]:
    train = {"clips": 4000, "kept": 3990, "hours": 2.91, "dropped": {"silent": 7, "duplicate": 3}, "digest": DIGEST}
    return {
        "fingerprint": DIGEST,
        "sets": {"train": train, "eval.hard": {"clips": 240, "kept": 240, "hours": 0.11, "dropped": {}}},
    }


def make_history(steps: int = 400) -> list[dict[str, Any]]:
    chance = np.random.default_rng(0)
    history: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        history.append({"step": step, "loss": 4.2 * np.exp(-step / 60) + 0.05 + 0.03 * chance.random(), "epoch": 0.1})
        if step % 50 == 0:
            wer = 0.72 * float(np.exp(-step / 70)) + 0.014
            history.append({"step": step, "eval_wer": wer, "eval_loss": 3.9 * float(np.exp(-step / 65)) + 0.09})
    return history


def make_evaluation(folder: Path, cache: Path, clips: int = 60, baseline: bool = True) -> dict[str, Any]:
    """Fills the evaluation folder `folder` and `cache`; returns the results."""
    folder.mkdir(parents=True)
    write_audio(cache, clips)
    results = make_results()
    for set_name in results["sets"]:
        write_transcription(folder, "tuned", set_name, [clip_line(n, hear_well(n)) for n in range(clips)])
        if baseline:
            write_transcription(folder, "baseline", set_name, [clip_line(n, hear_badly(n)) for n in range(clips)])
    write_json(folder / "results.json", results)
    listen = [clip_line(n, hear_badly(n), set="hard", reference="Etwas ganz anderes.") for n in (7, 9)]
    (folder / "listen.jsonl").write_text("".join(json.dumps(line) + "\n" for line in listen))
    return results


def mark_repetition(clip: Any) -> list[str]:
    """A stand-in for the scores' own definition of a hallucination."""
    return ["loop"] if clip["hypothesis"].count("und dann") > 5 else []


def find_transcriptions(folder: Path) -> list[Path]:
    """The transcription files of the evaluation folder `folder`."""
    return sorted((folder / "transcriptions").glob("*/*.jsonl"))
