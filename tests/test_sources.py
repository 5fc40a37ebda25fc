"""Every kind of source, read for real from small files."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import MakeWav
from whisper_train.data.clip import Clip
from whisper_train.data.parquet import find_revision, is_partial
from whisper_train.data.read import AudioReader
from whisper_train.data.sources import read_source
from whisper_train.errors import UserError
from whisper_train.job_data import Source

ROWS = [("a.wav", "eins", "anna", "train"), ("b.wav", "zwei", "bert", "train"), ("c.wav", "drei", "anna", "test")]


def read(place: Path, position: int = 0, language: str = "de", **source: Any) -> list[Clip]:
    return list(read_source(Source(**source), position, language=language, cache=place / "cache"))


def texts(place: Path, **source: Any) -> list[str]:
    return [clip.text for clip in read(place, **source)]


def problem(place: Path, **source: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(place, **source)
    return str(caught.value)


def seconds(clips: Sequence[Clip], columns: Sequence[str | None] = (None,)) -> list[float]:
    """The length of each clip, its audio really read."""
    reader = AudioReader(columns)
    return [len(reader.read(clip.audio, clip.row_group, clip.row, clip.source)) / 16_000 for clip in clips]


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([columns, *rows])
    return path


# Tables.


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
@pytest.mark.parametrize("where", ["manifest", "folder"])
def test_tables(place: Path, make_wav: MakeWav, suffix: str, where: str) -> None:
    for number, row in enumerate(ROWS, 1):
        make_wav(place / "x" / row[0], seconds=number / 10)
    table = write_table(place / "x" / f"metadata{suffix}", ["path", "sentence", "client_id", "split"], ROWS)
    source: dict[str, Any] = {where: str(table if where == "manifest" else place / "x")}

    clips = read(place, position=2, language="de", **source)

    assert [(clip.id, clip.text, clip.speaker, clip.language, clip.source) for clip in clips] == [
        ("a.wav", "eins", "anna", "de", 2),
        ("b.wav", "zwei", "bert", "de", 2),
        ("c.wav", "drei", "anna", "de", 2),
    ]
    assert seconds(clips, [None] * 3) == pytest.approx([0.1, 0.2, 0.3])
    assert texts(place, split="train", **source) == ["eins", "zwei"]
    assert texts(place, split="test", **source) == ["drei"]
    assert texts(place, split="train[1:]", **source) == ["zwei"]
    assert "no clip whose split is dev" in problem(place, split="dev", **source)


def test_columns_are_found_or_named(place: Path) -> None:
    write_table(place / "a.csv", ["Audio", "TEXT"], [("a.wav", " eins ")])
    write_table(place / "b.csv", ["id", "wav", "text", "raw"], [("7", "a.wav", "one", "One!")])

    assert read(place, manifest="a.csv")[0].text == "eins"
    clip = read(place, manifest="b.csv", text_column="raw", speaker_column="id")[0]
    assert (Path(clip.audio).name, clip.text, clip.speaker) == ("a.wav", "One!", "7")


def test_a_source_may_have_another_language(place: Path) -> None:
    write_table(place / "a.csv", ["audio", "text"], [("a.wav", "one")])

    assert [clip.language for clip in read(place, manifest="a.csv", language="fr")] == ["fr"]
    source = Source(manifest="a.csv", language="english")
    assert [clip.language for clip in read_source(source, 0, language="fr", cache=place)] == ["en"]


def test_what_spreadsheets_write(place: Path) -> None:
    """A byte order mark, quoted commas and lines of Windows."""
    (place / "a.csv").write_bytes('﻿audio,text\r\na.wav,"eins, zwei"\r\n'.encode())

    assert texts(place, manifest="a.csv") == ["eins, zwei"]


def test_a_lone_quotation_mark_of_a_tsv_is_text(place: Path) -> None:
    (place / "a.tsv").write_text('path\tsentence\na.wav\t"Nein, sagte er\nb.wav\tja\n')

    assert texts(place, manifest="a.tsv") == ['"Nein, sagte er', "ja"]


def test_blank_lines_and_missing_texts(place: Path) -> None:
    (place / "a.jsonl").write_text('\n{"audio": "a.wav", "text": null}\n\n{"audio": {"path": "b.wav"}, "text": "ja"}\n')

    assert [(clip.id, clip.text) for clip in read(place, manifest="a.jsonl")] == [("a.wav", ""), ("b.wav", "ja")]


def test_absolute_paths_stay(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "elsewhere" / "a.wav")
    write_table(place / "x" / "a.csv", ["audio", "text"], [(str(place / "elsewhere" / "a.wav"), "eins")])

    assert seconds(read(place, manifest="x/a.csv")) == [0.5]


def test_slices(place: Path) -> None:
    write_table(place / "a.csv", ["audio", "text"], [(f"{number}.wav", str(number)) for number in range(20)])

    def sliced(split: str) -> list[int]:
        return [int(text) for text in texts(place, manifest="a.csv", split=split)]

    assert sliced("[:3]") == [0, 1, 2]
    assert sliced("[17:]") == [17, 18, 19]
    assert sliced("[-2:]") == [18, 19]
    assert sliced("[:-18]") == [0, 1]
    assert sliced("[5:6]") == [5]
    assert sliced("[:10%]") == [0, 1]
    assert sliced("[95%:]") == [19]
    assert sliced("[:95%]") + sliced("[95%:]") == list(range(20))
    assert sliced("[:]") == list(range(20))
    assert "holds no clip" in problem(place, manifest="a.csv", split="[5:5]")
    assert "holds no clip" in problem(place, manifest="a.csv", split="[20:]")


# Folders.


def test_a_folder_with_sidecars(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "x" / "anna" / "b.flac", seconds=0.2)
    make_wav(place / "x" / "a.wav", seconds=0.1)
    make_wav(place / "x" / "c.ogg", seconds=0.3)
    (place / "x" / "a.txt").write_text("eins\n")
    (place / "x" / "anna" / "b.txt").write_text("zwei")

    clips = read(place, folder=str(place / "x"))

    assert [(clip.id, clip.text) for clip in clips] == [("a.wav", "eins"), ("anna/b.flac", "zwei"), ("c.ogg", "")]
    assert seconds(clips) == pytest.approx([0.1, 0.2, 0.3])
    assert texts(place, folder=str(place / "x"), split="[:2]") == ["eins", "zwei"]


def test_a_text_beside_a_clip_that_is_not_utf8(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "x" / "a.wav")
    (place / "x" / "a.txt").write_bytes(b"fran\xe7ais")

    assert "x/a.txt: is not UTF-8" in problem(place, folder=str(place / "x"))


def test_a_common_voice_download(place: Path, make_wav: MakeWav) -> None:
    folder = place / "cv-corpus" / "de"
    for number in range(3):
        make_wav(folder / "clips" / f"common_voice_de_{number}.mp3", seconds=0.5, rate=48_000, format="MP3")
    columns = ["client_id", "path", "sentence", "up_votes", "down_votes", "age"]
    rows = [(f"s{number}", f"common_voice_de_{number}.mp3", f'Satz "{number}', "2", "0", "") for number in range(3)]
    write_table(folder / "validated.tsv", columns, [])
    for name, part in (("validated", rows), ("train", rows[:2]), ("test", rows[2:])):
        lines = ["\t".join(row) for row in [columns, *part]]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")

    clips = read(place, common_voice=str(folder), split="train")

    assert [(clip.id, clip.text, clip.speaker) for clip in clips] == [
        ("common_voice_de_0.mp3", 'Satz "0', "s0"),
        ("common_voice_de_1.mp3", 'Satz "1', "s1"),
    ]
    assert seconds(clips) == pytest.approx([0.5, 0.5], abs=0.1)
    assert texts(place, common_voice=str(folder), split="test") == ['Satz "2']
    assert len(texts(place, common_voice=str(folder))) == 3
    assert texts(place, common_voice=str(folder), split="validated[:1]") == ['Satz "0']


# Parquet.


def write_parquet(
    path: Path, make_wav: MakeWav, first: int, count: int, *, as_struct: bool = True, group: int = 2
) -> None:
    """Clips numbered from `first`, each a hundredth of a second longer than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio: list[Any] = []
    for number in range(first, first + count):
        wav = make_wav(path.parent / "clip.wav", seconds=(number + 1) / 100)
        audio.append({"bytes": wav.read_bytes(), "path": "x.wav"} if as_struct else wav.read_bytes())
        wav.unlink()
    columns = {"audio": audio, "text": [str(number) for number in range(first, first + count)]}
    pq.write_table(pa.table(columns | {"speaker_id": list(range(count))}), path, row_group_size=group)


