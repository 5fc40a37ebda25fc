"""Windows fitted to their batch: as long as its longest clip needs, however the batch is split, and no clip is lost."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_dataset import make_index
from tests.tiny import SPEECH, TRAIN_CLIPS, run_here, write_job
from whisper_train.augment.settings import longest_stretch
from whisper_train.data.order import FILLER, ClipOrder
from whisper_train.job_data import Data
from whisper_train.training.window import STEP, EncoderWindow

BATCH = 8


def make_order(path: Path, seconds: list[float], stretch: float = 1.0, most: float = 30.0) -> ClipOrder:
    index = make_index(path, [0] * len(seconds), seconds=seconds)
    return ClipOrder(index, [1.0], BATCH, seed=1, window_seconds=most, stretch=stretch)


def lengths(count: int) -> list[float]:
    return [round(float(number), 2) for number in np.random.default_rng(0).uniform(1, 20, count)]


@pytest.mark.parametrize(
    ("seconds", "positions"), [(0.1, STEP), (0.5, STEP), (0.501, 2 * STEP), (9.9, 500), (29.9, 1_500), (31, 1_500)]
)
def test_a_window_is_as_long_as_needed_in_steps_of_half_a_second(seconds: float, positions: int) -> None:
    window = EncoderWindow(most=1_500, hop_length=160, fitted=True)
    assert window.positions(seconds) == positions
    assert window.samples(seconds) == positions * 320
    assert EncoderWindow(most=1_500, hop_length=160).positions(seconds) == 1_500


def test_a_window_has_room_for_the_masks_over_time() -> None:
    assert EncoderWindow(most=1_500, hop_length=160, fitted=True, least=60).positions(0.1) == 60


@pytest.mark.parametrize("clips", [3, 8, 9, 2_500])
def test_a_batch_has_clips_of_one_length_and_its_draws_say_what_the_longest_needs(tmp_path: Path, clips: int) -> None:
    seconds = lengths(clips)
    order = make_order(tmp_path / "index.arrow", seconds)
    draws = list(order)
    assert Counter(draw.positions for draw in draws if draw.positions) == {(clip,): 1 for clip in range(clips)}
    assert draws[clips:] == [FILLER] * (len(order) - clips)
    spreads = []
    for start in range(0, clips, BATCH):
        batch = [draw for draw in draws[start : start + BATCH] if draw.positions]
        heard = [seconds[draw.positions[0]] for draw in batch]
        (needed,) = {draw.window_seconds for draw in batch}
        assert max(heard) <= needed <= max(heard) + 0.02
        spreads.append(max(heard) - min(heard))
    assert clips < 1_000 or np.median(spreads) < 3, "of 19 seconds"
    order.set_epoch(1)
    assert clips < BATCH or list(order) != draws


def test_batches_do_not_come_by_their_length_but_for_the_longest(tmp_path: Path) -> None:
    """Whether that fits into memory is known at once."""
    draws = list(make_order(tmp_path / "index.arrow", lengths(800)))
    needed = [draw.window_seconds for draw in draws[::BATCH]]
    assert needed[0] == max(needed)
    assert abs(np.corrcoef(needed, range(len(needed)))[0, 1]) < 0.3


def test_no_epoch_has_the_batches_of_another(tmp_path: Path) -> None:
    order = make_order(tmp_path / "index.arrow", lengths(400))
    epochs = []
    for epoch in (0, 1):
        order.set_epoch(epoch)
        draws = [draw.positions for draw in order]
        epochs.append({frozenset(draws[start : start + BATCH]) for start in range(0, 400, BATCH)})
    assert not epochs[0] & epochs[1]


def test_what_is_shown_several_times_is_spread_over_batches(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 1_000 + [1] * 40, seconds=lengths(1_040))
    order = ClipOrder(index, [1.0, 8.0], BATCH, seed=1, stretch=1.0)
    draws = [draw.positions for draw in order if draw.positions]
    most = [max(Counter(draws[start : start + BATCH]).values()) for start in range(0, len(draws), BATCH)]
    assert np.mean(most) < 1.6
    assert max(most) < 5


@pytest.mark.parametrize("batch", [16, 64])
def test_rows_of_parquet_still_come_near_others_of_their_row_groups(tmp_path: Path, batch: int) -> None:
    groups = [number // 100 for number in range(5_000)]
    columns: dict[str, list[Any]] = {"row_group": groups, "audio": ["shard.parquet"] * 5_000, "seconds": lengths(5_000)}
    index = make_index(tmp_path / "index.arrow", [0] * 5_000, **columns)
    draws = list(ClipOrder(index, [1.0], batch, seed=1, stretch=1.0))
    seen = [groups[draw.positions[0]] for draw in draws if draw.positions]
    reads, kept = 0, Counter[int]()  # as a reader that keeps 12 of them, the latest
    for time, group in enumerate(seen):
        if group not in kept:
            reads += 1
            if len(kept) == 12:
                del kept[min(kept, key=lambda one: kept[one])]
        kept[group] = time
    assert reads < 2 * 50, "two for each of 50 row groups"


def test_large_batches_are_fitted_too(tmp_path: Path) -> None:
    seconds = [min(float(number), 29.0) for number in np.random.default_rng(0).lognormal(1.4, 0.6, 20_000)]
    index = make_index(tmp_path / "index.arrow", [0] * len(seconds), seconds=seconds)
    draws = list(ClipOrder(index, [1.0], 256, seed=1, stretch=1.0))
    assert sum(draw.window_seconds for draw in draws) < 1.4 * sum(seconds)


@pytest.mark.parametrize("step", [0, 1, 5, 13])
def test_a_resumed_epoch_goes_on_in_its_order(tmp_path: Path, step: int) -> None:
    order = make_order(tmp_path / "index.arrow", lengths(100))
    whole = list(order)
    order.go_on(step)
    assert list(order)[step * BATCH :] == whole[step * BATCH :]


def test_a_clip_that_effects_may_lengthen_gets_room_and_one_of_unknown_length_all_of_it(tmp_path: Path) -> None:
    draws = list(make_order(tmp_path / "index.arrow", [16.0] * 8 + [8.0] * 8, stretch=1.25))
    assert {round(draw.window_seconds, 2) for draw in draws} == {20.01, 10.01}
    draws = list(make_order(tmp_path / "other.arrow", [math.nan] + [9.0] * 7, most=20.0))
    assert {draw.window_seconds for draw in draws} == {20.0}


def test_effects_say_how_much_longer_a_clip_may_become() -> None:
    source = {"folder": "clips"}
    slow = {**source, "augment": {"speed": {"factor": [0.8, 1.1]}}}
    for train, stretch in (([source], 1.0), ([source, slow], 1.25)):
        assert longest_stretch(Data.model_validate({"train": train, "eval": [source]})) == pytest.approx(stretch)


def changes(name: str, **machine: Any) -> dict[str, Any]:
    """Clips of 1 to 2 seconds in a window of 4, some of them slowed down."""
    source = {"synthetic": {**SPEECH, "part": "train", "clips": TRAIN_CLIPS, "seed": 1}}
    data = {"train": [source], "window_seconds": 4, "augment": {"speed": {"factor": [0.8, 1.0]}}}
    training = {"max_steps": 6, "save_steps": 6, "eval_steps": 6, "learning_rate": 1e-3}
    return {"name": name, "data": data, "training": training, "machine": machine}


def facts_of(folder: Path, name: str) -> tuple[list[float], dict[str, float]]:
    """The losses of a run's steps, and the totals of its throughput."""
    state = json.loads((folder / "models" / name / "checkpoints" / "checkpoint-6" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return losses, json.loads((folder / "models" / name / "run.json").read_text())["throughput"]["totals"]


@pytest.mark.slow
def test_a_run_learns_the_same_however_its_batches_are_split_and_sees_little_silence(tmp_path: Path) -> None:
    machines: dict[str, dict[str, Any]] = {
        "whole": {"per_device_train_batch_size": 8},
        "parts": {"per_device_train_batch_size": 2},
        "ranks": {"per_device_train_batch_size": 2, "processes": 2, "deepspeed": "zero2"},
    }
    for name, machine in machines.items():
        run_here(write_job(tmp_path, **changes(name, **machine)), tmp_path)
    (whole, totals), (parts, split), (spread, _) = (facts_of(tmp_path, name) for name in machines)
    assert whole == pytest.approx(parts, rel=1e-5)
    assert whole == pytest.approx(spread, rel=1e-3)
    assert split["window_seconds"] - totals["window_seconds"] == 2.0, "two batches without a clip, of a second each"
    assert totals["window_seconds"] < 1.7 * totals["audio_seconds"]
    assert totals["clips"] == TRAIN_CLIPS
