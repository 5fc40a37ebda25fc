"""The stock recipe and ours, alternating, on the same clips, model, precision and number of updates.

    make benchmark [ARGS='--rounds 6 --updates 24']
    python -m benchmarks.training --device cuda --model-size large-v3 --everything

Writes table.md, results.json and a picture (PNG and SVG). What is measured and how: docs/benchmarks.md.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.training.options import Options, parse
from benchmarks.training.ways import WAYS
from whisper_train.errors import UserError
from whisper_train.exits import exits, unwinding_on_sigterm
from whisper_train.paths import find_directories, make_directory, read_environment, write_json, write_text
from whisper_train.run_log import print_line, quiet_libraries

CAPPED = "capped"


def main(options: Options) -> None:
    cards = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        cards.split(",")[0] if options.device == "cuda" else ""
    )  # one card for all ways
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device: cuda: no GPU is visible; make doctor looks for the cause, and --device cpu needs none"
        )
    try:
        import matplotlib as _  # noqa: F401  # before an hour of training, not after
    except ImportError as error:
        raise UserError("the picture needs matplotlib: pip install 'whisper-train[benchmark]'") from error
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    quiet_libraries(None)
    directories = find_directories(read_environment())
    make_directory(directories.cache, named_by="CACHE_DIR")
    output = make_directory(options.output or directories.logs / "benchmark-training", named_by="--output")
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=directories.cache) as folder:
        results = measure(options, Path(folder), directories.cache)
    write(results, output)


def measure(options: Options, folder: Path, cache: Path) -> dict[str, Any]:
    """Everything that is measured, in the form of results.json."""
    import torch

    from benchmarks.training.held_out import held_out_loss
    from benchmarks.training.material import make_material
    from benchmarks.training.results import describe_machine, summarize
    from benchmarks.training.rounds import alternate
    from benchmarks.training.specs import make_specs
    from whisper_train.model import load_model, load_processor

    material = make_material(options, folder / "material", cache, print_line)
    specs = make_specs(options, material)
    base = str(material.base)
    model = load_model(base).to(options.device)
    start_loss = held_out_loss(model, load_processor(base), material.held_out_index, specs["stock"].precision)
    del model
    if options.device == "cuda":
        torch.cuda.empty_cache()
    print_line(f"{material.parameters / 1e6:.1f} M parameters, held-out loss {start_loss:.4f} before training")
    processes, ceilings = alternate(specs, options, folder / "ways", print_line)
    results = summarize(options, material.facts(), specs, processes, ceilings, start_loss)
    if options.everything:
        results[CAPPED] = train_capped(options, specs, folder / CAPPED)
    return {"machine": describe_machine(options.device), **results}


def train_capped(options: Options, specs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the last of our ways takes and reaches on the profile of a small card, under the memory of that card."""
    from benchmarks.training.results import rate
    from benchmarks.training.rounds import started

    spec = replace(
        specs[next(way for way in reversed(options.ways) if way != "stock")],
        profile=options.capped_profile,
        own_layout=False,
        cap_gib=options.cap_gib if options.device == "cuda" else None,
    )
    with started(spec, folder) as process:
        process.hear_slice()
        print_line(f"{spec.profile}: {WAYS[spec.way].label}, under {spec.cap_gib or 'no'} GiB")
        process.train(options.updates_a_round)
        process.finish(0)
    return {"profile": spec.profile, "way": spec.way, "cap_gib": spec.cap_gib, "slices": process.slices} | rate(process)


def write(results: dict[str, Any], output: Path) -> None:
    """The table on the terminal and in `output`, beside results.json and the pictures."""
    from benchmarks.training.picture import draw
    from benchmarks.training.table import make_table

    table = make_table(results)
    write_json(output / "results.json", results)
    write_text(output / "table.md", table)
    draw(results, output / "training")
    print_line(f"\n{table}\n{output / 'results.json'}, {output / 'training.png'}, {output / 'training.svg'}")


@exits
def run() -> None:
    with unwinding_on_sigterm():
        main(parse())


if __name__ == "__main__":
    run()
