"""A second copy of a run in MIRROR_DIR: of each checkpoint, in the background; fetched back where the first is lost."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from whisper_train.paths import sync
from whisper_train.run_folder import RunFolder
from whisper_train.training.checkpoints import (
    INCOMPLETE,
    MANIFEST,
    find_damage,
    is_complete,
    list_checkpoints,
    step_of,
)

BESIDE = ("job.yaml", "run.json")  # what a run needs beside its checkpoints to go on, with its random base
CHECKPOINTS = "checkpoints"


class Mirror:
    """Copies what a run has completed to `place`, one thread at a time; what fails is told, and tried again."""

    def __init__(self, folder: RunFolder, place: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.place = place
        self.say = say
        self.lock = threading.Lock()
        self.again = False  # something new may be complete
        self.thread: threading.Thread | None = None

    def ask(self) -> None:
        """Asks for a copy of what is complete now."""
        with self.lock:
            self.again = True
            if self.thread is None:  # a daemon: a program that is told to leave at once does not wait for it
                self.thread = threading.Thread(target=self.work, name="mirror", daemon=True)
                self.thread.start()

    def work(self) -> None:
        while True:
            with self.lock:
                if not self.again:
                    self.thread = None
                    return
                self.again = False
            try:
                copy_run(self.folder, self.place)
            except OSError as error:
                self.say(f"mirror: NOT copied to {self.place}: {error}; the next checkpoint tries again")

    def finish(self) -> None:
        """Waits until everything is copied; a signal breaks it off."""
        self.ask()
        if thread := self.thread:
            self.say(f"mirror: waiting for the last copy to {self.place}")
            thread.join()


def copy_run(folder: RunFolder, place: Path) -> None:
    """Makes `place` hold the complete checkpoints of a run: those it lacks are copied, then old ones removed."""
    (place / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    if folder.new_base.is_dir() and not (place / folder.new_base.name).is_dir():
        copy_files(folder.new_base, place / folder.new_base.name)
    kept = [path for path in list_checkpoints(folder.checkpoints) if is_complete(path)]
    for path in reversed(kept):
        target = place / CHECKPOINTS / path.name
        if is_complete(target) and (target / MANIFEST).read_bytes() == (path / MANIFEST).read_bytes():
            continue
        shutil.rmtree(target, ignore_errors=True)
        try:
            copy_files(path, target)
        except FileNotFoundError:  # rotation was faster
            shutil.rmtree(target, ignore_errors=True)
    for name in BESIDE:
        shutil.copyfile(folder.path / name, place / name)
    copied = [path for path in list_checkpoints(place / CHECKPOINTS) if is_complete(path)]
    names = {path.name for path in list_checkpoints(folder.checkpoints)}
    for path in copied[:-1]:
        if path.name not in names:
            shutil.rmtree(path)


def copy_files(source: Path, target: Path) -> None:
    """Copies a folder; its manifest comes last, since a mounted bucket knows no renaming of folders."""
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda one: (one.name == MANIFEST, one)):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def fetch_lost(folder: RunFolder, place: Path, say: Callable[[str], None]) -> None:
    """Brings back from the mirror what a run has lost: all newer checkpoints; the facts too, where there are none."""
    ours = max((step_of(path) for path in list_checkpoints(folder.checkpoints) if is_complete(path)), default=-1)
    newer = [path for path in list_checkpoints(place / CHECKPOINTS) if step_of(path) > ours and is_complete(path)]
    if not newer or not all((place / name).is_file() for name in BESIDE):
        return
    aside = folder.checkpoints / INCOMPLETE
    shutil.rmtree(aside, ignore_errors=True)
    if not (folder.path / "run.json").is_file():
        if (place / folder.new_base.name).is_dir() and not folder.new_base.is_dir():
            copy_files(place / folder.new_base.name, aside / folder.new_base.name)
            (aside / folder.new_base.name).rename(folder.new_base)
        for name in BESIDE:
            shutil.copyfile(place / name, folder.path / name)
    for path in newer:
        copy_files(path, aside / path.name)
        if damage := find_damage(aside / path.name):
            say(f"mirror: {path.name} in {place} is DAMAGED: {damage}; left there")
            continue
        for file in (aside / path.name).rglob("*"):
            sync(file)
        shutil.rmtree(folder.checkpoints / path.name, ignore_errors=True)
        (aside / path.name).rename(folder.checkpoints / path.name)
        say(f"mirror: fetched {path.name} from {place}; to start afresh, remove that folder too")
    shutil.rmtree(aside, ignore_errors=True)
