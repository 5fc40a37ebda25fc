"""What every way starts from: the same clips, the same random weights, the same held-out clips."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.options import Options
from benchmarks.training.ways import Way
from whisper_train.create import create_model, create_processor
from whisper_train.data.index import Index
from whisper_train.data.order import block_numbers
from whisper_train.data.prepare import index_path, prepare_data
from whisper_train.data.synthetic import synthesize
from whisper_train.data.windows import group_clips
from whisper_train.job import MAX_LABEL_TOKENS, Job
from whisper_train.job_data import MAX_WINDOW_SECONDS, Synthetic, Windows
from whisper_train.labels import PROMPT_AND_END
from whisper_train.paths import write_text

SYNTHETIC_CLIPS = 400
# About as long as read sentences are, in German as espeak-ng speaks it.
SPEECH: dict[str, Any] = {
    "sentences": ["{when} {does} {who} {where} {what}, und {then}", "{who} {does} {when} {what}, denn {then}"],
    "words": {
        "who": ["der alte Bäcker", "meine Schwester", "die neue Lehrerin", "unser Nachbar", "das kleine Mädchen"],
        "does": ["sucht", "findet", "verkauft", "bringt", "zeigt", "malt"],
        "what": ["einen grünen Apfel", "das rote Fahrrad", "zwei schwere Koffer", "ein Glas Wasser", "die alte Uhr"],
        "when": ["heute", "am Montag", "gestern Abend", "im Winter", "kurz nach neun Uhr"],
        "where": ["im Garten", "auf dem Markt", "am Bahnhof", "in der Küche", "hinter der Schule"],
        "then": ["alle freuen sich", "niemand sagt etwas", "es regnet schon wieder", "der Zug fährt bald"],
    },
    "voices": ["de", "de+m3", "de+f2", "de+f4"],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Where the start weights and the clips lie, and what they are."""

    base: Path
    train: Path  # manifest of the clips that the audit kept
    held_out: Path
    train_index: Path
    held_out_index: Path
    clips: int
    hours: float
    parameters: int

    @property
    def mean_seconds(self) -> float:
        return 3600 * self.hours / self.clips

    def windows_an_update(self, way: Way, batch_clips: int, seed: int) -> int:
        """How many windows of `way` hold about `batch_clips` clips."""
        if "windows" not in way.data:
            return batch_clips
        index = Index(self.train_index, None)
        settings = Windows(**way.data["windows"])
        seconds = way.data.get("window_seconds", MAX_WINDOW_SECONDS)
        grouping = group_clips(index, block_numbers(index), settings, seconds, MAX_LABEL_TOKENS, seed)
        return max(1, round(batch_clips * len(grouping) / len(index)))

    def facts(self) -> dict[str, Any]:
        return {
            "training_clips": self.clips,
            "training_hours": round(self.hours, 4),
            "mean_clip_seconds": round(self.mean_seconds, 3),
            "held_out_clips": len(Index(self.held_out_index, None)),
            "parameters": self.parameters,
        }


def make_material(options: Options, folder: Path, cache: Path, say: Callable[[str], None]) -> Material:
    """Writes the start weights and audited manifests to `folder`; raises UserError for clips that cannot be used."""
    sources = find_sources(options, cache)
    base, parameters = make_base(options, folder / "base", [*texts_of(sources["train"])])
    job = Job.model_validate(
        {
            "name": "material",
            "language": options.language,
            "base": str(base),
            "data": {"train": [sources["train"]], "eval": {"held-out": [sources["held-out"]]}},
        }
    )
    data = folder / "data"
    data.mkdir(parents=True)
    tokenizer = create_tokenizer(base)
    prepare_data(
        job,
        data,
        cache=folder,  # so that the indexes name every file in full
        count_tokens=lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) + PROMPT_AND_END,
        max_tokens=MAX_LABEL_TOKENS,
        window_seconds=MAX_WINDOW_SECONDS,
        say=say,
    )
    indexes = {name: index_path(data, name) for name in ("train", "eval.held-out")}
    train = Index(indexes["train"], None)
    return Material(
        base=base,
        train=write_manifest(train, folder / "train.jsonl"),
        held_out=write_manifest(Index(indexes["eval.held-out"], None), folder / "held-out.jsonl"),
        train_index=indexes["train"],
        held_out_index=indexes["eval.held-out"],
        clips=len(train),
        hours=float(np.sum(train.column("seconds"))) / 3600,
        parameters=parameters,
    )


def find_sources(options: Options, cache: Path) -> dict[str, dict[str, Any]]:
    """The sources of the training and the held-out clips, as a job names them."""
    held_out = f"[:{options.held_out_clips}]"
    if options.data:
        manifest = str((options.data / "manifest.jsonl").absolute())
        train = "train" + (f"[:{options.clips}]" if options.clips else "")
        return {
            "train": {"manifest": manifest, "split": train},
            "held-out": {"manifest": manifest, "split": f"val{held_out}"},
        }
    parts = {"train": options.clips or SYNTHETIC_CLIPS, "held-out": options.held_out_clips}
    recipes = {
        part: Synthetic(**SPEECH, part=part, clips=clips, seed=seed)
        for seed, (part, clips) in enumerate(parts.items(), options.seed)
    }
    return {part: {"manifest": str(synthesize(recipe, cache, "de"))} for part, recipe in recipes.items()}


def texts_of(source: dict[str, Any]) -> list[str]:
    lines = Path(source["manifest"]).read_text(encoding="utf-8").splitlines()
    return [str(json.loads(line)["text"]) for line in lines if line.strip()]


def make_base(options: Options, folder: Path, texts: list[str]) -> tuple[Path, int]:
    """The folder of a Whisper from random weights with as many words as the published ones, and its parameters."""
    processor = create_processor(options.architecture, texts)
    processor.tokenizer.pad_token = processor.tokenizer.eos_token  # as in the published ones
    model = create_model(options.architecture, processor, options.seed)
    if options.vocabulary > model.config.vocab_size:
        model.resize_token_embeddings(options.vocabulary, mean_resizing=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, int(model.num_parameters())


def create_tokenizer(base: Path) -> Any:
    from whisper_train.model import load_processor

    return load_processor(str(base)).tokenizer


def write_manifest(index: Index, path: Path) -> Path:
    """The clips of an audited index as a manifest with absolute paths, which any way can read."""
    rows = [{key: row[key] for key in ("audio", "text", "speaker", "seconds")} for row in index]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
