"""Wrong input: each kind ends with status 2 and one message that names file, key, value and the way out."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from tests.conftest import TINY_ARCHITECTURE, RunCli
from whisper_train.job_file import merge

GOOD_JOB: dict[str, Any] = {
    "language": "en",
    "base": "new",
    "architecture": TINY_ARCHITECTURE,
    "data": {"train": [{"manifest": "train.jsonl"}], "eval": [{"manifest": "eval.jsonl"}]},
    "training": {"global_batch_size": 2, "max_steps": 1, "eval_strategy": "no"},
    "machine": {"audit_workers": 1},
}
GOOD_FLAT = {"lang": "en", "dataset_name": "train.jsonl", "model_name": "whisper-tiny", "whisper_pretrained": "./base"}


def job(change: str = "") -> str:
    """The text of a good job with `change`, a piece of YAML, laid over it."""
    return yaml.safe_dump(merge(GOOD_JOB, yaml.safe_load(change) or {}), allow_unicode=True)


def based(change: str) -> str:
    """The text of a good job that starts from a folder."""
    return yaml.safe_dump(yaml.safe_load(job(change)) | {"base": "./base", "architecture": None}, allow_unicode=True)


def without(*keys: str) -> str:
    return yaml.safe_dump({key: value for key, value in GOOD_JOB.items() if key not in keys})


def train_on(source: str) -> str:
    """The text of a good job that trains on `source`, a piece of YAML."""
    return job(f"data: {{train: [{source}]}}")


def flat(**changes: Any) -> str:
    return yaml.safe_dump(GOOD_FLAT | changes)


@cache
def wav(pitch: float = 220.0, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    time = np.arange(round(seconds * 16_000)) / 16_000
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * pitch * time), 16_000, format="WAV")
    return bytes(file.getvalue())


def parquet(columns: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return bytes(file.getvalue())


def damaged(content: bytes, column: str) -> bytes:
    """A Parquet file whose footer is whole and whose pages of `column` are not."""
    chunk = next(
        chunk
        for chunk in map(pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column, range(2))
        if chunk.path_in_schema == column
    )
    start, size = int(chunk.dictionary_page_offset or chunk.data_page_offset), int(chunk.total_compressed_size)
    return content[:start] + b"\xff" * size + content[start + size :]


def clips(*names: str) -> str:
    return "".join(f'{{"audio": "{name}", "text": "one"}}\n' for name in names)


# Beside every case's own files: two sets of clips that are as they should be.
GOOD_FILES: dict[str, str | bytes] = {
    "a.wav": wav(220),
    "b.wav": wav(330),
    "c.wav": wav(440),
    "d.wav": wav(550),
    "train.jsonl": clips("a.wav", "b.wav"),
    "eval.jsonl": clips("c.wav", "d.wav"),
}


@dataclass(frozen=True)
class Bad:
    """One kind of wrong input: what lies there, what is typed, and what the message must hold."""

    id: str
    files: dict[str, str | bytes]
    command: str
    says: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def bad(
    id: str, files: str | dict[str, str | bytes], *says: str, run: str = "check job.yaml", **environment: str
) -> Bad:
    return Bad(id, {"job.yaml": files} if isinstance(files, str) else files, run, says, environment)


def bad_data(id: str, source: str, *says: str, files: dict[str, str | bytes] | None = None) -> Bad:
    return Bad(id, {"job.yaml": train_on(source), **(files or {})}, "train job.yaml", says)


def bad_flat(id: str, text: str, *says: str, flags: str = "") -> Bad:
    return Bad(id, {"config.yaml": text}, f"train --config config.yaml {flags}", says)


YAML = [
    bad("no such job", {}, "gone", "no such job", run="check gone"),
    bad("mistyped name of a job", {}, "did you mean demo?", run="check dmo"),
    bad("empty file", "", "job.yaml: is empty"),
    bad("only comments", "# later\n", "job.yaml: is empty"),
    bad("list at the top", "- language: de\n", "job.yaml: holds list, not keys and values"),
    bad("text at the top", "german\n", "job.yaml: holds str"),
    bad("tab as indentation", "data:\n\ttrain: []\n", "job.yaml:2: not valid YAML", "'\\t'"),
    bad("open bracket", "data: [\n", "job.yaml:2: not valid YAML"),
    bad("colon within a value", "name: a: b\n", "job.yaml:1: not valid YAML"),
    bad("key given twice", job() + "\nlanguage: de\n", "job.yaml:", "key 'language' is given twice"),
    bad("key that is no text", "1: 2\n", "job.yaml:1", "key 1 is not text"),
    bad("not UTF-8", {"job.yaml": b"language: fran\xe7ais\n"}, "job.yaml: is not UTF-8 text (byte 14)"),
    bad("binary", {"job.yaml": b"\x00\x01\x02"}, "job.yaml: not valid YAML"),
    bad("variable without quotes", "data: {train: [{folder: ${X}/a}]}", "job.yaml:1: not valid YAML", "in quotes"),
    bad("unknown tag", "name: !!python/object:os.system x\n", "job.yaml:1: not valid YAML"),
    bad("unknown alias", "name: *speech\n", "job.yaml:1: not valid YAML", "speech"),
]

KEYS = [
    bad("mistyped key", job("langauge: de"), "job.yaml: langauge: unknown key; did you mean language?"),
    bad(
        "mistyped nested key",
        job("model: {freez: [encoder]}"),
        "model.freez",
        "did you mean freeze?",
    ),
    bad("mistyped key of a source", train_on("{manifest: train.jsonl, text_colum: x}"), "did you mean text_column?"),
    bad(
        "mistyped training key",
        job("training: {learning_rte: 1e-4}"),
        "job.yaml: training.learning_rte: unknown key; did you mean learning_rate?",
    ),
    bad("unlike any training key", job("training: {zzz: 1}"), "training.zzz: unknown key; see docs/training.md"),
    bad(
        "renamed by transformers",
        job("training: {evaluation_strategy: steps}"),
        "evaluation_strategy",
        "use eval_strategy",
    ),
    bad("warm-up as a ratio", job("training: {warmup_ratio: 0.1}"), "warmup_ratio", "use warmup_steps"),
    bad(
        "key the program sets", job("training: {output_dir: x}"), "training.output_dir: set by the program", "MODEL_DIR"
    ),
    bad("token in a job", job("training: {hub_token: hf_x}"), "training.hub_token", "HF_TOKEN", ".env"),
    bad("missing language", without("language"), "job.yaml: language: is missing; add it"),
    bad("missing data", without("data"), "job.yaml: data: is missing; add it"),
    bad("missing eval sets", job("data: {eval: null}"), "job.yaml: data.eval: is missing; add it"),
    bad(
        "nothing to train on",
        job("data: {train: []}"),
        "job: data.train: is missing",
        "make eval",
        run="train job.yaml",
    ),
    bad("no base", without("base", "architecture"), "job.yaml: base: is missing; add it"),
    bad("training keys as a list", job("training: [1]"), "job.yaml: training: [1]: must hold keys and values"),
    bad(
        "eval set without a name of letters",
        job("data: {eval: {'a b': [{manifest: eval.jsonl}]}}"),
        "job.yaml: data.eval.a b: 'a b': use letters",
    ),
]

VALUES = [
    bad(
        "number as text",
        job("training: {learning_rate: fast}"),
        "job.yaml: training.learning_rate: 'fast': must be a number",
    ),
    bad(
        "list as number", job("training: {max_steps: [1]}"), "job.yaml: training.max_steps: [1]: must be a whole number"
    ),
    bad("section as text", job("training: quick"), "job.yaml: training: 'quick': must hold keys and values"),
    bad("data as a list", job("data: [1]"), "job.yaml: data: [1]: must hold keys and values"),
    bad("text as switch", job("machine: {gradient_checkpointing: maybe}"), "gradient_checkpointing", "'maybe'"),
    bad("text as list", job("model: {freeze: encoder}"), "model.freeze", "must be a list"),
    bad("half a step", job("training: {max_steps: 1.5}"), "training.max_steps: 1.5: must be a whole number"),
    bad(
        "no finite number",
        job("training: {learning_rate: .nan}"),
        "training.learning_rate: nan: must be a finite number",
    ),
    bad(
        "negative learning rate",
        job("training: {learning_rate: -1}"),
        "training.learning_rate: -1: must not be negative",
    ),
    bad("negative seed", job("training: {seed: -1}"), "training.seed: -1: must not be negative"),
    bad("batch of none", job("training: {global_batch_size: 0}"), "training.global_batch_size: 0: must be more than 0"),
    bad("unknown choice", job("training: {eval_strategy: often}"), "'often': must be one of no, steps, epoch"),
    bad(
        "unknown schedule",
        job("training: {lr_scheduler_type: lienar}"),
        "training.lr_scheduler_type",
        "'lienar'",
        "linear",
    ),
    bad("unknown optimizer", job("training: {optim: adamw_touch}"), "training.optim", "'adamw_touch'", "adamw_torch"),
    bad("unknown language", job("language: germann"), "job.yaml: language: germann", "did you mean german?"),
    bad("neither true nor false", job("gates: {significant: yep}"), "gates.significant: 'yep': must be true or false"),
    bad(
        "unlike any language", job("language: hochdeutsch"), "language: hochdeutsch: not a", "code or its English name"
    ),
    bad(
        "part of a list by --set",
        job(),
        "--set data.train.0.manifest=x: data.train: must be a list, which --set replaces whole: --set 'data.train=[{",
        run="check job.yaml --set data.train.0.manifest=x",
    ),
    bad("language: no", job("language: no"), "language: False", "put it in quotes"),
    bad(
        "language of a source", train_on("{manifest: x.csv, language: xx}"), "data.train.0.language: xx: not a language"
    ),
    bad("name with a slash", job("name: a/b"), "job.yaml: name: 'a/b': use letters"),
    bad(
        "a gate on a set that is not there", based("gates: {retention: {sets: [french]}}"), "retention.sets: french: no"
    ),
    bad("retention with one set", based("gates: {retention: {}}"), "gates.retention: needs a second set"),
    bad("a comparison with no base", job("gates: {significant: true}"), "gates.significant: compares with the base"),
    bad(
        "long recordings of a set that is not there",
        based("evaluation: {long_form: {set: french}}"),
        "evaluation.long_form.set: french: no such set; data.eval has",
    ),
    bad(
        "joined clips no longer than a window",
        based("evaluation: {long_form: {seconds: 30}}"),
        "evaluation.long_form.seconds: 30",
    ),
    bad(
        "long recordings that nothing judges",
        based("gates: {long_form: {max_worse: null}}"),
        "gates.long_form: max_worse: is null, and so is max_worse_than_clips",
    ),
    bad(
        "a pause that ends before it begins",
        job("data: {windows: {pause_seconds: [1, 0.5]}}"),
        "data.windows: pause_seconds: [1, 0.5]: give [low, high]",
    ),
    bad(
        "an eval set with a name of ours", job("data: {eval: {silence: [{manifest: eval.jsonl}]}}"), "silence: is what"
    ),
    bad("gate in per cent", job("gates: {wer: 4.77}"), "job.yaml: gates.wer: 4.77", "4.77 % is 0.0477"),
    bad("unknown normalizer", job("evaluation: {normalizer: none}"), "evaluation.normalizer: 'none'", "whisper-basic"),
    bad("clips beyond the window", job("data: {max_seconds: 60}"), "data.max_seconds: 60", "30"),
    bad(
        "share above one",
        job("data: {max_dropped_fraction: 5}"),
        "data.max_dropped_fraction: 5",
        "less than or equal to 1",
    ),
    bad("unknown precision", job("machine: {precision: int8}"), "job.yaml: machine.precision: 'int8'", "bf16"),
    bad("no processes", job("machine: {processes: 0}"), "job.yaml: machine.processes", "1 or more"),
    bad("bad split", train_on("{manifest: x.csv, split: 'train[10%'}"), "data.train.0.split", "name[:95%]"),
    bad("two kinds of source", train_on("{manifest: x.csv, folder: y}"), "data.train.0", "has manifest and folder"),
    bad(
        "no kind of source", train_on("{split: train}"), "data.train.0: needs exactly one of hub, manifest", "has none"
    ),
    bad("streamed manifest", train_on("{manifest: x.csv, streaming: true}"), "streaming: only a hub source has one"),
    bad("weight of zero", train_on("{manifest: x.csv, weight: 0}"), "data.train.0.weight: 0", "greater than 0"),
    bad(
        "slot without words",
        train_on("{synthetic: {sentences: ['{wer} kommt'], voices: [de], clips: 1}}"),
        "data.train.0.synthetic: words: no list for the slot {wer}; add words.wer",
    ),
    bad(
        "speed beyond espeak",
        train_on("{synthetic: {sentences: [a], voices: [de], clips: 1, words_per_minute: [300, 9]}}"),
        "words_per_minute: [300, 9]",
    ),
    bad("seed beyond numpy", job("training: {seed: 4294967296}"), "training.seed: 4294967296: must be less than"),
    bad("source that is no list", job("data: {train: {manifest: x.csv}}"), "data.train", "must be a list", "dash"),
    bad("date as a name", job("name: 2026-01-01"), "job.yaml: name", "string"),
    bad("processes as a word", job("machine: {processes: many}"), "job.yaml: machine.processes", "'many'", "'all'"),
    bad("no epoch", job("training: {num_train_epochs: 0}"), "training.num_train_epochs: 0: must be more than 0"),
    bad("no beam", job("training: {generation_num_beams: 0}"), "training.generation_num_beams: 0: must be more than 0"),
    bad(
        "optimizer that is not installed",
        job("training: {optim: lomo}"),
        "training.optim: ",
        "lomo",
        run="train job.yaml",
    ),
    bad("options of no optimizer", job("training: {optim_args: fast}"), "training.optim: ", run="train job.yaml"),
    bad(
        "option of no schedule",
        job("training: {lr_scheduler_kwargs: {foo: 1}}"),
        "training.lr_scheduler_type: ",
        "'foo'",
        run="train job.yaml",
    ),
    bad(
        "schedule without its option",
        job("training: {lr_scheduler_type: cosine_with_min_lr}"),
        "training.lr_scheduler_type: ",
        "min_lr",
        run="train job.yaml",
    ),
    bad(
        "unknown compiler",
        job("training: {torch_compile_backend: nope}"),
        "training.torch_compile_backend: 'NOPE' is not a valid",
        run="train job.yaml",
    ),
    bad(
        "kernels that are not installed",
        job("training: {use_liger_kernel: true}"),
        "use_liger_kernel",
        run="train job.yaml",
    ),
    bad(
        "adapters for modules that are not there",
        job("model: {lora: {target_modules: [nope]}}"),
        "model.lora.target_modules: ['nope']",
        run="train job.yaml",
    ),
    bad("unknown log level", job("training: {log_level: loud}"), "training.log_level: 'loud': must be one of detail"),
    bad(
        "empty list of words",
        train_on("{synthetic: {sentences: ['{wer} kommt'], words: {wer: []}, voices: [de], clips: 1}}"),
        "no list for the slot {wer}",
    ),
    bad(
        "brace that is not closed",
        train_on("{synthetic: {sentences: ['{wer kommt'], voices: [de], clips: 1}}"),
        "data.train.0.synthetic: sentences: '{wer kommt': write a slot as {name}",
    ),
    bad(
        "slot that is a number",
        train_on("{synthetic: {sentences: ['{0} kommt'], words: {'0': [a]}, voices: [de], clips: 1}}"),
        "write a slot as {name}",
    ),
]

TOGETHER = [
    bad("bf16 and fp16", job("training: {bf16: true, fp16: true}"), "job.yaml: training.fp16", "choose one"),
    bad(
        "best saves without evaluations",
        job("training: {eval_strategy: no, load_best_model_at_end: false, save_strategy: best}"),
        "job.yaml: training.save_strategy: best",
        "set eval_strategy",
    ),
    bad("best without evaluations", job("training: {load_best_model_at_end: true}"), "training.eval_strategy: no"),
    bad("unknown metric", job("training: {metric_for_best_model: bleu}"), "metric_for_best_model: bleu: must be wer"),
    bad("architecture of a known base", job("base: openai/whisper-tiny"), "job.yaml: architecture", "`base: new`"),
    bad("new without architecture", without("architecture"), "job.yaml: architecture", "`base: new`"),
    bad(
        "base of itself",
        without("architecture").replace("base: new", "base: job:job"),
        "base: job:job",
        "its own result",
    ),
    bad("base of no kind", without("architecture").replace("base: new", "base: tiny"), "base: tiny: give a hub id"),
    bad("heads beyond width", job("architecture: {width: 15}"), "architecture: width: 15", "attention_heads (2)"),
    bad(
        "batch that no device divides",
        job("training: {global_batch_size: 5, per_device_train_batch_size: 2}"),
        "5: must be",
    ),
    bad("batch over three ranks", job("machine: {processes: 3}"), "global_batch_size: 2", "3 processes", "multiple"),
    bad(
        "metric without generation",
        job("training: {predict_with_generate: false, metric_for_best_model: wer, eval_strategy: steps}"),
        "training.predict_with_generate: false: wer is measured by generation",
    ),
    bad(
        "two names of one key",
        job("training: {gradient_checkpointing: true, activation_checkpointing: true}"),
        "training.gradient_checkpointing: an older name of activation_checkpointing",
    ),
    bad(
        "greater word error rate",
        job("training: {greater_is_better: true}"),
        "greater_is_better: true",
        run="train job.yaml",
    ),
    bad("one and a half steps", job("training: {logging_steps: 1.5}"), "training: ", "1.5", run="train job.yaml"),
    bad(
        "unknown reporter", job("training: {report_to: [tensorbord]}"), "report_to", "tensorbord", run="train job.yaml"
    ),
]

FILES = [
    bad("extends a missing job", job("extends: gremlin"), "job.yaml: extends: gremlin: no such job beside it"),
    bad("extends a mistyped job", {"job.yaml": job("extends: germann"), "german.yaml": job()}, "did you mean german?"),
    bad("extends a list", job("extends: [a, b]"), "job.yaml: extends: ['a', 'b']: must be the name of a job"),
    bad(
        "extends in a circle",
        {"job.yaml": "extends: other\n", "other.yaml": "extends: job\n"},
        "extends: goes in a circle (job.yaml -> other.yaml -> job.yaml)",
    ),
    bad(
        "mistake in what is extended",
        {"job.yaml": "extends: other\n", "other.yaml": job("langauge: de")},
        "other.yaml: langauge: unknown key",
    ),
    bad(
        "unset variable",
        train_on("{manifest: '${CORPUS}/x.csv'}"),
        "data.train.0.manifest: ${CORPUS} is not set",
        ".env",
    ),
    bad(
        "secret in a job",
        job("name: '${HF_TOKEN}'"),
        "name: ${HF_TOKEN} looks like a secret",
        HF_TOKEN="hf_very_secret",
    ),
    bad(
        "--set without value",
        job(),
        "--set training: write it as key.subkey=value",
        run="check job.yaml --set training",
    ),
    bad("--set with bad YAML", job(), "--set name=[: the value is not valid YAML", run="check job.yaml --set name=["),
    bad(
        "--set of an unknown key",
        job(),
        "--set training.max_step=1: training.max_step: unknown key; did you mean max_steps?",
        run="check job.yaml --set training.max_step=1",
    ),
    bad("--set into text", job(), "--set name.x=1: name", run="check job.yaml --set name.x=1"),
    bad("unknown machine", job(), "MACHINE: h100: no such profile", "h200", run="check job.yaml --machine h100"),
    bad("unknown machine in .env", job(), "MACHINE: gpu: no such profile", MACHINE="gpu"),
    bad(
        "mistake in a machine profile",
        {"job.yaml": job(), "mine.yaml": "proceses: 1\n"},
        "mine.yaml: machine.proceses: unknown key; did you mean processes?",
        run="check job.yaml --machine mine.yaml",
    ),
    bad(
        "unknown DeepSpeed file",
        job("machine: {deepspeed: zero4}"),
        "machine.deepspeed: zero4",
        "zero2",
        run="train job.yaml",
    ),
    bad(
        "DeepSpeed file that is no JSON",
        {"job.yaml": job("machine: {deepspeed: ./ds.json}"), "ds.json": "{stage: 2"},
        "ds.json: is not a DeepSpeed configuration in JSON",
        run="train job.yaml",
    ),
    bad("flag of the flat form", job(), "train: --lang goes with --config", run="train job.yaml -l de"),
    bad("no job at all", {}, "train: name one job", run="train"),
    bad("job and flat file", {"config.yaml": flat()}, "train: name one job", run="train demo --config config.yaml"),
    bad("number of hosts", job(), "NNODES: two: must be a whole number", run="train job.yaml", NNODES="two"),
    bad("no address of the first host", job(), "MASTER_ADDR: is not set", run="train job.yaml", NNODES="2"),
    bad("models where a file is", job(), "MODEL_DIR", "a.wav", run="train job.yaml", MODEL_DIR="a.wav"),
    bad("cache where a file is", job(), "CACHE_DIR", "a.wav", run="train job.yaml", CACHE_DIR="a.wav"),
    bad(".env that is not UTF-8", {"job.yaml": job(), ".env": b"A=\xe9"}, ".env: cannot be read", "UTF-8"),
    bad("schema into a folder", {"x/y": ""}, "schema: x: is a folder; name a file", run="schema x"),
    bad("schema below a file", {}, "schema: ", "a.wav: cannot be created", run="schema a.wav/schema.json"),
    bad("configuration that is not there", job(), "CONFIG_DIR", "gone", CONFIG_DIR="gone"),
    bad(
        "foreign model in the run folder",
        {"job.yaml": job(), "models/job/config.json": "{}"},
        "choose another name",
        run="train job.yaml",
    ),
    bad(
        "another run in the run folder",
        {"job.yaml": job(), "models/job/job.yaml": "{language: de}"},
        "models/job: holds a run with",
        "another name",
        run="train job.yaml",
    ),
]


def from_base(base: str) -> str:
    return without("architecture").replace("base: new", f"base: {base}")


BASES = [
    bad("base folder that is not there", from_base("./gone"), "base: ", "gone: no such folder", run="train job.yaml"),
    bad(
        "folder of another model",
        {"job.yaml": from_base("./bert"), "bert/config.json": '{"model_type": "bert"}'},
        "bert: is a bert model, not Whisper",
        run="train job.yaml",
    ),
    bad(
        "folder with a broken config",
        {"job.yaml": from_base("./broken"), "broken/config.json": "{"},
        "base: ",
        "config.json",
        run="train job.yaml",
    ),
    bad(
        "empty folder",
        {"job.yaml": from_base("./empty"), "empty/x": ""},
        "empty: cannot be loaded",
        run="train job.yaml",
    ),
    bad(
        "base that is a folder of the working directory",
        {"mine/j.yaml": from_base("tuned/first"), "tuned/first/config.json": "{}"},
        "mine/j.yaml: base: tuned/first: paths in a job are relative to its file; write ../tuned/first for the folder",
        run="train mine/j.yaml",
    ),
    bad(
        "base that is another job's folder",
        {"mine/j.yaml": from_base("models/first"), "models/first/config.json": "{}"},
        "mine/j.yaml: base: models/first: ",
        "write job:first for the result of that job",
        run="check mine/j.yaml",
    ),
    bad("job that is not there to check", from_base("job:gone"), "job: base: job:gone: no such job in "),
    bad("job that is not there", from_base("job:gone"), "base: job:gone", "no such job", run="train job.yaml"),
    bad(
        "processor that is not there",
        job("architecture: {processor: ./gone}"),
        "processor",
        "gone",
        run="train job.yaml",
    ),
    bad(
        "base that calls itself otherwise",
        {"job.yaml": from_base("job:other"), "other.yaml": job("name: strange")},
        "job: base: job:other: other.yaml calls itself strange",
        run="train job.yaml",
    ),
    bad(
        "bases in a circle",
        {"job.yaml": from_base("job:other"), "other.yaml": from_base("job:job")},
        "base: job:job: the bases go in a circle",
        run="train job.yaml",
    ),
    bad(
        "base that is not on the hub",
        from_base("nobody/nothing"),
        "base: nobody/nothing: cannot be loaded",
        "HF_TOKEN",
        run="train job.yaml",
    ),
]

FLAT = [
    bad("no flat file", {}, "gone.yaml: no such file", run="train --config gone.yaml"),
    bad_flat("empty flat file", "", "config.yaml: is empty"),
    bad_flat(
        "unknown flat key", flat(datset_name="x"), "config.yaml: datset_name: unknown key; did you mean dataset_name?"
    ),
    bad_flat(
        "flat key of transformers' past", flat(evaluation_strategy="steps"), "evaluation_strategy", "use eval_strategy"
    ),
    bad_flat("flat file without language", flat(lang=None), "config.yaml: lang: is missing; add it"),
    bad_flat("flat file without data", flat(dataset_name=None), "config.yaml: dataset_name: is missing; add it"),
    bad_flat("number as model name", flat(model_name=3), "config.yaml: model_name: 3: must be text"),
    bad_flat("unknown flat language", flat(lang="xx"), "config.yaml", "xx: not a language of Whisper"),
    bad_flat("unknown flat language by flag", flat(), "xx: not a language of Whisper", flags="-l xx"),
    bad_flat("flat data that is not there", flat(dataset_name="gone.csv"), "gone.csv: no such file"),
    bad_flat(
        "flat data that is not on the hub", flat(dataset_name="nobody/nothing"), "hub: nobody/nothing: cannot be found"
    ),
    bad_flat("flat GPU that is not there", flat(gpu_device=[1]), "config.yaml: gpu_device: [1]"),
    bad_flat("flat name with a blank", flat(checkpoint_name="a b"), "config.yaml: checkpoint_name: 'a b': use letters"),
    bad_flat(
        "flat number that is none", flat(learning_rate="fast"), "config.yaml: learning_rate: 'fast': must be a number"
    ),
    bad_flat("flat run where a file is", flat(checkpoint_dir="a.wav"), "a.wav: cannot be created"),
    bad_flat(
        "flat secret by name",
        flat(checkpoint_name="${HF_TOKEN}"),
        "config.yaml: checkpoint_name: ${HF_TOKEN} looks like a secret",
    ),
]

DATA = [
    bad_data("missing manifest", "{manifest: gone.jsonl}", "gone.jsonl: no such file; check the source in the job"),
    bad_data("manifest of another kind", "{manifest: a.wav}", "a.wav: manifest: must end in .jsonl, .csv or .tsv"),
    bad_data("manifest that is a folder", "{manifest: x.csv}", "x.csv: cannot be read", files={"x.csv/y": ""}),
    bad_data(
        "line that is no JSON", "{manifest: x.jsonl}", "x.jsonl:2: not JSON", files={"x.jsonl": clips("a.wav") + "{"}
    ),
    bad_data("line that is no object", "{manifest: x.jsonl}", "x.jsonl:1: holds list", files={"x.jsonl": "[1]\n"}),
    bad_data("empty manifest", "{manifest: x.csv}", "x.csv: holds no clip", files={"x.csv": ""}),
    bad_data(
        "manifest with a header alone", "{manifest: x.csv}", "x.csv: holds no clip", files={"x.csv": "audio,text\n"}
    ),
    bad_data(
        "manifest that is not UTF-8",
        "{manifest: x.csv}",
        "x.csv: is not UTF-8",
        files={"x.csv": b"audio,text\na,\xe9\n"},
    ),
    bad_data(
        "more fields than columns", "{manifest: x.csv}", "x.csv:2: has more", files={"x.csv": "audio,text\na.wav,b,c\n"}
    ),
    bad_data(
        "no audio column",
        "{manifest: x.csv}",
        "x.csv: audio_column",
        "it has sound",
        files={"x.csv": "sound,text\na,b\n"},
    ),
    bad_data(
        "no text column",
        "{manifest: x.csv}",
        "x.csv: text_column",
        "it has audio, said",
        files={"x.csv": "audio,said\na,b\n"},
    ),
    bad_data(
        "named column that is not there",
        "{manifest: train.jsonl, text_column: said}",
        "train.jsonl: text_column: said: no such column; it has audio, text",
    ),
    bad_data(
        "speaker column that is not there",
        "{manifest: train.jsonl, speaker_column: who}",
        "speaker_column: who: no such",
    ),
    bad_data(
        "clip without a path",
        "{manifest: x.jsonl}",
        "x.jsonl:1: audio: 3: must be the path",
        files={"x.jsonl": '{"audio": 3, "text": "a"}\n'},
    ),
    bad_data(
        "text that is a number",
        "{manifest: x.jsonl}",
        "x.jsonl:1: text: 7: must be text",
        files={"x.jsonl": '{"audio": "a.wav", "text": 7}\n'},
    ),
    bad_data("manifest without splits", "{manifest: train.jsonl, split: train}", "no `split` column; leave split out"),
    bad_data(
        "no such split",
        "{manifest: x.csv, split: train}",
        "x.csv: holds no clip whose split is train; it has test",
        files={"x.csv": "audio,text,split\na.wav,b,test\n"},
    ),
    bad_data("slice without a clip", "{manifest: train.jsonl, split: '[:1%]'}", "split: [:1%] holds no clip of 2"),
    bad_data(
        "slice beyond the end",
        "{manifest: train.jsonl, split: '[100:]'}",
        "train.jsonl [100:]: holds no clip; check the source and its split",
    ),
    bad_data("missing folder", "{folder: gone}", "folder: ", "gone: no such folder"),
    bad_data("folder without audio", "{folder: x}", "holds no .wav, .flac", files={"x/readme.md": ""}),
    bad_data(
        "folder without splits",
        "{folder: x, split: test}",
        "split: test: only a folder with metadata",
        files={"x/a.wav": wav()},
    ),
    bad_data("missing Common Voice", "{common_voice: gone}", "common_voice: ", "no such folder; download Common Voice"),
    bad_data(
        "folder that is no Common Voice", "{common_voice: x}", "holds no clips/ with .tsv", files={"x/a.wav": wav()}
    ),
    bad_data(
        "no such split of Common Voice",
        "{common_voice: x, split: tests}",
        "split: tests: no such .tsv; there are test",
        files={"x/clips/a.mp3": b"", "x/test.tsv": "path\tsentence\n"},
    ),
    bad_data("missing Parquet", "{parquet: gone/*.parquet}", "gone/*.parquet: no such Parquet file"),
    bad_data(
        "corrupted Parquet",
        "{parquet: x.parquet}",
        "x.parquet: is not readable Parquet",
        files={"x.parquet": b"PAR1nonsense"},
    ),
    bad_data(
        "slice of a corrupted Parquet",
        "{parquet: x.parquet, split: '[:50%]'}",
        "x.parquet: is not readable Parquet",
        files={"x.parquet": b"PAR1nonsense"},
    ),
    bad_data(
        "Parquet without audio",
        "{parquet: x.parquet}",
        "x.parquet",
        "audio_column: none of the usual names found; it has text",
        files={"x.parquet": parquet({"text": ["one"]})},
    ),
    bad_data(
        "Parquet with paths for audio",
        "{parquet: x.parquet}",
        "data.train: no usable clip among 2 (2 unreadable)",
        files={"x.parquet": parquet({"audio": ["a.wav", "b.wav"], "text": ["one", "two"]})},
    ),
    bad_data(
        "Parquet without a row",
        "{parquet: x.parquet}",
        "x.parquet",
        "holds no clip",
        files={"x.parquet": parquet({"audio": [], "text": []})},
    ),
    bad_data(
        "hub data set that is not there", "{hub: nobody/nothing}", "hub: nobody/nothing: cannot be found", "HF_TOKEN"
    ),
    bad_data(
        "no such split of a data set",
        "{hub: ./x, split: tests}",
        "split: tests: no such split; it has train",
        files={"x/data/train-0.parquet": parquet({"audio": [wav()], "text": ["one"]})},
    ),
    bad_data(
        "no clip can be read",
        "{manifest: x.jsonl}",
        "data.train: no usable clip among 2 (2 unreadable)",
        "dropped.jsonl",
        files={"x.jsonl": clips("e.wav", "f.wav"), "e.wav": b"", "f.wav": b"RIFFnonsense"},
    ),
    bad_data(
        "too many clips dropped",
        "{manifest: x.jsonl}",
        "data.train: 1 of 3 clips dropped (1 unreadable), more than data.max_dropped_fraction 0.05 allows",
        "dropped.jsonl",
        files={"x.jsonl": clips("a.wav", "b.wav", "gone.wav")},
    ),
    bad_data(
        "unknown voice",
        "{synthetic: {sentences: [one two], voices: [en+nobody], clips: 1}}",
        "synthetic.voices: en+nobody: espeak-ng has no such voice",
    ),
    bad_data(
        "too few sentences for a part",
        "{synthetic: {sentences: [one two], voices: [en], clips: 1, part: train, held_out_fraction: 1}}",
        "synthetic: part: train: too few different sentences",
    ),
    bad_data(
        "split of synthetic speech",
        "{synthetic: {sentences: [one two], voices: [en], clips: 1}, split: train}",
        "split: train: synthetic speech has no splits; use synthetic.part",
    ),
    bad_data(
        "text in the audio column",
        "{manifest: x.jsonl}",
        "data.train: no usable clip among 1 (1 unreadable)",
        files={"x.jsonl": clips("a long sentence " * 30)},
    ),
    bad_data(
        "weight that leaves nothing", "{manifest: train.jsonl, weight: 0.1}", "data.train: the weights leave no clip"
    ),
    bad_data(
        "damaged pages of a Parquet",
        "{parquet: x.parquet}",
        "x.parquet: is not readable Parquet",
        files={"x.parquet": damaged(parquet({"audio": [wav()], "text": ["one"]}), "text")},
    ),
    bad_data(
        "damaged audio of a Parquet",
        "{parquet: x.parquet}",
        "data.train: no usable clip among 1 (1 unreadable)",
        files={"x.parquet": damaged(parquet({"audio": [wav()], "text": ["one"]}), "audio")},
    ),
    bad_data(
        "data set of another format",
        "{hub: ./x}",
        "x: is not stored as Parquet",
        files={"x/a.csv": "audio,text\na,b\n"},
    ),
    bad_data("missing local data set", "{hub: ./gone}", "hub: ", "gone", "cannot be found"),
]

KINDS = [*YAML, *KEYS, *VALUES, *TOGETHER, *FILES, *BASES, *FLAT, *DATA]


def lay_out(kind: Bad, place: Path) -> None:
    for name, content in {**GOOD_FILES, **kind.files}.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def check_message(kind: Bad, status: int, output: str, errors: str) -> None:
    assert "Traceback" not in output
    assert status == 2, output
    assert errors.startswith("error: "), errors
    assert errors.count("error: ") == 1, errors
    for text in kind.says:
        assert text in errors
    assert "hf_very_secret" not in output


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_wrong_input_ends_with_one_message(
    kind: Bad, place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(kind, place)
    for name, value in kind.environment.items():
        monkeypatch.setenv(name, value)

    result = run_cli(*kind.command.split())

    check_message(kind, result.exit_code, result.output, result.stderr)


WITH_A_PROCESS = ("mistyped training key", "not UTF-8", "no clip can be read", "corrupted Parquet", "secret in a job")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.id in WITH_A_PROCESS], ids=lambda kind: kind.id)
def test_the_installed_command_says_the_same(kind: Bad, place: Path) -> None:
    lay_out(kind, place)

    command = [sys.executable, "-m", "whisper_train", *kind.command.split()]
    result = subprocess.run(command, env=os.environ | kind.environment, capture_output=True, text=True, check=False)

    check_message(kind, result.returncode, result.stdout + result.stderr, result.stderr)


def test_every_problem_of_a_job_is_told_at_once(place: Path, run_cli: RunCli) -> None:
    wrong = job("{langauge: de, gates: {wer: 5}, data: {max_seconds: 60}}")
    lay_out(Bad("", {"job.yaml": wrong}, "", ()), place)

    result = run_cli("check", "job.yaml")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 3


def test_wrong_input_leaves_no_model_folder_behind(place: Path, run_cli: RunCli) -> None:
    lay_out(Bad("", {"job.yaml": job("langauge: de")}, "", ()), place)

    run_cli("train", "job.yaml")

    assert not (place / "models").exists()


def test_a_mended_job_runs_after_its_data_were_wrong(place: Path, run_cli: RunCli) -> None:
    """What a refused run leaves in its folder does not stand in the way of the next."""
    lay_out(Bad("", {"job.yaml": train_on("{manifest: x.jsonl}"), "x.jsonl": clips("gone.wav")}, "", ()), place)
    assert run_cli("train", "job.yaml").exit_code == 2

    (place / "x.jsonl").write_text(clips("a.wav", "b.wav"))
    result = run_cli("train", "job.yaml")

    assert result.exit_code == 0, result.output


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.id for kind in KINDS}) == len(KINDS) >= 30
