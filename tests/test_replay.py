"""What a model knows already is mixed into what it is to learn: from the jobs before, and from other sources."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import TINY_ARCHITECTURE, RunCli
from whisper_train.augment.settings import training_settings
from whisper_train.chains.load import load_chain, load_whole
from whisper_train.cloud.travel import local_places
from whisper_train.data.index import Index, write_index
from whisper_train.data.order import ClipOrder
from whisper_train.data.weights import apportion, count_replayed, describe_replayed, epoch_weights
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_augment import Augment
from whisper_train.job_data import Data
from whisper_train.job_file import dump_job
from whisper_train.paths import read_json
from whisper_train.prepare import missing_manifests

FIRST: dict[str, Any] = {
    "language": "de",
    "base": "new",
    "architecture": {},
    "data": {
        "train": [{"manifest": "clean.csv"}, {"manifest": "english.csv", "language": "en", "weight": 0.5}],
        "eval": {"clean": [{"manifest": "clean-eval.csv"}]},
    },
}
SECOND: dict[str, Any] = {
    "language": "de",
    "base": "job:first",
    "data": {
        "train": [{"manifest": "rooms.csv"}, {"manifest": "as-it-is.csv", "augment": {}}],
        "augment": {"room": {}},
        "replay": {"share": 0.3},
        "eval": {"rooms": [{"manifest": "rooms-eval.csv"}]},
    },
}
THIRD: dict[str, Any] = {
    "language": "fr",
    "base": "job:second",
    "data": {
        "train": [{"manifest": "phone.csv"}],
        "augment": {"telephone": {}},
        "replay": {"share": 0.25, "sources": [{"manifest": "spanish.csv", "language": "es"}]},
        "eval": {"phone": [{"manifest": "phone-eval.csv"}]},
    },
}


def write(folder: Path, name: str, job: dict[str, Any], **data: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**job, "data": {**job["data"], **data}}), encoding="utf-8")
    return path


@pytest.fixture
def chain(place: Path) -> Path:
    """The job file of the third of three jobs."""
    write(place, "first", FIRST)
    write(place, "second", SECOND)
    return write(place, "third", THIRD)


def load(path: Path) -> Job:
    return load_whole(str(path), machine_path=None, overrides=(), environment={})


def replayed(job: Job) -> dict[str, Any]:
    assert job.data.replay is not None
    return {Path(str(source.manifest)).name: source for source in job.data.replay.sources}


# What is wrong is told before anything is read.


def test_a_base_that_is_no_job_has_no_earlier_data(place: Path, run_cli: RunCli) -> None:
    path = write(place, "third", {**THIRD, "base": "openai/whisper-tiny"})
    result = run_cli("check", path)
    assert result.exit_code == 2
    assert "third.yaml: data.replay.earlier: true: the base openai/whisper-tiny is no job" in result.output
    assert "write earlier: false and name what to replay in data.replay.sources" in result.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replay": {"earlier": False}}, "nothing to replay"),
        ({"replay": {"share": 1.0}}, "data.replay.share: 1.0"),
        ({"replay": {"share": 0}}, "data.replay.share: 0"),
        ({"replay": {"sources": [{"manifest": "x.csv", "language": "xx"}]}}, "data.replay.sources.0.language: xx"),
        ({"train": []}, "replay: is mixed into data.train, which is missing"),
    ],
)
def test_a_mistake_in_replay_is_named(chain: Path, run_cli: RunCli, changes: dict[str, Any], words: str) -> None:
    result = run_cli("check", write(chain.parent, "third", THIRD, **changes))
    assert result.exit_code == 2
    assert words in result.output


def test_random_weights_know_nothing_to_replay(place: Path) -> None:
    path = write(place, "first", FIRST, replay={"earlier": False, "sources": [{"manifest": "x.csv"}]})
    with pytest.raises(UserError, match="`base: new` knows nothing"):
        load(path)


def test_bases_in_a_circle_are_told(chain: Path) -> None:
    write(chain.parent, "first", {**FIRST, "base": "job:third", "architecture": None})
    with pytest.raises(UserError, match="third: base: job:third: the bases go in a circle"):
        load(chain)


def test_a_base_without_a_job_file_is_told(chain: Path) -> None:
    (chain.parent / "first.yaml").unlink()
    with pytest.raises(UserError, match="second: base: job:first: no such job"):
        load(chain)


def test_another_task_is_not_replayed(chain: Path) -> None:
    write(chain.parent, "first", {**FIRST, "task": "translate"})
    with pytest.raises(UserError, match="first has the task translate, this job transcribe"):
        load(chain)


# Which sources are replayed.


def test_the_data_of_every_job_before_is_replayed_as_it_was_trained_on(chain: Path) -> None:
    sources = replayed(load(chain))
    assert list(sources) == ["spanish.csv", "rooms.csv", "as-it-is.csv", "clean.csv", "english.csv"]
    assert {name: source.language for name, source in sources.items()} == {
        "spanish.csv": "es",
        "rooms.csv": "de",  # the job's own language is another one
        "as-it-is.csv": "de",
        "clean.csv": "de",
        "english.csv": "en",
    }
    assert sources["rooms.csv"].augment.room
    assert not sources["rooms.csv"].augment.telephone
    clean = [source.augment for name, source in sources.items() if name != "rooms.csv"]
    assert clean == [Augment()] * 4  # not null, which would be the telephone of this job
    assert sources["english.csv"].weight == 0.5


def test_training_hears_the_new_in_its_own_way_and_the_old_in_theirs(chain: Path) -> None:
    job = load(chain)
    new, *old = training_settings(job.data)
    assert new
    assert new.telephone
    assert [bool(one and one.room) for one in old] == [False, True, False, False, False]
    assert not any(one is None or one.telephone for one in old)


def test_the_resolved_job_loads_again_to_the_same(chain: Path, run_cli: RunCli) -> None:
    job = load(chain)
    printed = run_cli("check", chain).output
    assert "earlier: false" in printed
    assert str(chain.parent / "clean.csv") in printed
    again = chain.parent / "again.yaml"
    again.write_text(dump_job(job), encoding="utf-8")
    for path in chain.parent.glob("[fs]*.yaml"):
        path.unlink()  # it needs no other file any more
    assert load(again) == job


def test_a_chain_resolves_each_of_its_jobs(chain: Path) -> None:
    first, second, third = load_chain(str(chain), machine_path=None, overrides=(), environment={})
    assert first.data.replay is None
    assert list(replayed(second)) == ["clean.csv", "english.csv"]
    assert third == load(chain)
    alone = load_chain(str(chain), machine_path=None, overrides=(), environment={}, is_done=lambda base: True)
    assert alone == [third]


def test_what_is_named_twice_is_replayed_once(chain: Path) -> None:
    """A job that extends another one has its sources; the nearest one's weight counts."""
    write(chain.parent, "second", SECOND, train=[{"manifest": "clean.csv", "augment": {}, "weight": 3}])
    sources = load(chain).data.replay
    assert sources is not None
    assert Counter(Path(str(source.manifest)).name for source in sources.sources)["clean.csv"] == 1
    assert replayed(load(chain))["clean.csv"].weight == 3


