"""Trains one small job over and over, breaks each session in another way, and compares the end with an unbroken run.

    python -m tests.torture.torture --cycles 50

The same seed draws the same faults; where in a step they strike is up to the machine.
"""

import argparse
import json
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.conftest import TINY_ARCHITECTURE
from tests.torture.sessions import PATIENCE, Session, import_all, left_running, small_disk, start, wait_until
from whisper_train.training.checkpoints import MANIFEST, find_damage, find_newest, list_checkpoints

CLIPS = 24
STEPS_PER_EPOCH = 6  # 22 readable clips, 4 a step
SMALL_DISK = 1200  # MiB: a run refuses to begin with less than 1 GiB
STILL_FREE = 8 * 2**20  # bytes of a full disk: too few for a checkpoint and its spare room


@dataclass(kw_only=True)
class Torture:
    """A run that is broken again and again."""

    job: Path
    base: Path
    models: Path
    draw: random.Random
    two_ranks: bool
    disk: bool  # whether `models` is a small file system that can be filled
    harmed: int = 0  # checkpoints, so far
    done: list[str] = field(default_factory=list)

    @property
    def checkpoints(self) -> Path:
        return self.models / self.job.stem / "checkpoints"

    @property
    def log(self) -> Path:
        return self.base / "logs" / self.job.stem / "training.log"

    def faults(self) -> dict[str, Callable[[Session], None]]:
        """By name, all that can be done here."""
        found: dict[str, Callable[[Session], None]] = {
            "kill -9 of the parent": self.kill_parent,
            "SIGTERM": lambda session: self.ask(session, signal.SIGTERM),
            "SIGINT": lambda session: self.ask(session, signal.SIGINT),
            "a dead worker": self.kill_worker,
            "a truncated checkpoint": lambda session: self.harm(session, truncate),
            "a flipped bit": lambda session: self.harm(session, flip),
            "a missing file": lambda session: self.harm(session, Path.unlink),
        }
        if self.two_ranks:
            found |= {"kill -9 of a rank": self.kill_rank, "kill -9 of torchrun": self.kill_launcher}
        if self.disk:
            found["a full disk"] = self.fill_disk
        return found

    def cycle(self, fault: str) -> None:
        """One session, broken at a moment drawn by chance; afterwards nothing runs, and what is complete is whole."""
        session = start(self.job, self.base, self.models, fork=not self.two_ranks)
        self.wait_for_steps(session, self.draw.randint(1, 5), also_writing=self.draw.random() < 0.4)
        self.faults()[fault](session)
        status = session.wait()
        wait_until(lambda: not left_running(session, self.base), f"{fault}: still running after its end")
        assert "Traceback" not in session.told() or self.two_ranks, session.told()
        assert status in (1, 143, -signal.SIGKILL, 0), f"{fault}: status {status}\n{session.told()}"
        self.done.append(fault)

    def wait_for_steps(self, session: Session, count: int, *, also_writing: bool) -> None:
        """Until the session has taken so many steps, or, drawn by chance, writes a checkpoint; or has ended."""
        begun, left = self.steps_told(), self.unfinished()  # a session before may have been killed while it wrote

        def came() -> bool:
            writes = also_writing and bool(self.unfinished() - left)
            return self.steps_told() >= begun + count or writes or session.status() is not None

        wait_until(came, f"no step came:\n{session.told()}")

    def unfinished(self) -> set[tuple[str, int]]:
        """Checkpoints that are being written, with the number that the file system gave each."""
        found = set()
        for path in (self.checkpoints / ".incomplete").glob("checkpoint-*"):
            with suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_ino))
        return found

    def steps_told(self) -> int:
        return len(re.findall(r"step \d+/", self.log.read_text())) if self.log.is_file() else 0

    # The faults.

    def kill_parent(self, session: Session) -> None:
        session.send(signal.SIGKILL)

    def kill_rank(self, session: Session) -> None:
        if ranks := session.ranks():
            self.draw.choice(ranks).kill()

    def kill_launcher(self, session: Session) -> None:
        if launcher := session.launcher():
            launcher.kill()

    def kill_worker(self, session: Session) -> None:
        """Where none is left to read, the epoch is read to its end already: then the run goes on, and is stopped."""
        if workers := session.workers():
            self.draw.choice(workers).kill()
        self.wait_for_steps(session, 8, also_writing=False)
        session.send(signal.SIGTERM)

    def ask(self, session: Session, number: signal.Signals) -> None:
        asked = time.monotonic()
        session.send(number)
        status = session.wait()
        assert status in (143, 0), f"{number.name}: status {status}\n{session.told()}"
        assert time.monotonic() - asked < PATIENCE

    def harm(self, session: Session, how: Callable[[Path], Any]) -> None:
        """Damages a file of the newest checkpoint, once there is one and the session is killed; the next must tell."""
        wait_until(
            lambda: find_newest(self.checkpoints) is not None or session.status() is not None, "no checkpoint came"
        )
        session.send(signal.SIGKILL)
        session.wait()
        wait_until(lambda: not left_running(session, self.base), "still running after kill -9")
        if newest := find_newest(self.checkpoints):
            how(self.draw.choice(sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)))
            assert find_damage(newest)
            self.harmed += 1

    def fill_disk(self, session: Session) -> None:
        """Until the run waits for room; then it gets some and goes on, or is killed while it waits."""
        ballast = self.models / "ballast"
        disk = os.statvfs(self.models)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - STILL_FREE)
        wait_until(lambda: "WAITING" in session.told() or session.status() is not None, "never waited for room")
        if killed := self.draw.random() < 0.3:
            session.send(signal.SIGKILL)
            session.wait()
        ballast.unlink()
        if not killed:
            wait_until(lambda: "room again" in session.told() or session.status() is not None, "never went on")
            session.send(signal.SIGTERM)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def write_job(folder: Path, *, steps: int, two_ranks: bool) -> Path:
    """A job of tones; one clip is no audio from the beginning, another one will be later."""
    import soundfile

    (folder / "clips").mkdir(parents=True)
    lines = []
    for number in range(CLIPS + 4):
        time_axis = np.arange(8_000) / 16_000
        path = folder / "clips" / f"{number}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * time_axis), 16_000)
        split = "train" if number < CLIPS else "test"
        lines.append(json.dumps({"audio": str(path), "text": f"clip {number}", "split": split}))
    (folder / "clips" / "3.wav").write_bytes(b"RIFF no audio")
    manifest = folder / "clips.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    job = {
        "language": "en",
        "base": "new",
        "architecture": TINY_ARCHITECTURE,
        "model": {"dropout": 0.1, "spec_augment": {"mask_time_prob": 0.1, "mask_time_length": 2}},
        "data": {
            "train": [{"manifest": str(manifest), "split": "train"}],
            "eval": {"held-out": [{"manifest": str(manifest), "split": "test"}]},
            "max_dropped_fraction": 0.2,
        },
        "training": {
            "global_batch_size": 4,
            "max_steps": steps,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "eval_steps": 8,
            "save_steps": 2,
            "generation_max_length": 8,
        },
        "machine": {
            "audit_workers": 1,
            "dataloader_num_workers": 1,
            "threads": 1,
            "processes": 2 if two_ranks else 1,
        },
    }
    path = folder / "tortured.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def prepare(job: Path, base: Path, models: Path, *, fork: bool) -> None:
    """The audit, and then a clip that is no audio any more: training must leave it out, in every session."""
    clip = base.parent / "clips" / "7.wav"
    whole = clip.read_bytes()
    session = start(job, base, models, fork=fork)
    audit = models / job.stem / "data" / "audit.json"
    wait_until(lambda: audit.is_file() or session.status() is not None, f"no audit:\n{session.told()}")
    session.send(signal.SIGKILL)
    session.wait()
    assert audit.is_file(), session.told()
    wait_until(lambda: not left_running(session, base), "still running after kill -9")
    assert not list_checkpoints(models / job.stem / "checkpoints"), "the audit's session has trained already"
    clip.write_bytes(b"no audio any more" + whole[17:40])


