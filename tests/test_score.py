"""`whisper-train score`: every figure again from what was transcribed, without model and audio."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.evaluated import read_results


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.jsonl"
    pairs = [("Das Haus ist groß.", "das haus ist groß"), ("Die Straße", "die strasse"), ("ja", "ja ja")]
    path.write_text("".join(json.dumps({"reference": said, "hypothesis": heard}) + "\n" for said, heard in pairs))
    return path


# What is refused.


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "gone.jsonl: cannot be read: No such file or directory; check the path"),
        ("empty", "", "empty: holds no transcription of a model; evaluate first (make eval)"),
        ("plain.txt", "ja\n", "plain.txt:1: is no JSON object; one clip a line"),
        ("array.jsonl", '{"reference": "a", "hypothesis": "b"}\n[]\n', "array.jsonl:2: is no JSON object"),
        ("half.jsonl", '{"hypothesis": "ja"}\n', "half.jsonl:1: reference: is missing or no text"),
        ("later.jsonl", '{"transcription": 2}\n', "later.jsonl:1: transcription: 2: is a format of another version"),
    ],
)
def test_what_is_no_transcription_is_refused(
    place: Path, run_cli: RunCli, name: str, content: str | None, says: str
) -> None:
    if content:
        (place / name).write_text(content)
    elif content is not None:
        (place / name).mkdir()
    result = run_cli("score", name)
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {says}")


def test_an_unknown_normalizer_is_refused_before_anything_is_read(run_cli: RunCli) -> None:
    result = run_cli("score", "gone.jsonl", "--normalizer", "germn")
    assert result.exit_code == 2
    assert "germn" in result.output
    assert "gone.jsonl" not in result.output


# Files of anybody.


def test_a_file_is_scored_under_every_normalizer_or_the_one_that_is_named(theirs: Path, run_cli: RunCli) -> None:
    rows = [line.split() for line in run_cli("score", theirs).output.splitlines()]
    assert rows[0] == ["file", "normalizer", "clips", "WER", "CER", "MER", "WIL", "subst.", "del.", "ins."]
    assert [row[1] for row in rows[2:]] == ["raw", "whisper-basic"]
    assert rows[3][2:4] == ["3", "28.57%"], "one word of seven, and one that nobody said"
    (row,) = run_cli("score", theirs, "--normalizer", "german").output.splitlines()[2:]
    assert row.split()[1:4] == ["german", "3", "14.29%"], "ß is ss"


def test_as_json_every_figure_is_there(theirs: Path, run_cli: RunCli) -> None:
    found = json.loads(run_cli("score", theirs, "--json", "--normalizer", "german").output)
    assert found["file"] == str(theirs)
    assert found["clips"] == 3
    german = found["by_normalizer"]["german"]
    assert (german["words"], german["hits"], german["insertions"]) == (7, 7, 1)


def test_several_files_stand_in_one_table(theirs: Path, place: Path, run_cli: RunCli) -> None:
    shutil.copy(theirs, place / "mine.jsonl")
    lines = run_cli("score", theirs, "mine.jsonl", "--normalizer", "raw").output.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["theirs.jsonl", "mine.jsonl"]


def test_a_file_without_clips_is_refused(place: Path, run_cli: RunCli) -> None:
    (place / "none.jsonl").write_text('{"transcription": 1, "language": "de"}\n')
    result = run_cli("score", "none.jsonl")
    assert result.exit_code == 2, result.output
    assert "none.jsonl: holds no clip" in result.output


# Runs.


@pytest.fixture
def second(trained_and_evaluated: Path, tmp_path: Path) -> Path:
    """A run folder without its model, and without the clips it was evaluated on."""
    ignored = shutil.ignore_patterns("*.safetensors", "checkpoints", "*.arrow")
    return Path(shutil.copytree(trained_and_evaluated / "models" / "second", tmp_path / "second", ignore=ignored))


@pytest.mark.slow
def test_a_run_is_scored_again_from_its_transcriptions_alone(second: Path, run_cli: RunCli) -> None:
    before, state = read_results(second / "evaluation"), (second / "run.json").read_bytes()
    listen = (second / "evaluation" / "listen.jsonl").read_bytes()
    for name in ("results.json", "listen.jsonl", "report.html"):
        (second / "evaluation" / name).unlink()
    for path in (second, second / "evaluation"):
        result = run_cli("score", path)
        assert result.exit_code == 0, result.output
        assert "held-out" in result.output
        assert read_results(second / "evaluation") == before
        assert (second / "evaluation" / "listen.jsonl").read_bytes() == listen
        assert (second / "evaluation" / "report.html").is_file()
    assert (second / "run.json").read_bytes() == state
    assert json.loads(run_cli("score", second, "--json").stdout)["sets"].keys() == before["sets"].keys()


@pytest.mark.slow
def test_a_run_is_judged_by_its_own_gates(second: Path, run_cli: RunCli) -> None:
    job = second / "job.yaml"
    job.write_text(job.read_text().replace("  wer: null", "  wer: 0.0"))
    result = run_cli("score", second)
    assert result.exit_code == 3, result.output
    assert "gate wer: MISSED" in result.output


@pytest.mark.slow
def test_another_normalizer_is_a_look_that_judges_nothing_and_writes_nothing(second: Path, run_cli: RunCli) -> None:
    before = (second / "evaluation" / "results.json").read_bytes()
    looked = run_cli("score", second, "--normalizer", "raw", "--json")
    assert looked.exit_code == 0
    results = json.loads(looked.output)
    assert (results["sets"]["held-out"]["normalizer"], results["promoted"]) == ("raw", None)
    assert (second / "evaluation" / "results.json").read_bytes() == before