def test_a_language_that_is_spelled_out_makes_no_other_source(place: Path) -> None:
    write(place, "first", FIRST)
    spelled = [{"manifest": "clean.csv", "augment": {}, "language": "de"}]
    sources = load(write(place, "second", SECOND, replay={"share": 0.3, "sources": spelled})).data.replay
    assert sources is not None
    assert [Path(str(source.manifest)).name for source in sources.sources] == ["clean.csv", "english.csv"]


def test_the_same_clips_in_another_room_are_another_source(chain: Path) -> None:
    write(chain.parent, "second", SECOND, train=[{"manifest": "clean.csv"}])
    replay = load(chain).data.replay
    assert replay is not None
    rooms = [
        bool(source.augment and source.augment.room) for source in replay.sources if "clean" in str(source.manifest)
    ]
    assert rooms == [True, False]


def test_replayed_sources_are_sources_like_others(chain: Path) -> None:
    """Their paths are relative to their file, they must be there, and they cannot travel."""
    job = load(chain)
    spanish = str(chain.parent / "spanish.csv")
    assert "spanish.csv" in missing_manifests(job)
    assert ("data.replay.sources.0.manifest", spanish) in list(local_places(job))


# How much of it an epoch shows.


def make_index(path: Path, *counts: int, spoken: Sequence[bool] = ()) -> Index:
    """So many clips of each source; of a `spoken` one it is known that one speaker says them, in 6 s each."""
    known = {"speaker": "a", "recording": "b", "language": "de", "seconds": 6.0, "tokens": 10}
    unknown = {"speaker": "", "recording": "", "language": "de", "seconds": 6.0, "tokens": 10}
    rows = (
        {"id": f"{source}-{number}", "text": "a", "audio": "x", "source": source, "row_group": -1}
        | (known if spoken and spoken[source] else unknown)
        for source, count in enumerate(counts)
        for number in range(count)
    )
    write_index(path, rows)
    return Index(path, None)


def make_data(share: float, learned: list[float], others: list[float], windows: dict[str, Any] | None = None) -> Data:
    def sources(weights: list[float]) -> list[dict[str, Any]]:
        return [{"manifest": "x.csv", "weight": weight} for weight in weights]

    replay = {"share": share, "earlier": False, "sources": sources(others)}
    values = {"train": sources(learned), "replay": replay, "windows": windows, "eval": [{"manifest": "y.csv"}]}
    return Data.model_validate(values)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(100, 40, 300, 900), (100, 40, 1, 2), (1000, 1, 7, 0)])
