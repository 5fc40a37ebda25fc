"""A chain of three tiny jobs, and another way to its end, in a folder of their own."""

from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY
from tests.tiny import SPEECH, tiny_job


def speech(part: str, clips: int, seed: int, voice: str) -> list[dict[str, Any]]:
    return [{"synthetic": {**SPEECH, "part": part, "clips": clips, "seed": seed, "voices": [voice]}}]


def stage(base: str, extends: str, name: str, seed: int, voice: str, **changes: Any) -> dict[str, Any]:
    return {
        "extends": extends,
        "base": f"job:{base}",
        "architecture": None,
        "data": {
            "train": speech("train", 16, seed, voice),
            "eval": {name: speech("held-out", 4, seed + 1, voice)},
        },
        "training": {"max_steps": 4, "eval_steps": 2, "save_steps": 2},
        **changes,
    }


def write_chain(folder: Path) -> Path:
    """Writes first <- second <- third, and second-plain <- third-plain, with machine profiles; returns the folder."""
    folder.mkdir(parents=True)
    (folder / "machines").symlink_to(REPOSITORY / "jobs" / "machines")
    write(folder, "first", tiny_job())
    write(folder, "second", stage("first", "first", "other", 11, "de+f3"))
    write(folder, "third", stage("second", "second", "last", 21, "de+m3"))
    write(folder, "second-plain", {"extends": "second", "training": {"learning_rate": 5e-3}})
    write(folder, "third-plain", {"extends": "third", "base": "job:second-plain"})
    return folder


def write(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")


def change(folder: Path, name: str, section: str, **values: Any) -> None:
    """Lays `values` over a section of the job `name`."""
    job = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    job[section] = {**(job.get(section) or {}), **values}
    write(folder, name, job)
