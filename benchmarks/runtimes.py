"""Measures a Whisper of random weights in every runtime and precision, beside fp32 onnxruntime, in the same run.

    python -m benchmarks.runtimes [--model bofenghuang/whisper-large-v3-distil-fr-v0.2] [--rounds 5] [--threads 2]

The model has the dimensions of --model and random weights, on which size and speed do not depend. It is written once in
every form, without the proof that `whisper-train convert` adds, which would take longer than the measurement. Measured
is with the turns of `whisper-train benchmark-model`: each form in a process of its own, forwards and backwards. Where
a target is missed in onnxruntime, its own profile of the graph is shown beside that of fp32. --keep names a folder for
the files, which another run then finds there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.onnx_profile import Half, compare_profiles, show_profiles
from benchmarks.training.options import PROCESSOR
from whisper_train.benchmark_model.candidates import BYTES as CONVERTED_BYTES
from whisper_train.benchmark_model.candidates import write_bfloat16
from whisper_train.benchmark_model.command import describe_machine
from whisper_train.benchmark_model.figures import memory, speed
from whisper_train.benchmark_model.rounds import run_rounds
from whisper_train.benchmark_model.runtimes import weight_bytes
from whisper_train.benchmark_model.table import lines, timed
from whisper_train.benchmark_model.turn import Spec
from whisper_train.benchmark_model.verdict import int4_encoder
from whisper_train.errors import RunFailed, UserError
from whisper_train.export.forms import Form
from whisper_train.paths import write_json
from whisper_train.planning.bases import Dimensions, dimensions_by_name
from whisper_train.planning.room import Take, check_room

MODEL = "bofenghuang/whisper-large-v3-distil-fr-v0.2"
BASELINE = Form("onnx", "fp32")
FORMS = (
    BASELINE,
    *(Form("onnx", precision) for precision in ("fp16", "int8", "int4")),
    *(Form("ctranslate2", precision) for precision in ("fp32", "fp16", "int8")),
    Form("transformers", "fp32"),
    Form("transformers", "bf16"),
)
# Share of the baseline's size at most; times as fast as the baseline at least.
TARGETS: dict[Form, dict[str, float]] = {
    Form("onnx", "int8"): {"size_ratio": 0.27, "encoder_ms": 2.5, "decoder_ms": 3.0},
    Form("onnx", "int4"): {"size_ratio": 0.15, "decoder_ms": 4.5},
    Form("ctranslate2", "int8"): {"size_ratio": 0.27, "encoder_ms": 2.5, "decoder_ms": 6.0},
}
WORDS = {"size_ratio": "size", "encoder_ms": "encoder", "decoder_ms": "decoder"}
BYTES = {**CONVERTED_BYTES, "bf16": 2.0}  # of a weight


def make_base(model: str, folder: Path) -> None:
    """Writes a model with the dimensions of `model`, random weights and Whisper's vocabulary to `folder`."""
    from whisper_train.create import create_model, create_processor
    from whisper_train.job import Architecture

    size = dimensions_of(model)
    architecture = Architecture(
        processor=str(PROCESSOR) if PROCESSOR.is_dir() else None,
        width=size.width,
        encoder_layers=size.encoder_layers,
        decoder_layers=size.decoder_layers,
        attention_heads=size.heads,
        mel_bins=size.mel_bins,
    )
    processor = create_processor(architecture, ["some words"])
    made = create_model(architecture, processor, 0)
    if made.config.vocab_size != size.vocabulary:
        made.resize_token_embeddings(size.vocabulary, mean_resizing=False)
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)


def dimensions_of(model: str) -> Dimensions:
    size = dimensions_by_name(model)
    if size is None:
        raise UserError(f"--model: {model}: the name says no size of Whisper; name one like openai/whisper-small")
    return size


def make_form(form: Form, base: Path, folder: Path) -> None:
    """Writes the model in `base` to `folder` in `form`, as a conversion does, and proves nothing."""
    from whisper_train.export.convert import write_companions
    from whisper_train.export.grids import choose_layers, put_on_grids
    from whisper_train.export.ready import ready
    from whisper_train.export.source import load_source
    from whisper_train.paths import find_directories

    folder.mkdir()
    if form.format == "transformers":
        write_bfloat16(base, folder)
        return
    source = load_source(str(base), find_directories({}))
    placed = put_on_grids(source.model, choose_layers(source.model, form, source.trained), form)
    write_companions(source, folder)
    ready(form).write(source, placed, form, folder)


def make_all(model: str, place: Path) -> dict[Form, Path]:
    """The folder of each form; each is made in a process of its own, which gives its memory back."""
    folders = {form: place / form.folder for form in FORMS}
    base = folders[Form("transformers", "fp32")]
    weights = dimensions_of(model).parameters
    needed = int(sum(weights * BYTES[form.precision] for form, folder in folders.items() if not folder.is_dir()))
    takes = [Take(place=place, bytes=needed, what=f"{weights / 1e6:.0f} M weights in each form")]
    check_room(takes, partial(print, flush=True), key="--keep", way_out="--keep names a folder on another disk")
    for form in (Form("transformers", "fp32"), *FORMS):
        if folders[form].is_dir():
            continue
        aside = place / f".{form.folder}"
        print(f"writing {form.folder}", flush=True)
        command = [sys.executable, "-m", "benchmarks.runtimes", "--model", model, "--make", form.format, form.precision]
        subprocess.run([*command, str(base), str(aside)], check=True)
        aside.rename(folders[form])
    return folders