def torture(
    folder: Path, *, cycles: int, minutes: int, seed: int, two_ranks: bool, say: Callable[[str], None]
) -> Torture:
    """Breaks up to `cycles` sessions and lets one end; raises AssertionError where anything is lost or wrong."""
    job, fork = write_job(folder, steps=3 * cycles + 10, two_ranks=two_ranks), not two_ranks
    whole = (folder / "clips" / "7.wav").read_bytes()
    import_all()
    unbroken, broken = folder / "unbroken", folder / "broken"
    unbroken.mkdir()
    prepare(job, unbroken, unbroken / "models", fork=fork)
    session = start(job, unbroken, unbroken / "models", fork=fork)
    assert session.wait() == 0, session.told()
    (folder / "clips" / "7.wav").write_bytes(whole)
    broken.mkdir()
    with small_disk(broken / "models", SMALL_DISK) as disk:
        if disk is None:
            say("a full disk: left out, since this user cannot mount a small file system")
        draw, models = random.Random(seed), broken / "models"
        run = Torture(job=job, base=broken, models=models, draw=draw, two_ranks=two_ranks, disk=disk is not None)
        prepare(job, broken, models, fork=fork)
        break_often(run, cycles, minutes, say)
        last = start(job, broken, models, fork=fork)
        assert last.wait() == 0, last.told()
        wait_until(lambda: not left_running(last, broken), "still running after the end")
        compare(unbroken / "models" / job.stem, run)
    return run


