"""The French jobs on a miniature of their data: sets with the names, splits and columns of the hub, and small jobs."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import yaml

from tests.conftest import REPOSITORY
from whisper_train.create import create_base
from whisper_train.job import Architecture

STAGES = ("french-base", "french-meetings", "french-robust", "french-accents")
SECONDS = 5.0  # of a clip: seven of one speaker are a long recording
TEXTS = ["le chat dort", "il pleut encore", "nous partons demain", "elle chante bien", "voici la porte"]
ARCHITECTURE = Architecture(vocabulary_size=300, width=16, encoder_layers=1, decoder_layers=1, attention_heads=2)

# Data set -> configuration -> split -> how many clips; the first one of a set without configurations is "".
CLIPS: dict[str, dict[str, dict[str, int]]] = {
    "facebook/multilingual_librispeech": {"french": {"train": 20, "dev": 8, "test": 8}, "german": {"test": 2}},
    "google/fleurs": {
        "fr_fr": {"test": 2},
        **{config: {"train": 3, "test": 2} for config in ("en_us", "de_de", "es_419", "it_it")},
    },
    "facebook/voxpopuli": {"fr": {"train": 12, "validation": 8}},
    "PolyAI/minds14": {"fr-FR": {"train": 8}},
    "illuin/african_accented_french": {"default": {"train": 3, "test": 8}},
}
# Data set -> its columns beside `audio`, with what stands in them; "text" stands for a sentence.
COLUMNS: dict[str, dict[str, Any]] = {
    "facebook/multilingual_librispeech": {"transcript": "text", "speaker_id": "1", "chapter_id": "7"},
    "google/fleurs": {"path": "x.wav", "transcription": "text", "raw_transcription": "text", "gender": 0},
    "facebook/voxpopuli": {
        "raw_text": "",
        "normalized_text": "text",
        "speaker_id": "9",
        "gender": "f",
        "accent": "None",
    },
    "PolyAI/minds14": {"path": "x.wav", "transcription": "text", "english_transcription": "", "intent_class": 0},
    "illuin/african_accented_french": {"sentence": "text"},
}


def write_miniature(folder: Path) -> dict[str, str]:
    """Data, base and jobs below `folder`, where jobs find data sets by their names; returns the variables they use."""
    sound = np.random.default_rng(0)
    for name, configs in CLIPS.items():
        for config, splits in configs.items():
            for split, count in splits.items():
                write_split(folder / name / config / f"{split}-0.parquet", count, COLUMNS[name], sound)
        write_card(folder / name, configs)
    write_common_voice(folder / "common-voice", sound)
    create_base(ARCHITECTURE, TEXTS, 1, folder / "openai" / "whisper-large-v3")
    for stage in STAGES:
        write_small_job(folder, stage)
    return {"COMMON_VOICE": str(folder / "common-voice")}


def make_speech(sound: np.random.Generator) -> bytes:
    """A FLAC file that is no speech, but loud, and like no other."""
    time = np.arange(int(SECONDS * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * sound.uniform(100, 400) * time) * (1 + np.sin(2 * np.pi * 4 * time))
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * tone + 0.02 * sound.standard_normal(len(time)), 16_000, format="FLAC")
    return buffer.getvalue()


def write_split(path: Path, count: int, columns: Mapping[str, Any], sound: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values: dict[str, list[Any]] = {"audio": [{"bytes": make_speech(sound), "path": "x.flac"} for _ in range(count)]}
    for name, value in columns.items():
        values[name] = [TEXTS[number % len(TEXTS)] if value == "text" else value for number in range(count)]
    pq.write_table(pa.table(values), path)


def write_card(folder: Path, configs: Mapping[str, Mapping[str, int]]) -> None:
    """README.md as the hub wants it: which files are which split of which configuration."""
    listed = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": f"{config}/{split}-*"} for split in splits],
            **({"default": True} if config == "default" else {}),
        }
        for config, splits in configs.items()
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': listed})}---\n")


def write_common_voice(folder: Path, sound: np.random.Generator) -> None:
    (folder / "clips").mkdir(parents=True)
    for split, count in (("train", 8), ("dev", 2)):
        rows = ["client_id\tpath\tsentence\taccents"]
        for number in range(count):
            name = f"{split}-{number}.flac"
            (folder / "clips" / name).write_bytes(make_speech(sound))
            rows.append(f"{split}\t{name}\t{TEXTS[number % len(TEXTS)]}\tFrançais de Belgique")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")


def write_small_job(folder: Path, stage: str) -> None:
    """The job as it is in jobs/, but of two steps, on few clips, and with nothing to be met."""
    job: dict[str, Any] = yaml.safe_load((REPOSITORY / "jobs" / f"{stage}.yaml").read_text(encoding="utf-8"))
    job.pop("gates")
    job["training"] = {"max_steps": 2, "eval_steps": 2, "generation_max_length": 8, "global_batch_size": 4}
    if stage == "french-base":
        job["averaging"] |= {"weights": [0.5, 1.0], "clips": 2}
        job["evaluation"]["long_form"] |= {"minutes": 0.5, "seconds": 31}
        job["machine"] = {"audit_workers": 1, "dataloader_num_workers": 0, "threads": 1}
    (folder / f"{stage}.yaml").write_text(yaml.safe_dump(job, allow_unicode=True, sort_keys=False), encoding="utf-8")
