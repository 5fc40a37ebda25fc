"""Checkpoints: whole or absent, the newest undamaged one found again, the best one kept."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed, UserError
from whisper_train.paths import file_digest, read_json, sync, write_json, write_text

MANIFEST = "complete.json"  # written last: the files of the checkpoint, their sizes and digests, and how it was made
INCOMPLETE = ".incomplete"  # the folder a checkpoint is written in before it gets its name
DAMAGED = ".damaged"  # ends the name of a checkpoint that was found damaged
OWN_DIGEST = "digest"  # of the manifest itself, without this entry
READERS = 4  # threads that read files for their digests: 1.5 GB/s each on a server's processor


def finish_checkpoint(written: Path, final: Path, facts: dict[str, Any]) -> None:
    """Syncs every file of `written`, lists them in its manifest with `facts`, and renames it to `final`."""
    files = sorted(path for path in written.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        sync(path)
    write_manifest(written, facts, files)
    for folder in {path.parent for path in files}:
        sync(folder)
    if final.exists():  # the same step of this run, written before: incomplete, or without its evaluation
        os.replace(final, written.with_name(f"replaced-{final.name}"))
    os.replace(written, final)
    sync(final.parent)
    shutil.rmtree(written.parent)


def write_manifest(folder: Path, facts: dict[str, Any], files: Iterable[Path]) -> None:
    """Writes the manifest of a checkpoint: `facts`, with the sizes and digests of `files` added to those listed."""
    named = {str(path.relative_to(folder)): path for path in files}
    sizes = {name: path.stat().st_size for name, path in named.items()}
    listed = {
        **facts,
        "files": {**facts.get("files", {}), **sizes},
        "sha256": {**facts.get("sha256", {}), **digests(named)},
    }
    listed.pop(OWN_DIGEST, None)
    write_json(folder / MANIFEST, {**listed, OWN_DIGEST: digest_of(listed)})


def digests(files: dict[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file, by its name."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(files, pool.map(file_digest, files.values()), strict=True))


def digest_of(listed: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def step_of(path: Path) -> int:
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match else -1


def is_complete(path: Path) -> bool:
    """Whether every file that the manifest lists is there in its full size."""
    try:
        files = read_json(path / MANIFEST)["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, file by file against the digests it was written with; None: nothing.

    Reads all of it. Checkpoints of earlier versions have sizes only.
    """
    try:
        listed = read_json(path / MANIFEST)
        files, known = listed["files"], listed.get("sha256", {})
        own = listed.pop(OWN_DIGEST, None)
        if not isinstance(files, dict) or ((known or own) and own != digest_of(listed)):
            return f"{MANIFEST} is altered"
        for name, size in files.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if (found := (path / name).stat().st_size) != size:
                return f"{name} has {found:,} bytes instead of {size:,}"
        found_digests = digests({name: path / name for name in known})
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is altered"
    altered = [name for name, digest in known.items() if found_digests[name] != digest]
    return f"{altered[0]} is altered" if altered else None


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, oldest first, complete or not."""
    return sorted((path for path in folder.glob("checkpoint-*") if step_of(path) >= 0), key=step_of)


def find_newest(folder: Path) -> Path | None:
    """The newest checkpoint that looks complete: to be named in a message."""
    return next((path for path in reversed(list_checkpoints(folder)) if is_complete(path)), None)


def find_good(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are those that were written; damaged ones are told and set aside."""
    for path in reversed(list_checkpoints(folder)):
        damage = find_damage(path)
        if damage is None:
            return path
        aside = set_aside(path)
        say(f"checkpoint: {path.name} is DAMAGED: {damage}; using the one before, and keeping it as {aside.name}")
    return None


def set_aside(path: Path) -> Path:
    """Takes a checkpoint's name from it, so that nothing counts it as one; the next complete one removes it."""
    aside = path.with_name(path.name + DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(path, aside)
    sync(path.parent)
    return aside


def remove_old(folder: Path, *, keep: int | None, best_step: int | None) -> None:
    """Removes checkpoints but the newest `keep` (None: all) and the best. Only ever what this run wrote itself.

    Called when one has just been completed: what was found damaged goes too.
    """
    if keep is None:
        return
    for path in folder.glob(f"checkpoint-*{DAMAGED}"):
        shutil.rmtree(path)
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
    facts = read_json(checkpoint / MANIFEST)
    if any(name.startswith(f"{target.name}/") for name in facts["files"]):
        return
    shutil.rmtree(target, ignore_errors=True)  # made, and the program killed before it was listed
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
    made = [path for path in target.rglob("*") if path.is_file()]
    for path in made:
        sync(path)
    write_manifest(checkpoint, facts, [*made, checkpoint / "latest_universal"])
