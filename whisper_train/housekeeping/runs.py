"""What of the run folders can go: checkpoints of finished runs, and what was interrupted. No result is here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whisper_train.averaging.state import ASIDE
from whisper_train.housekeeping.items import Group, Item, is_left_over, item
from whisper_train.paths import Directories, read_json
from whisper_train.run_folder import DONE, GATE_MISSED, LAUNCHER_LOCK, RANKS_LOCK, is_locked, read_holder
from whisper_train.running import BACKGROUND_LOCK
from whisper_train.training.checkpoints import INCOMPLETE, is_complete, list_checkpoints

FINISHED = (DONE, GATE_MISSED)


def find_in_runs(directories: Directories) -> Iterator[Item]:
    """Everything below MODEL_DIR that can go, of runs that nobody works on now."""
    for folder in sorted(path for path in directories.models.glob("*") if path.is_dir() and not path.is_symlink()):
        for aside in sorted((folder / "exports").glob(".*")):  # of a conversion, which locks the cache and no run
            if is_left_over(aside):
                yield item(Group.LEFT_OVER, aside, "half a conversion")
        if holder_of(folder, directories) is None:
            yield from find_in_run(folder)


def holder_of(folder: Path, directories: Directories) -> str | None:
    """Who works on the run in `folder` now."""
    for lock in (folder / LAUNCHER_LOCK, folder / RANKS_LOCK, directories.logs / folder.name / BACKGROUND_LOCK):
        if is_locked(lock):
            return read_holder(lock)
    return None


def read_facts(path: Path) -> dict[str, Any]:
    """What run.json says; nothing where it is not there or cannot be read, so that nothing passes for finished."""
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def find_in_run(folder: Path) -> Iterator[Item]:
    """Of one run; the names are those that this program gives to what it has not finished."""
    facts = read_facts(folder / "run.json")
    checkpoints = folder / "checkpoints"
    for place in (folder, folder / "evaluation", folder / "data", checkpoints, *checkpoints.glob("checkpoint-*")):
        for aside in sorted(place.glob(".*")):
            empty = aside.is_dir() and not any(aside.iterdir())  # as training leaves it when all went well
            if not empty and (is_left_over(aside) or (place == checkpoints and aside.name == INCOMPLETE)):
                yield item(Group.LEFT_OVER, aside, "half-written", run=folder)
    if facts.get("status") not in FINISHED:
        return
    if (folder / ASIDE).is_dir():
        yield item(Group.LEFT_OVER, folder / ASIDE, "an average that was being measured", run=folder)
    if not facts.get("kept"):
        return
    there = list_checkpoints(checkpoints)
    newest = next((path for path in reversed(there) if is_complete(path)), None)
    for path in there:
        last = path == newest or path.name == facts["kept"]
        group = Group.LAST_CHECKPOINTS if last else Group.OLD_CHECKPOINTS
        why = " and ".join(
            word for word, so in (("the newest", path == newest), ("the one kept", path.name == facts["kept"])) if so
        )
        yield item(group, path, f"checkpoint of {folder.name}{f', {why}' if why else ''}", run=folder)
