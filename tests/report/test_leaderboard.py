"""The leaderboard compares what can be compared, and damaged files cost it nothing but a line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.report.fixtures import make_results, make_run
from tests.report.pages import Page
from whisper_train.paths import write_json
from whisper_train.report.leaderboard import collect, make_table, write_leaderboard


def add_run(models: Path, name: str, results: Any, report: bool = True) -> None:
    folder = models / name / "evaluation"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    if report:
        (folder / "report.html").touch()


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"version": 2',
        "[]",
        "null",
        '{"job": "older", "sets": {}}',
        '{"version": 2, "sets": ["hard"]}',
        '{"version": 2, "sets": {"hard": null}}',
        '{"version": 2, "sets": {"hard": {"wer": "low"}}}',
        '{"version": 2, "sets": {"hard": {"wer": 0.1, "baseline": 3}}}',
        "[" * 200_000,
    ],
)
def test_a_damaged_file_is_skipped_and_named(tmp_path: Path, content: str) -> None:
    add_run(tmp_path, "broken", content)
    add_run(tmp_path, "demo", make_results())
    board = collect(tmp_path)
    assert {row.job for row in board.rows} == {"demo"}
    assert [line.split(":")[0] for line in board.skipped] == ["broken"]
    assert "1 result could not be used." in Page(write_leaderboard(tmp_path)).text
    assert "skipped 1:\n  broken: " in make_table(board)


def test_without_runs_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    assert "No run has been evaluated yet." in Page(write_leaderboard(tmp_path)).text
    assert make_table(collect(tmp_path)) == "no evaluated run"


def test_without_runs_the_command_writes_nothing(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()

    result = run_cli("leaderboard")

    assert (result.exit_code, list((tmp_path / "models").iterdir())) == (2, [])
    assert "holds no evaluated run; train or evaluate a job first" in result.output


def test_runs_are_sorted_and_linked(tmp_path: Path) -> None:
    add_run(tmp_path, "a worse one", make_results("worse", wer=0.3))
    add_run(tmp_path, "better", make_results("better", wer=0.01))
    add_run(tmp_path, "unseen", make_results("unseen", wer=0.2), report=False)
    write_json(tmp_path / "better" / "run.json", make_run())
    page = Page(write_leaderboard(tmp_path))
    hard = page.text.split("ordinary")[0]
    assert hard.index("better") < hard.index("unseen") < hard.index("worse")
    assert "better 1.00 % 0.35–1.78 % 73.69 % ✓ yes job:demo-base 2026-11-01 09:30 UTC" in hard
    links = {reference for reference in page.references() if not reference.startswith("data:")}
    assert links == {"a%20worse%20one/evaluation/report.html", "better/evaluation/report.html"}


def test_only_the_same_clips_and_the_same_normalizer_are_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name, make_results(name))
    for name, change in (("clips", {"digest": "0" * 64}), ("version", {"normalizer_version": "2"})):
        results = make_results(name)
        results["sets"] = {"hard": results["sets"]["hard"] | change}
        add_run(tmp_path, name, results)
    groups = [[row.job for row in rows] for rows in collect(tmp_path).groups() if rows[0].set == "hard"]
    assert groups[0] == ["one", "two"]
    assert sorted(groups[1:]) == [["clips"], ["version"]]


def test_clips_that_nobody_fingerprinted_are_like_no_others(tmp_path: Path) -> None:
    for name in ("one", "two"):
        results = make_results(name)
        results["sets"] = {"hard": results["sets"]["hard"] | {"digest": None}}
        add_run(tmp_path, name, results)
    assert len(collect(tmp_path).groups()) == 2


def test_names_are_escaped(tmp_path: Path) -> None:
    add_run(tmp_path, "x", make_results("<script>alert(1)</script>"))
    page = Page(write_leaderboard(tmp_path))
    assert not page.all("script")
    assert "<script>alert(1)</script>" in page.text


def test_the_table_for_the_terminal_holds_the_figures(tmp_path: Path) -> None:
    add_run(tmp_path, "demo", make_results())
    table = make_table(collect(tmp_path)).replace("\u00a0", " ")
    assert "hard (240 clips, digest 4f2a91c07be3, whisper-basic 1)" in table
    assert "demo  1.37 %  0.72–2.15 %    73.69 %     job:demo-base  yes" in table