def make_one(model: str, form: Form, base: Path, aside: Path) -> None:
    """What the process of make_all does."""
    if aside.is_dir():
        shutil.rmtree(aside)  # what a killed one left
    if form == Form("transformers", "fp32"):
        make_base(model, aside)
    else:
        make_form(form, base, aside)


def measure(folders: Mapping[Form, Path], place: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """The figures of each form, the baseline first; RunFailed where that could not be measured."""
    specs = {
        form: Spec(
            name=f"{form.format} {form.precision}",
            format=form.format,
            precision=form.precision,
            folder=str(folder),
            processor=str(folders[Form("transformers", "fp32")]),
            threads=threads,
            repeats=1,
            language="fr",
        )
        for form, folder in folders.items()
    }
    found = run_rounds(list(specs.values()), rounds, place, lambda line: print(line, flush=True))
    baseline = found[specs[BASELINE].name]
    if "failed" in baseline:
        raise RunFailed(f"{specs[BASELINE].name}: {baseline['failed']}")
    whole = weight_bytes(folders[BASELINE], BASELINE.format)
    entries = []
    for form, spec in specs.items():
        entry: dict[str, Any] = {"name": spec.name, "format": form.format, "precision": form.precision}
        entry["size_bytes"] = weight_bytes(folders[form], form.format)
        entry["size_ratio"] = entry["size_bytes"] / whole
        if "failed" in found[spec.name]:
            entries.append({**entry, "failed": found[spec.name]["failed"]})
            continue
        turns = found[spec.name]["turns"]
        times = speed(turns, None if form == BASELINE else baseline["turns"])
        entries.append({**entry, "computes_in": turns[0]["computes_in"], "memory": memory(turns), **times})
    return entries


def judge(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target with what was measured and whether it is met."""
    judged = []
    for entry in (one for one in entries if "failed" not in one):
        for key, wanted in TARGETS.get(Form(entry["format"], entry["precision"]), {}).items():
            value = entry[key] if key == "size_ratio" else entry[key]["faster"]["median"]
            met = value <= wanted if key == "size_ratio" else value >= wanted
            judged.append({"name": entry["name"], "key": key, "wanted": wanted, "measured": value, "met": met})
    return judged


def make_table(entries: list[dict[str, Any]]) -> str:
    rows = [["file", "MB", "memory MB", "encoder ms", "decoder ms a token", "30 s, s", "computes in"]]
    for one in entries:
        size = f"{one['size_bytes'] / 1e6:,.0f} ({one['size_ratio']:.3f})"
        if "failed" in one:
            rows.append([one["name"], size, "", "", "", "", f"failed: {one['failed']}"])
            continue
        times = [timed(one[key], form) for key, form in (("encoder_ms", ".0f"), ("decoder_ms", ".2f"))]
        rows.append(
            [
                one["name"],
                size,
                f"{one['memory']['peak_bytes']['1'] / 1e6:,.0f}",
                *times,
                timed(one["latency_s"], ".2f"),
                one["computes_in"],
            ]
        )
    return lines(rows)


def say_target(target: Mapping[str, Any]) -> str:
    bound = "at most" if target["key"] == "size_ratio" else "at least"
    result = "met" if target["met"] else "MISSED"
    measured = f"{target['name']}: {WORDS[target['key']]} {target['measured']:.2f}"
    return f"{measured}, wanted {bound} {target['wanted']}: {result}"


def halves_missed(judged: list[dict[str, Any]], folders: Mapping[Form, Path]) -> list[Half]:
    """Each half of a graph in onnxruntime that missed a target, and the baseline's before it."""
    found: dict[str, Half] = {}
    for one in judged:
        if one["met"] or one["key"] == "size_ratio" or not one["name"].startswith("onnx"):
            continue
        for form in (BASELINE, Form(*one["name"].split())):
            half = Half(f"{form.format} {form.precision}", folders[form], WORDS[one["key"]])
            found.setdefault(half.title, half)
    return list(found.values())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sizes and speeds of a Whisper in every runtime and precision.")
    parser.add_argument("--model", default=MODEL, help="whose dimensions: a name that tells the size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=Path("logs/benchmark-runtimes"))
    parser.add_argument("--keep", type=Path, help="a folder for the files, which another run then finds there")
    parser.add_argument("--make", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(given: argparse.Namespace, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    folders = make_all(given.model, place)
    entries = measure(folders, place, given.rounds, given.threads)
    judged = judge(entries)
    profiles = compare_profiles(halves_missed(judged, folders), given.threads)
    machine = describe_machine()
    head = f"{given.model}: random weights; {machine['processor']}, {given.threads} threads, {given.rounds} rounds"
    parts = [head, make_table(entries), "\n".join(f"- {say_target(one)}" for one in judged)]
    parts += [
        "\n".join(f"- profile of {said}" for said in show_profiles(profiles)),
        *int4_encoder([one for one in entries if "failed" not in one]),
    ]
    table = "\n\n".join(part for part in parts if part) + "\n"
    given.output.mkdir(parents=True, exist_ok=True)
    facts = {"model": given.model, "machine": machine, "threads": given.threads, "rounds": given.rounds}
    write_json(given.output / "results.json", {**facts, "files": entries, "targets": judged, "profiles_ms": profiles})
    (given.output / "table.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nresults: {given.output}")


def main() -> None:
    given = parse()
    if given.make:
        form, precision, base, aside = given.make
        make_one(given.model, Form(form, precision), Path(base), Path(aside))
    elif given.keep:
        run(given, given.keep)
    else:
        with tempfile.TemporaryDirectory() as place:
            run(given, Path(place))


if __name__ == "__main__":
    try:
        main()
    except (UserError, RunFailed) as error:
        raise SystemExit(f"error: {error}") from error
