"""`whisper-train hear`: clips before and after, with what was drawn for them, without a model."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.conftest import MakeJob, MakeWav, RunCli
from tests.tiny import SPEECH, write_job

GAIN: dict[str, Any] = {"gain": {"decibels": [-20, -20]}}
QUIETER = "gain: -20.0 dB"


@pytest.fixture(autouse=True)
def base(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BASE_DIR", str(place))
    return place


def synthetic(clips: int, **changes: Any) -> dict[str, Any]:
    return {"synthetic": {**SPEECH, "clips": clips, **changes}}


def data(*train: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"train": list(train), "eval": [synthetic(2, seed=9)], **more}


def loudness(path: Path) -> float:
    return float(np.abs(soundfile.read(path)[0]).max())


# What is refused.


@pytest.mark.parametrize("effects", [None, {}, {"gain": None}])
def test_a_job_that_changes_nothing_has_nothing_to_hear(
    effects: dict[str, Any] | None, make_job: MakeJob, run_cli: RunCli
) -> None:
    result = run_cli("hear", make_job(data(synthetic(2), augment=effects)))
    assert result.exit_code == 2
    assert "error: tiny: data.augment: is missing: training hears the clips as they are" in result.output


def test_a_folder_of_noise_that_is_not_there_is_named(make_job: MakeJob, run_cli: RunCli) -> None:
    result = run_cli("hear", make_job(data(synthetic(2), augment={"noise": {"folder": "street"}})))
    assert result.exit_code == 2
    assert "data.augment.noise.folder: " in result.output


def test_clips_that_cannot_be_read_are_told_and_others_taken(
    base: Path, make_job: MakeJob, make_wav: MakeWav, run_cli: RunCli
) -> None:
    make_wav(base / "good.wav")
    make_wav(base / "long.wav", seconds=3.0)
    lines = [f'{{"audio": "{name}.wav", "text": "{name}"}}\n' for name in ("gone", "good", "long")]
    (base / "clips.jsonl").write_text("".join(lines))
    job = make_job(data({"manifest": "clips.jsonl"}, augment=GAIN, max_seconds=2))
    result = run_cli("hear", job)
    assert result.exit_code == 0
    assert "gone.wav: no such file; left out" in result.output
    assert "long.wav: over 2 s; left out" in result.output
    assert (base / "logs" / "tiny" / "hear" / "index.html").read_text().count("<article") == 1

    (base / "good.wav").unlink()
    result = run_cli("hear", job)
    assert result.exit_code == 2
    assert "tiny: data.train: none of its clips can be read" in result.output


# What is written.


def test_twenty_clips_before_and_after_with_what_was_drawn(base: Path, make_job: MakeJob, run_cli: RunCli) -> None:
    result = run_cli("hear", make_job(data(synthetic(30), augment=GAIN)))
    assert result.exit_code == 0
    folder = base / "logs" / "tiny" / "hear"
    assert f"listen: {(folder / 'index.html').relative_to(base)}" in result.output
    assert sorted(path.name for path in folder.glob("*.flac")) == sorted(
        f"{number:02}-{when}.flac" for number in range(1, 21) for when in ("before", "after")
    )
    for number in range(1, 21):
        before, after = (loudness(folder / f"{number:02}-{when}.flac") for when in ("before", "after"))
        assert after == pytest.approx(before / 10, rel=0.01)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count(QUIETER) == page.count("<article") == 20
    assert page.count("<audio") == 40
    assert all((folder / name).is_file() for name in re.findall(r'src="([^"]+)"', page))
    assert 'lang="en"' in page
    assert not list(folder.glob(".*"))
    assert not (base / "models").exists(), "nothing was audited, fetched or trained"


def test_only_sources_that_are_changed_are_heard_each_as_often(base: Path, make_job: MakeJob, run_cli: RunCli) -> None:
    changed, other = {"augment": GAIN}, {"augment": {"telephone": {"codecs": ["gsm"]}}}
    sources = [synthetic(12, seed=1) | changed, synthetic(12, seed=2), synthetic(12, seed=3) | other]
    assert run_cli("hear", make_job(data(*sources))).exit_code == 0
    page = (base / "logs" / "tiny" / "hear" / "index.html").read_text(encoding="utf-8")
    assert page.count(QUIETER) == page.count("telephone: gsm") == 10


def test_fewer_clips_than_twenty_are_all_heard(base: Path, make_job: MakeJob, run_cli: RunCli) -> None:
    source = synthetic(3)
    assert run_cli("hear", make_job(data(source, augment={"dropouts": {"probability": 0}} | GAIN))).exit_code == 0
    assert (base / "logs" / "tiny" / "hear" / "index.html").read_text().count("<article") == 3


def test_a_clip_for_which_nothing_was_drawn_says_so(base: Path, make_job: MakeJob, run_cli: RunCli) -> None:
    effects = {"gain": {"probability": 0.0}}
    assert run_cli("hear", make_job(data(synthetic(3), augment=effects))).exit_code == 0
    page = (base / "logs" / "tiny" / "hear" / "index.html").read_text()
    assert page.count("Nothing was drawn for this clip") == 3


@pytest.mark.slow
def test_it_is_what_the_first_epoch_of_the_run_hears(base: Path, run_cli: RunCli) -> None:
    """Where the run has audited its clips, these are taken, at the places that they have there."""
    from tests.augment.signals import augmenter, read
    from tests.tiny import run_here, tiny_job
    from whisper_train.data.index import Index

    effects: dict[str, Any] = {"gain": {}, "noise": {"kinds": ["white", "babble"]}}
    job = write_job(
        base, data={**tiny_job()["data"], "augment": effects}, training={"max_steps": 1, "eval_strategy": "no"}
    )
    run_here(job, base)
    result = run_cli("hear", job)
    assert "no audit" not in result.output
    assert not (base / "logs" / "tiny" / "hear" / "clips.arrow").exists()
    index = Index(base / "models" / "tiny" / "data" / "train.arrow", base / "cache")
    heard, _ = soundfile.read(base / "logs" / "tiny" / "hear" / "01-after.flac", dtype="float32")
    assert np.allclose(heard, augmenter(index, 42, **effects)(read(index, 0), 0, 0), atol=1e-4)