@pytest.mark.parametrize("as_struct", [True, False])
def test_parquet_shards_with_row_groups(place: Path, make_wav: MakeWav, as_struct: bool) -> None:
    write_parquet(place / "x" / "train-0.parquet", make_wav, 0, 5, as_struct=as_struct)
    write_parquet(place / "x" / "train-1.parquet", make_wav, 5, 4, as_struct=as_struct)
    write_parquet(place / "x" / "test-0.parquet", make_wav, 9, 1, as_struct=as_struct)

    clips = read(place, parquet=str(place / "x"), split="train")

    assert [int(clip.text) for clip in clips] == list(range(9))
    assert [(clip.row_group, clip.row) for clip in clips[:5]] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert clips[6].id == "train-1.parquet#0.1"
    assert seconds(clips) == pytest.approx([(number + 1) / 100 for number in range(9)])
    assert seconds(clips[::-1]) == pytest.approx([(number + 1) / 100 for number in range(8, -1, -1)])
    assert texts(place, parquet=str(place / "x" / "test-0.parquet")) == ["9"]
    assert texts(place, parquet=str(place / "x" / "*-0.parquet")) == ["9", "0", "1", "2", "3", "4"]
    assert texts(place, parquet=str(place / "x"), split="train[4:7]") == ["4", "5", "6"]
    assert texts(place, parquet=str(place / "x"), split="train[:-8]") == ["0"]
    assert texts(place, parquet=str(place / "x"), split="train[50%:]") == ["4", "5", "6", "7", "8"]