def break_often(run: Torture, cycles: int, minutes: int, say: Callable[[str], None]) -> None:
    """Each fault at least once, where there are enough cycles, in an order drawn by chance."""
    names = run.draw.sample(sorted(run.faults()), len(run.faults()))
    begun = time.monotonic()
    for number in range(cycles):
        if time.monotonic() - begun > 60 * minutes:
            say(f"{minutes} minutes are over: no more cycles")
            return
        fault = names[number] if number < len(names) else run.draw.choice(names)
        began, before = time.monotonic(), find_newest(run.checkpoints)
        run.cycle(fault)
        after = find_newest(run.checkpoints)
        told = f"{before.name if before else 'nothing'} -> {after.name if after else 'nothing'}"
        say(f"cycle {number + 1}/{cycles}: {fault}: {told}, {time.monotonic() - began:.0f} s")


def compare(unbroken: Path, run: Torture) -> None:
    """The same weights to the bit, the same best step, the same results, every damage told, every checkpoint whole."""
    broken = run.models / run.job.stem
    assert (broken / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes(), "other weights"
    facts = [json.loads((folder / "run.json").read_text()) for folder in (unbroken, broken)]
    for key in ("status", "promoted", "steps", "best_step", "best_metric", "kept"):
        assert facts[0].get(key) == facts[1].get(key), f"{key}: {facts[0].get(key)} and {facts[1].get(key)}"
    results = [json.loads((folder / "evaluation" / "results.json").read_text()) for folder in (unbroken, broken)]
    figures = [{name: (one["wer"], one["cer"], one["clips"]) for name, one in each["sets"].items()} for each in results]
    assert figures[0] == figures[1]
    for path in list_checkpoints(broken / "checkpoints"):
        assert find_damage(path) is None or not (path / MANIFEST).is_file(), f"{path.name} is damaged"
    assert run.log.read_text().count("is DAMAGED") >= run.harmed, "a damaged checkpoint was passed over in silence"
    dropped = (broken / "data" / "dropped-in-training.jsonl").read_text()
    assert "7.wav" in dropped, "the clip that became unreadable is not named"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=int, default=40, help="after so many no session is broken any more")
    parser.add_argument("--one-rank", action="store_true", help="sessions of one process: ten times as fast")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        run = torture(
            Path(folder),
            cycles=given.cycles,
            minutes=given.minutes,
            seed=given.seed,
            two_ranks=not given.one_rank,
            say=lambda line: print(line, flush=True),
        )
    print(
        f"{len(run.done)} sessions broken, {run.harmed} checkpoints damaged, in {time.monotonic() - began:.0f} s:"
        " the same weights to the bit, the same results, nothing left running"
    )


if __name__ == "__main__":
    main()
