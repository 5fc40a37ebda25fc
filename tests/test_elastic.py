"""A run that moves from two ranks to one and back learns the same from the same clips, each of them once an epoch."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from torch.utils.data import BatchSampler

from tests.tiny import STEPS_PER_EPOCH, TRAIN_CLIPS, interrupt, run, write_job
from whisper_train.data.index import Index, write_index
from whisper_train.data.order import ClipOrder, Draw

WATCHER = Path(__file__).parent / "seen_clips"
STEPS = 2 * STEPS_PER_EPOCH
PLAIN: dict[str, Any] = {"threads": 1, "audit_workers": 1, "dataloader_num_workers": 0}
# Where each session ends: in the middle of the first epoch, in the middle of the second, and at the end.
WAYS: dict[str, list[tuple[int, dict[str, Any], int | None]]] = {
    "zero2": [
        (2, {"deepspeed": "zero2"}, 3),
        (1, {"deepspeed": "zero2", "per_device_train_batch_size": 2}, 9),
        (2, {"deepspeed": "zero2-16gb"}, None),  # another variant
    ],
    "plain": [(2, {}, 3), (1, {"per_device_train_batch_size": 2}, 9), (2, {}, None)],
}


def watching(folder: Path) -> dict[str, str]:
    folder.mkdir()
    path = os.pathsep.join(filter(None, [str(WATCHER), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SEEN_CLIPS": str(folder)}


def seen(folder: Path) -> dict[int, Counter[str]]:
    """The clips that all ranks together heard, by epoch."""
    epochs: dict[int, Counter[str]] = {}
    for path in folder.glob("rank-*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            epochs.setdefault((line["step"] - 1) // STEPS_PER_EPOCH, Counter()).update(line["clips"])
    return epochs


def losses(base: Path, name: str) -> list[float]:
    """Of every step, as exactly as they were computed."""
    state = base / "models" / name / "checkpoints" / f"checkpoint-{STEPS}" / "trainer_state.json"
    logged = [entry for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]
    assert [entry["step"] for entry in logged] == list(range(1, STEPS + 1))
    return [entry["loss"] for entry in logged]


def batches_of(order: ClipOrder, rank: int, ranks: int, clips: int, skip: int) -> Iterator[list[Draw]]:
    """What accelerate hands to a rank, so many `clips` at a time, after those it skips in a resumed epoch."""
    whole: Any = order
    shard = BatchSamplerShard(BatchSampler(whole, clips, drop_last=False), ranks, rank)
    yield from SkipBatchSampler(shard, skip_batches=skip)


@pytest.mark.parametrize("moves", [[(2, 4, 3), (1, 2, 9), (2, 4, 12)], [(4, 1, 1), (1, 8, 7), (2, 1, 11), (8, 1, 12)]])
def test_moves_show_each_clip_once_an_epoch(tmp_path: Path, moves: list[tuple[int, int, int]]) -> None:
    """Sessions of so many ranks and clips at a time, each up to a step; the draws alone, without any training."""
    path = tmp_path / "train.arrow"
    facts = {"text": "a", "audio": "x", "source": 0, "row_group": -1, "speaker": "", "recording": "", "language": "de"}
    write_index(path, ({"id": f"{number}", "seconds": 1.0, "tokens": 9, **facts} for number in range(TRAIN_CLIPS)))
    seen: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    by_step: dict[int, set[int]] = {}
    done = 0
    for ranks, clips, until in moves:
        order = ClipOrder(Index(path, None), [1.0], 8, seed=3)
        accumulation = 8 // (ranks * clips)
        while done < until:
            order.go_on(done)
            epoch, first = divmod(done, STEPS_PER_EPOCH)
            last = min(until - epoch * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
            for rank in range(ranks):
                batches = list(batches_of(order, rank, ranks, clips, first * accumulation))
                for number, batch in enumerate(batches[: (last - first) * accumulation]):
                    positions = [position for draw in batch for position in draw.positions]
                    seen[epoch].update(positions)
                    by_step.setdefault(done + number // accumulation, set()).update(positions)
            done += last - first
    assert seen == {epoch: Counter(range(TRAIN_CLIPS)) for epoch in (0, 1)}
    unmoved = ClipOrder(Index(path, None), [1.0], 8, seed=3)
    for epoch in (0, 1):
        unmoved.go_on(epoch * STEPS_PER_EPOCH)
        draws = [position for draw in unmoved for position in draw.positions]
        for step in range(STEPS_PER_EPOCH):
            assert by_step[epoch * STEPS_PER_EPOCH + step] == set(draws[8 * step : 8 * step + 8])


@pytest.mark.slow
@pytest.mark.parametrize("way", list(WAYS))
def test_two_ranks_to_one_to_two_learn_the_same_from_the_same_clips(tmp_path: Path, way: str) -> None:
    ranks, settings, _ = WAYS[way][0]
    job = write_job(tmp_path, "unbroken", machine={**PLAIN, "processes": ranks, **settings})
    expected = watching(tmp_path / "seen-unbroken")
    run(job, tmp_path, expect=0, **expected)
    found = watching(tmp_path / "seen-moved")
    for ranks, settings, until in WAYS[way]:
        job = write_job(tmp_path, "moved", machine={**PLAIN, "processes": ranks, **settings})
        if until is None:
            run(job, tmp_path, expect=0, **found)
            break
        log, words = tmp_path / "logs" / "moved" / "training.log", f"step {until}/{STEPS}"
        status, output = interrupt(
            job,
            tmp_path,
            lambda log=log, words=words: log.is_file() and words in log.read_text(),  # type: ignore[misc]
            signal.SIGTERM,
            variables=found,
        )
        assert status == 143, output
    pairs = list(zip(losses(tmp_path, "moved"), losses(tmp_path, "unbroken"), strict=True))
    assert max(abs(ours - theirs) for ours, theirs in pairs) < 1e-3, pairs
    theirs, ours = seen(tmp_path / "seen-unbroken"), seen(tmp_path / "seen-moved")
    assert ours == theirs
    assert {epoch: sum(clips.values()) for epoch, clips in ours.items()} == {0: TRAIN_CLIPS, 1: TRAIN_CLIPS}
    assert ours[0] == ours[1]