def test_columns_of_parquet_are_named(place: Path, make_wav: MakeWav) -> None:
    write_parquet(place / "a.parquet", make_wav, 0, 1)
    table = pq.read_table(place / "a.parquet").rename_columns(["sound", "said", "who"])
    pq.write_table(table, place / "b.parquet")

    names: dict[str, Any] = {"audio_column": "sound", "text_column": "said", "speaker_column": "who"}
    clips = read(place, parquet="b.parquet", **names)

    assert [(clip.text, clip.speaker) for clip in clips] == [("0", "0")]
    assert seconds(clips, ["sound"]) == pytest.approx([0.01])
    assert "it has sound, said, who" in problem(place, parquet="b.parquet")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_local_copy_of_a_hub_data_set(place: Path, make_wav: MakeWav, streaming: bool) -> None:
    folder = place / "copy"
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", make_wav, 0, 3)
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", make_wav, 3, 3)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", make_wav, 6, 2)
    source: dict[str, Any] = {"hub": str(folder), "streaming": streaming}

    assert texts(place, **source) == ["0", "1", "2", "3", "4", "5"]
    assert texts(place, split="test", **source) == ["6", "7"]
    assert texts(place, split="train[:50%]", **source) == ["0", "1", "2"]
    assert texts(place, split="train[4:]", **source) == ["4", "5"]
    assert seconds(read(place, split="test", **source)) == pytest.approx([0.07, 0.08])
    assert "it has train, test" in problem(place, split="dev", **source)


def test_a_configuration_per_language(place: Path, make_wav: MakeWav) -> None:
    """As in data sets of many languages: the job's language chooses, unless the source names a configuration."""
    folder = place / "copy"
    for number, language in enumerate(["de", "fr"]):
        write_parquet(folder / language / "train-0.parquet", make_wav, number, 1)
    listed = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n" for name in ("de", "fr")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")

    assert [clip.text for clip in read(place, language="fr", hub=str(folder))] == ["1"]
    assert [clip.text for clip in read(place, language="fr", hub=str(folder), config="de")] == ["0"]


# Synthetic speech.


def test_synthetic_speech_is_made_once_and_the_same_anywhere(place: Path) -> None:
    pytest.importorskip("espeakng_loader")
    recipe = {"sentences": ["{wer} kommt"], "words": {"wer": ["Anna", "Bert"]}, "voices": ["de", "de+f2"], "clips": 3}

    clips = read(place, synthetic=recipe)
    made = {path.name: path.stat().st_mtime_ns for path in Path(clips[0].audio).parent.iterdir()}
    again = read(place, synthetic=recipe)
    elsewhere = read(place / "other", synthetic=recipe)

    assert [clip.speaker for clip in clips] == ["de", "de+f2", "de"]
    assert {clip.text for clip in clips} <= {"Anna kommt", "Bert kommt"}
    assert again == clips
    assert {path.name: path.stat().st_mtime_ns for path in Path(again[0].audio).parent.iterdir()} == made
    assert [clip.text for clip in elsewhere] == [clip.text for clip in clips]
    reader = AudioReader([None])
    for here, there in zip(clips, elsewhere, strict=True):
        assert np.array_equal(reader.read(here.audio, -1, -1, 0), reader.read(there.audio, -1, -1, 0))


def test_parts_of_synthetic_speech_share_no_sentence(place: Path) -> None:
    pytest.importorskip("espeakng_loader")
    recipe: dict[str, Any] = {"sentences": ["{a} {b}"], "voices": ["en"], "clips": 20, "held_out_fraction": 0.5}
    recipe["words"] = {slot: ["one", "two", "three", "four", "five"] for slot in "ab"}

    train = set(texts(place, synthetic=recipe | {"part": "train"}))
    held_out = set(texts(place, synthetic=recipe | {"part": "held-out"}))

    assert train
    assert held_out
    assert not train & held_out


def test_a_repeated_read_yields_the_same_clips(speech: Path) -> None:
    """Percentages are taken of what is really there, and a second read is no other."""
    source: dict[str, Any] = {"manifest": str(speech / "kerstin-de" / "manifest.jsonl")}

    whole = read(speech, **source)
    train, rest = read(speech, split="[:95%]", **source), read(speech, split="[95%:]", **source)

    assert len(whole) == 1374
    assert train + rest == whole


def test_the_commit_of_a_hub_data_set_is_read_from_its_addresses() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert find_revision([f"hf://datasets/google/fleurs@{commit}/as_in/train/0000.parquet"]) == commit
    assert find_revision(["/data/fleurs/train.parquet"]) is None
    assert find_revision([]) is None


def test_a_split_that_the_hub_has_converted_in_part_is_told_by_its_addresses() -> None:
    copy = "hf://datasets/facebook/voxpopuli@0123456789abcdef0123456789abcdef01234567/fr"
    assert is_partial(f"{copy}/partial-train/0000.parquet")
    assert not is_partial(f"{copy}/validation/0000.parquet")
    assert not is_partial("/data/voxpopuli/fr/partial-train/0000.parquet"), "what somebody has chosen to download"
