"""The audit before training: every clip it drops is counted and named, and it never ends in half a result."""

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from tests.conftest import TINY_ARCHITECTURE, MakeWav
from tests.tiny import tiny_job
from whisper_train.data.audit import CONTROL_CHARACTERS, OUTSIDE, REASONS, SPECIAL_TOKENS
from whisper_train.data.clip import NO_SUCH_FILE
from whisper_train.data.index import Index, shorten, write_index
from whisper_train.data.prepare import all_are_missing, fingerprint_of, prepare_data, prepare_eval_data, set_fingerprint
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source
from whisper_train.paths import read_json

Line = tuple[str, str]  # file, text


def make_manifest(path: Path, lines: list[Line]) -> str:
    path.write_text("".join(json.dumps({"audio": name, "text": text}) + "\n" for name, text in lines))
    return str(path)


def make_job(train: list[str], evaluated: list[str], **data: Any) -> Job:
    sets = {
        "train": [{"manifest": path} for path in train],
        "eval": {"eval": [{"manifest": path} for path in evaluated]},
    }
    values = {"name": "audited", "language": "en", "base": "new", "architecture": TINY_ARCHITECTURE}
    return Job.model_validate(values | {"data": sets | data, "machine": {"audit_workers": 1}})


class Audited:
    """The audit of a job in `folder`: its numbers, what it said, what it named."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.said: list[str] = []
        self.folder = folder
        self.audit = prepare_data(
            job,
            folder,
            cache=folder / "cache",
            count_tokens=lambda text: len(text.split()) + 5,
            max_tokens=15,
            window_seconds=2.0,
            say=self.said.append,
        )

    def dropped(self, name: str) -> dict[str, int]:
        return dict(self.audit["sets"][name]["dropped"])

    def kept(self, name: str) -> list[str]:
        return [row["id"] for row in Index(self.folder / f"{name}.arrow", cache=None)]

    @property
    def named(self) -> list[dict[str, str]]:
        return read_lines(self.folder / "dropped.jsonl")


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def wrong_clips(place: Path, make_wav: MakeWav) -> list[Line]:
    """One clip of each kind that training cannot use, and two that it can."""
    make_wav(place / "good.wav", pitch=300)
    make_wav(place / "other.wav", pitch=310)
    make_wav(place / "long.wav", seconds=2.5, pitch=320)
    make_wav(place / "wordless.wav", pitch=330)
    make_wav(place / "wordy.wav", pitch=340)
    make_wav(place / "again.wav", pitch=300)  # the very samples of good.wav
    make_wav(place / "evaluated.wav", pitch=400)
    (place / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(place / "silent.wav", np.full(8_000, 1e-4), 16_000)
    names = ("good", "other", "long", "wordless", "wordy", "again", "evaluated", "broken", "silent", "gone")
    texts = {"wordless": "  ", "wordy": "word " * 11}
    return [(f"{name}.wav", texts.get(name, f"this is {name}")) for name in names]


def test_every_reason_is_counted_and_named(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])

    result = Audited(make_job([train], [evaluated], max_dropped_fraction=1), place / "data")

    expected = {"unreadable": 2, "empty text": 1, "silent": 1, "too long": 1, "too many tokens": 1, "duplicate": 1}
    expected["in both train and eval"] = 1
    assert result.dropped("train") == expected
    by_strangers = {OUTSIDE, CONTROL_CHARACTERS, SPECIAL_TOKENS}  # tests/test_hostile_data.py
    assert expected.keys() == set(REASONS) - by_strangers
    assert result.kept("train") == ["good.wav", "other.wav"]
    counted = result.audit["sets"]["train"]
    assert (counted["clips"], counted["kept"]) == (10, 2)
    assert counted["hours"] == pytest.approx(1.0 / 3600, abs=1e-4)
    assert {(line["clip"], line["reason"]) for line in result.named} == {
        ("long.wav", "too long"),
        ("wordless.wav", "empty text"),
        ("wordy.wav", "too many tokens"),
        ("again.wav", "duplicate"),
        ("evaluated.wav", "in both train and eval"),
        ("broken.wav", "unreadable"),
        ("gone.wav", "unreadable"),
        ("silent.wav", "silent"),
    }
    details = {line["clip"]: line.get("detail") for line in result.named}
    assert details["gone.wav"] == "no such file"
    assert details["wordy.wav"] == "16 tokens, over 15"
    assert details["long.wav"] == "over 2 s"
    assert any("2 of 10 clips kept" in line and "2 unreadable" in line for line in result.said)


def test_kept_and_dropped_account_for_every_clip(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips * 7)
    evaluated = make_manifest(place / "eval.jsonl", [("other.wav", "one")])

    result = Audited(make_job([train], [evaluated], max_dropped_fraction=1), place / "data")

    for name, counted in result.audit["sets"].items():
        assert counted["kept"] + sum(counted["dropped"].values()) == counted["clips"]
        assert len([line for line in result.named if line["set"] == name]) == sum(counted["dropped"].values())
        assert len(result.kept(name)) == counted["kept"]


def test_eval_keeps_what_train_drops(place: Path, make_wav: MakeWav) -> None:
    """A clip in both sets would make the result look better than it is; the eval set stays as it was given."""
    for number in range(4):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    make_wav(place / "copy.wav", pitch=200)  # of 0.wav, under another name
    train = make_manifest(place / "train.jsonl", [("0.wav", "a"), ("1.wav", "b"), ("2.wav", "c")])
    evaluated = make_manifest(place / "eval.jsonl", [("copy.wav", "a"), ("3.wav", "d"), ("copy.wav", "a")])

    result = Audited(make_job([train], [evaluated], max_dropped_fraction=0.5), place / "data")

    assert result.kept("train") == ["1.wav", "2.wav"]
    assert result.kept("eval.eval") == ["copy.wav", "3.wav"]
    assert result.dropped("eval.eval") == {"duplicate": 1}


def test_a_duplicate_is_found_across_sources(place: Path, make_wav: MakeWav) -> None:
    for number in range(3):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    first = make_manifest(place / "a.jsonl", [("0.wav", "a")])
    second = make_manifest(place / "b.jsonl", [("0.wav", "a"), ("1.wav", "b")])
    evaluated = make_manifest(place / "eval.jsonl", [("2.wav", "c")])

    result = Audited(make_job([first, second], [evaluated], max_dropped_fraction=0.5), place / "data")

    index = Index(place / "data" / "train.arrow", cache=None)
    assert [(row["id"], row["source"]) for row in index] == [("0.wav", 0), ("1.wav", 1)]
    assert result.dropped("train") == {"duplicate": 1}


def test_more_dropped_than_allowed_stops_the_run_but_leaves_the_names(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])

    with pytest.raises(UserError, match=r"data.train: 8 of 10 clips dropped \(2 unreadable"):
        Audited(make_job([train], [evaluated], max_dropped_fraction=0.7), place / "data")

    assert len(read_lines(place / "data" / "dropped.jsonl")) == 8
    assert read_json(place / "data" / "audit.json")["sets"]["train"]["kept"] == 2


def test_raising_the_limit_needs_no_second_audit(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])
    with pytest.raises(UserError):
        Audited(make_job([train], [evaluated]), place / "data")

    result = Audited(make_job([train], [evaluated], max_dropped_fraction=0.8), place / "data")

    assert "audited before, 2 clips" in result.said[0]


@pytest.mark.parametrize("missing", [1, 3])
def test_clips_that_were_missing_are_looked_for_again(place: Path, make_wav: MakeWav, missing: int) -> None:
    """Neither the manifest nor the job has changed: only the recordings have come."""
    for number in range(4):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    train = make_manifest(place / "train.jsonl", [(f"{number}.wav", "a") for number in range(3)])
    job = make_job([train], [make_manifest(place / "eval.jsonl", [("3.wav", "c")])])
    for number in range(missing):
        (place / f"{number}.wav").rename(place / f"away-{number}.wav")
    with pytest.raises(UserError, match=f"{missing} unreadable"):
        Audited(job, place / "data")

    for number in range(missing):
        (place / f"away-{number}.wav").rename(place / f"{number}.wav")

    assert Audited(job, place / "data").kept("train") == ["0.wav", "1.wav", "2.wav"]


def test_recordings_that_a_container_does_not_see_are_told(
    place: Path, make_wav: MakeWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = make_manifest(place / "eval.jsonl", [(make_wav(place / "0.wav").name, "a")])
    (place / "broken.wav").write_bytes(b"RIFF")
    monkeypatch.setenv("WHISPER_TRAIN_CONTAINER", "whisper-train-audited")
    for clip, told in (("gone.wav", True), ("broken.wav", False)):
        train = make_manifest(place / "train.jsonl", [("gone.wav", "a"), (clip, "b")])
        with pytest.raises(UserError, match="no usable clip among 2") as caught:
            Audited(make_job([train], [evaluated]), place / "data")
        assert ("need DATA_DIR=<their folder> in .env" in str(caught.value)) == told


def test_eval_clips_that_were_missing_are_looked_for_again(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "0.wav")
    job = make_job(["gone.jsonl"], [make_manifest(place / "eval.jsonl", [("0.wav", "a"), ("1.wav", "b")])])

    def audited(trained: Path, own: Path) -> int:
        sets = prepare_eval_data(job, ["eval"], trained, own, cache=place / "cache", say=lambda line: None)
        return len(Index(sets["eval"].index, cache=None))

    with pytest.raises(UserError, match="1 unreadable"):
        audited(place / "gone", place / "own")
    make_wav(place / "1.wav", pitch=300)

    assert audited(place / "gone", place / "own") == 2
    assert audited(place / "own", place / "another") == 2
    assert not (place / "another").exists(), "what was audited well is not audited again"


def test_a_rerun_takes_the_audit_that_is_there(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])
    job = make_job([train], [evaluated], max_dropped_fraction=1)
    first = Audited(job, place / "data")
    written = (place / "data" / "train.arrow").stat().st_mtime_ns

    again = Audited(job, place / "data")

    assert again.audit == first.audit
    assert len(again.said) == 1
    assert (place / "data" / "train.arrow").stat().st_mtime_ns == written


def test_changed_data_are_audited_anew(place: Path, make_wav: MakeWav) -> None:
    for number in range(4):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    train = make_manifest(place / "train.jsonl", [("0.wav", "a"), ("1.wav", "b")])
    evaluated = make_manifest(place / "eval.jsonl", [("2.wav", "c")])
    job = make_job([train], [evaluated])
    Audited(job, place / "data")

    make_manifest(place / "train.jsonl", [("0.wav", "a"), ("1.wav", "b"), ("3.wav", "d")])

    assert Audited(job, place / "data").kept("train") == ["0.wav", "1.wav", "3.wav"]


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ("data: {max_seconds: 1}", True),
        ("language: de", True),
        ("architecture: {vocabulary_size: 301}", True),
        ("data: {max_dropped_fraction: 0.5}", False),
        ("training: {learning_rate: 1}", False),
        ("machine: {audit_workers: 2}", False),
    ],
)
def test_only_what_changes_the_audit_asks_for_another(place: Path, change: str, matters: bool) -> None:
    job = make_job(["a.jsonl"], ["b.jsonl"])
    values = job.model_dump(mode="json")
    for section, value in yaml.safe_load(change).items():
        values[section] = {**values[section], **value} if isinstance(value, dict) else value

    changed = Job.model_validate(values)

    assert (fingerprint_of(changed, 2.0) != fingerprint_of(job, 2.0)) == matters


def test_an_interrupted_audit_leaves_no_half_index(place: Path, make_wav: MakeWav) -> None:
    """What ends in the middle of a set is done again from the start; an index is there whole or not at all."""
    for number in range(3):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    train = make_manifest(place / "train.jsonl", [("0.wav", "a"), ("1.wav", "b")])
    evaluated = make_manifest(place / "eval.jsonl", [("2.wav", "c")])
    with (place / "train.jsonl").open("a") as file:
        file.write("{")
    job = make_job([train], [evaluated])

    with pytest.raises(UserError, match=r"train\.jsonl:3: not JSON"):
        Audited(job, place / "data")

    assert not (place / "data" / "train.arrow").exists()
    assert not (place / "data" / "audit.json").exists()
    make_manifest(place / "train.jsonl", [("0.wav", "a"), ("1.wav", "b")])
    assert Audited(job, place / "data").kept("train") == ["0.wav", "1.wav"]


def test_an_interrupted_second_audit_does_not_pass_for_the_first(place: Path, make_wav: MakeWav) -> None:
    for number in range(2):
        make_wav(place / f"{number}.wav", pitch=200 + 20 * number)
    train = make_manifest(place / "train.jsonl", [("0.wav", "a")])
    evaluated = make_manifest(place / "eval.jsonl", [("1.wav", "c")])
    Audited(make_job([train], [evaluated]), place / "data")

    with pytest.raises(UserError, match="no such file"):
        Audited(make_job([train], ["gone.csv"]), place / "data")

    assert not (place / "data" / "audit.json").exists()


def test_many_workers_find_what_one_finds(place: Path, wrong_clips: list[Line]) -> None:
    train = make_manifest(place / "train.jsonl", wrong_clips * 20)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])
    job = make_job([train], [evaluated], max_dropped_fraction=1)
    several = job.model_copy(update={"machine": job.machine.model_copy(update={"audit_workers": 2})})

    one, two = Audited(job, place / "one"), Audited(several, place / "two")

    assert one.audit == two.audit
    assert one.named == two.named
    assert one.kept("train") == two.kept("train")


# The index.


def test_an_index_gives_back_what_it_was_given(place: Path) -> None:
    texts: dict[str, Any] = {"audio": "a", "language": "de", "speaker": "", "row_group": -1, "row": -1, "source": 0}
    texts |= {"recording": "first", "tags": {"accent": "bairisch"}}
    rows = [
        {**texts, "id": f"{n}", "text": "ü" * n, "seconds": n / 2, "audio_hash": 2**64 - 1 - n, "tokens": n}
        for n in range(2_500)
    ]

    assert write_index(place / "x.arrow", iter(rows)) == 2_500

    index = Index(place / "x.arrow", cache=None)
    assert len(index) == 2_500
    assert index[1_234] == rows[1_234]
    assert list(index) == rows
    assert index.column("audio_hash").tolist() == [row["audio_hash"] for row in rows]


def test_an_empty_index_is_an_index(place: Path) -> None:
    write_index(place / "x.arrow", [])

    assert len(Index(place / "x.arrow", cache=None)) == 0


# Real recordings.


@pytest.mark.slow
def test_every_clip_of_a_real_corpus_is_accounted_for(place: Path, speech: Path) -> None:
    manifest = speech / "kerstin-de" / "manifest.jsonl"
    sets = {"train": [{"manifest": str(manifest), "split": "train"}]}
    evaluated = {split: [{"manifest": str(manifest), "split": split}] for split in ("val", "test")}
    values = {"name": "kerstin", "language": "de", "base": "./x", "data": sets | {"eval": evaluated}}
    counts = Counter(line["split"] for line in read_lines(manifest))
    count_tokens: Callable[[str], int] = len

    audit = prepare_data(
        Job.model_validate(values),
        place / "data",
        cache=place,
        count_tokens=count_tokens,
        max_tokens=448,
        window_seconds=30.0,
        say=lambda line: None,
    )

    assert sum(counted["clips"] for counted in audit["sets"].values()) == sum(counts.values()) == 1374
    for name, split in (("train", "train"), ("eval.val", "val"), ("eval.test", "test")):
        counted = audit["sets"][name]
        assert counted["clips"] == counts[split]
        assert counted["kept"] + sum(counted["dropped"].values()) == counts[split]


# Where the audio lies.


def test_a_path_in_the_cache_is_found_where_the_cache_lies_now(place: Path) -> None:
    """A run goes on in a container, where CACHE_DIR is /cache, and outside again."""
    inside, outside = Path("/cache"), place / "cache"
    audios = ["/cache/synthetic/1.flac", "/cachet/2.flac", "/mnt/speech/3.flac"]
    write_index(place / "x.arrow", [{"id": audio, "audio": shorten(audio, inside)} for audio in audios])
    assert [row["audio"] for row in Index(place / "x.arrow", inside)] == audios
    there = pickle.loads(pickle.dumps(Index(place / "x.arrow", outside)))
    assert there[0]["audio"] == str(outside / "synthetic" / "1.flac")
    assert [there[1]["audio"], there[2]["audio"]] == audios[1:]


@pytest.mark.parametrize("name", ["metadata.csv", "0.txt"])
def test_a_corrected_transcript_of_a_folder_is_noticed(place: Path, name: str) -> None:
    """The folder itself keeps its time when a file in it is written anew."""
    folder = place / "clips"
    folder.mkdir()
    (folder / name).write_text("audio,text\n0.wav,the old text\n")
    job = Job.model_validate({**tiny_job(), "name": "tiny"})
    source = Source(folder=str(folder))
    before = set_fingerprint(job, [source])
    assert set_fingerprint(job, [source]) == before
    (folder / name).write_text("audio,text\n0.wav,the right text\n")
    assert set_fingerprint(job, [source]) != before


def test_files_are_missing_only_where_clips_were_dropped_for_it(tmp_path: Path) -> None:
    lines = [{"set": "train", "detail": NO_SUCH_FILE}, {"set": "eval.a", "detail": NO_SUCH_FILE}, {"set": "eval.a"}]
    (tmp_path / "dropped.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    assert [all_are_missing(name, tmp_path) for name in ("train", "eval.a", "eval.b")] == [True, False, False]
