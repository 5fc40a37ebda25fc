"""Checkpoints: whole or absent, the newest complete one found again, the best one kept."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed, UserError
from whisper_train.paths import read_json, sync, write_json, write_text

MANIFEST = "complete.json"  # written last: the files of the checkpoint with their sizes, and how it was made
INCOMPLETE = ".incomplete"  # the folder a checkpoint is written in before it gets its name


def finish_checkpoint(written: Path, final: Path, facts: dict[str, Any]) -> None:
    """Syncs every file of `written`, lists them in its manifest with `facts`, and renames it to `final`."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    sizes = {str(path.relative_to(written)): path.stat().st_size for path in files}
    write_json(written / MANIFEST, {**facts, "files": sizes})
    for folder in {path.parent for path in files}:
        sync(folder)
    if final.exists():
        shutil.rmtree(final)  # the same step of this run, written before: incomplete, or without its evaluation
    os.replace(written, final)
    sync(final.parent)


def step_of(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match else -1


def is_complete(path: Path) -> bool:
    """Whether every file that the manifest lists is there in its full size."""
    try:
        files = read_json(path / MANIFEST)["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, json.JSONDecodeError):
        return False


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, oldest first, complete or not."""
    return sorted((path for path in folder.glob("checkpoint-*") if step_of(path) >= 0), key=step_of)


def find_newest(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest complete checkpoint; says which incomplete ones it passes over."""
    for path in reversed(list_checkpoints(folder)):
        if is_complete(path):
            return path
        say(f"checkpoint: {path.name} is incomplete; using the one before")
    return None


def remove_old(folder: Path, *, keep: int | None, best_step: int | None) -> None:
    """Removes checkpoints but the newest `keep` (None: all) and the best. Only ever what this run wrote itself."""
    if keep is None:
        return
    complete = [path for path in list_checkpoints(folder) if is_complete(path)]
    for path in complete[: max(0, len(complete) - max(keep, 1))]:
        if step_of(path) != best_step:
            shutil.rmtree(path)


def check_resumable(checkpoint: Path, *, ranks: int, deepspeed: bool, global_batch: int) -> bool:
    """Whether the checkpoint must be converted for another number of ranks; raises UserError when it cannot go on."""
    facts = read_json(checkpoint / MANIFEST)
    if facts["deepspeed"] != deepspeed:
        was, now = ("with", "without") if facts["deepspeed"] else ("without", "with")
        setting = "zero2" if facts["deepspeed"] else "null"
        raise UserError(
            f"{checkpoint}: was written {was} DeepSpeed and cannot go on {now} it; run with machine.deepspeed={setting}"
        )
    if facts["global_batch"] != global_batch:
        raise UserError(
            f"{checkpoint}: was written with a global batch of {facts['global_batch']}, not {global_batch};"
            f" set training.global_batch_size={facts['global_batch']}"
        )
    moves = bool(deepspeed and facts["ranks"] != ranks)
    if moves and is_quantized(facts.get("optim")):
        raise UserError(
            f"{checkpoint}: was written by {facts['ranks']} rank(s) with training.optim: {facts['optim']}, whose states"
            f" are quantized in blocks of a rank's share and cannot be divided among {ranks}; go on with"
            f" {facts['ranks']} (machine.processes={facts['ranks']}), or start another job from this one's model"
        )
    return moves


def is_quantized(optimizer: str | None) -> bool:
    """Whether the states of `optimizer` are kept in 8 or 4 bits, as transformers names it."""
    return optimizer is not None and any(bits in optimizer for bits in ("8bit", "4bit"))


def convert_to_universal(checkpoint: Path) -> None:
    """Adds to a ZeRO checkpoint the form that any number of ranks can load (DeepSpeed universal checkpoint).

    ZeRO's own files hold one shard per rank and load on no other number (DeepSpeed#5405, #7628).
    """
    tag = (checkpoint / "latest").read_text().strip()
    target = checkpoint / f"{tag}_universal"
    if target.is_dir():
        return
    aside = checkpoint / f".{tag}_universal.incomplete"
    if aside.exists():
        shutil.rmtree(aside)
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(checkpoint / tag), "--output_folder", str(aside), "--num_extract_workers", "1"]
    command += ["--num_merge_workers", "1"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    converted = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if converted.returncode:
        raise RunFailed(f"{checkpoint}: cannot be converted for another number of ranks:\n{converted.stderr[-2000:]}")
    write_text(checkpoint / "latest_universal", target.name)
    aside.replace(target)
