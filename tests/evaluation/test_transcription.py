"""Transcription files: what was transcribed is never lost, never done twice, never mixed with another model's."""

import json
from pathlib import Path
from typing import Any

import pytest

from whisper_train.errors import UserError
from whisper_train.evaluation.transcription import (
    gather_parts,
    is_complete,
    join_parts,
    read_keys,
    read_transcription,
    write_part,
)

HEADER: dict[str, Any] = {"transcription": 1, "model_digest": "a", "set_digest": "b", "task": "transcribe"}


def line(position: int, text: str = "ja") -> dict[str, Any]:
    return {"clip": f"{position}.wav", "position": position, "reference": "ja", "hypothesis": text}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tuned" / "hard.jsonl"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]\n", "hard.jsonl:1: is no JSON object"),
        ('{"reference": "a", "hypothesis": "b"}\nnonsense\n', "hard.jsonl:2: is no JSON object"),
        ('{"reference": "a"}\n', "hard.jsonl:1: hypothesis: is missing"),
        ('{"reference": 1, "hypothesis": "b"}\n', "hard.jsonl:1: reference: is missing or no text"),
        ('{"transcription": 7}\n', "transcription: 7: is a format of another version"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_transcription_is_refused_by_line(file: Path, text: str | bytes | None, says: str) -> None:
    file.parent.mkdir()
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=says):
        read_transcription(file)


def test_a_file_of_somebody_else_needs_no_header(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"reference": "ja", "hypothesis": "nein"}\n\n', encoding="utf-8")
    read = read_transcription(file)
    assert (read.header, [one["hypothesis"] for one in read.lines]) == ({}, ["nein"])


def test_parts_of_several_processes_become_one_file_in_the_order_of_the_set(file: Path) -> None:
    assert gather_parts(file, HEADER) == set()
    write_part(file, 0, HEADER, [[line(3), line(0)]])
    write_part(file, 1, HEADER, [[line(2)], [line(1)]])
    assert not is_complete(file, HEADER)
    join_parts(file, HEADER)
    assert [one["position"] for one in read_transcription(file).lines] == [0, 1, 2, 3]
    assert is_complete(file, HEADER)
    assert [path.name for path in file.parent.iterdir()] == ["hard.jsonl"]


def test_a_kill_costs_the_batch_it_fell_into(file: Path) -> None:
    gather_parts(file, HEADER)

    def killed() -> Any:
        yield [line(0), line(1)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(file, 0, HEADER, killed())
    with (file.parent / "hard.jsonl.part-0").open("a") as part:
        part.write('{"clip": "2.wav", "posi')  # a line cut off in the middle

    assert gather_parts(file, HEADER) == {0, 1} == read_keys(file)
    write_part(file, 0, HEADER, [[line(2)]])
    assert gather_parts(file, HEADER) == {0, 1, 2}, "interrupted twice"
    join_parts(file, HEADER)
    assert [one["position"] for one in read_transcription(file).lines] == [0, 1, 2]


def test_a_line_that_was_cut_off_before_its_end_of_line_is_written_again(file: Path) -> None:
    gather_parts(file, HEADER)
    write_part(file, 0, HEADER, [[line(0)], [line(1)]])
    part = file.parent / "hard.jsonl.part-0"
    part.write_text(part.read_text().removesuffix("\n"))
    assert gather_parts(file, HEADER) == {0}
    write_part(file, 0, HEADER, [[line(1)]])
    assert gather_parts(file, HEADER) == {0, 1} == read_keys(file)


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "c"},
        {"set_digest": "c"},
        {"decoding": {"beams": 5}},
        {"augment": [{"telephone": {}}]},
        {"recordings": "d"},
    ],
)
def test_what_another_model_heard_does_not_count(file: Path, change: dict[str, Any]) -> None:
    gather_parts(file, HEADER)
    write_part(file, 0, HEADER, [[line(0)]])
    assert gather_parts(file, HEADER | change) == set()
    join_parts(file, HEADER)
    assert is_complete(file, HEADER | {"versions": {"torch": "3"}}), "another version of a library is no other model"
    assert not is_complete(file, HEADER | change)


def test_letters_stay_readable(file: Path) -> None:
    gather_parts(file, HEADER)
    write_part(file, 0, HEADER, [[line(0, "Köln, Île, 東京")]])
    join_parts(file, HEADER)
    assert "Köln, Île, 東京" in file.read_text(encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[1])["hypothesis"] == "Köln, Île, 東京"


def test_a_part_that_ends_within_a_letter_is_gone_on_from(file: Path) -> None:
    gather_parts(file, HEADER)
    write_part(file, 0, HEADER, [[line(0)]])
    with (file.parent / "hard.jsonl.part-0").open("ab") as part:
        part.write('{"clip": "1.wav", "reference": "grün'.encode()[:-2])
    assert gather_parts(file, HEADER) == {0}