def test_an_epoch_has_the_share_that_was_asked_for(place: Path, share: float, counts: tuple[int, ...]) -> None:
    data, index = make_data(share, [1.0, 0.5], [2.0, 1.0]), make_index(place / "train.arrow", *counts)
    weights = epoch_weights(data, index)
    assert weights[:2] == [1.0, 0.5]
    shown = [round(count * weight) for count, weight in zip(counts, weights, strict=True)]
    assert abs(sum(shown[2:]) - share * sum(shown)) <= 1
    asked, found = 2 * counts[2] / (2 * counts[2] + counts[3]), shown[2] / max(sum(shown[2:]), 1)
    assert abs(asked - found) * max(sum(shown[2:]), 1) <= 1
    told = count_replayed(data, index)
    assert told == {"clips": sum(shown[2:]), "shown": sum(shown), "known": counts[2] + counts[3]}


@pytest.mark.parametrize(
    ("known", "windows", "words"),
    [
        (1000, None, "an epoch shows 100 clips; 10 of them are replayed, from 1,000 (others each time)"),
        (4, None, "an epoch shows 100 clips; 10 of them are replayed, from 4 (each 2.5 times on average)"),
        (20, {}, "an epoch shows about 100 clips; about 10 of them are replayed, from 20 (others each time)"),
    ],
)
def test_what_is_told_of_it(place: Path, known: int, windows: dict[str, Any] | None, words: str) -> None:
    index = make_index(place / "train.arrow", 90, known)
    data = make_data(0.1, [1.0], [1.0], windows)
    assert describe_replayed(data, count_replayed(data, index)) == words


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_joined_clips_are_replayed_by_the_clip_too(place: Path, share: float) -> None:
    """The new come four in a window, the old alone: a share of the windows would be another one of the clips."""
    data, index = (
        make_data(share, [1.0], [1.0], {}),
        make_index(place / "train.arrow", 4000, 1000, spoken=[True, False]),
    )
    order = ClipOrder(
        index, epoch_weights(data, index), 8, seed=1, windows=data.windows, window_seconds=30.0, max_tokens=448
    )
    shown = [index[position]["source"] for draw in order for position in draw.positions]
    assert sum(shown) / len(shown) == pytest.approx(share, rel=0.02)
    assert len(order) < 2500 + len(shown) * share


def test_nothing_left_to_replay_is_told(place: Path) -> None:
    with pytest.raises(UserError, match=r"data\.replay: the audit left no clip of its sources"):
        epoch_weights(make_data(0.1, [1.0], [1.0]), make_index(place / "train.arrow", 10, 0))


def test_parts_are_whole_and_sum_up() -> None:
    assert apportion(10, np.array([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert apportion(0, np.array([1.0, 2.0])).tolist() == [0, 0]


# What a run makes of it.


@pytest.fixture
def two_jobs(place: Path, make_manifest: Callable[..., Path]) -> Path:
    """A job of 12 clips, and one of 8 that builds on it and names two of those again."""
    make_manifest(place / "clips.jsonl", clips=16)
    make_manifest(place / "eval.jsonl", clips=2, first=30)
    training = {"global_batch_size": 4, "max_steps": 2, "eval_strategy": "no", "logging_steps": 1}
    machine = {"audit_workers": 1, "dataloader_num_workers": 0, "threads": 1}
    common = {"language": "en", "training": training, "machine": machine}
    evaluated = {"eval": [{"manifest": "eval.jsonl"}]}
    before = {"train": [{"manifest": "clips.jsonl", "split": "[:10]"}], **evaluated}
    now = {"train": [{"manifest": "clips.jsonl", "split": "[8:]"}], "replay": {"share": 0.5}, **evaluated}
    write(place, "before", {**common, "base": "new", "architecture": TINY_ARCHITECTURE, "data": before})
    return write(place, "now", {**common, "base": "job:before", "data": now})


def test_a_run_replays_what_its_base_learned(two_jobs: Path, run_cli: RunCli) -> None:
    result = run_cli("train", two_jobs)
    assert result.exit_code == 0, result.output
    assert "an epoch shows 16 clips; 8 of them are replayed, from 10 (others each time)" in result.output
    folder = Path(os.environ.get("MODEL_DIR", "models")) / "now"
    assert read_json(folder / "run.json")["replay"] == {"clips": 8, "shown": 16, "known": 10}
    card = (folder / "README.md").read_text()
    assert "clips.jsonl \\[:10\\] (replayed, so that it is not forgotten)" in card
    assert "Of 16 clips that an epoch showed, 8 (50%) were replayed." in card
    assert not read_json(folder / "data" / "audit.json")["sets"]["train"]["dropped"]  # two clips are in both
    again = run_cli("train", two_jobs)
    assert "finished before" in again.output


def test_replay_does_not_bring_in_what_is_evaluated(two_jobs: Path, run_cli: RunCli) -> None:
    evaluated = {"eval": [{"manifest": "eval.jsonl"}, {"manifest": "clips.jsonl", "split": "[:2]"}]}
    values = yaml.safe_load(two_jobs.read_text())
    write(two_jobs.parent, "now", values, **evaluated, max_dropped_fraction=0.5)
    result = run_cli("train", two_jobs)
    assert "2 in both train and eval" in result.output
    assert "8 of them are replayed, from 8" in result.output
