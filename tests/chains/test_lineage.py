"""`whisper-train lineage`: where a model comes from, also when its bases have changed since."""

import shutil
from pathlib import Path

import pytest

from tests.chains.jobs import write_chain
from tests.conftest import RunCli
from tests.tiny import call, command, environment
from whisper_train.paths import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("lineage")
    jobs = write_chain(base / "jobs")
    call(command(jobs / "second.yaml"), environment(base), expect=0, cwd=base)
    return base


@pytest.fixture
def here(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, place, dirs_exist_ok=True, symlinks=True)
    monkeypatch.setenv("BASE_DIR", str(place))
    return place


def test_a_job_without_a_run_has_no_lineage(here: Path, run_cli: RunCli) -> None:
    result = run_cli("lineage", "third")
    assert result.exit_code == 2
    assert "third: has no run in models/third; train it first (make train EXP=third)" in result.output


def test_every_base_is_named_with_its_data_and_results(here: Path, run_cli: RunCli) -> None:
    result = run_cli("lineage", "second")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "random weights"
    assert lines[1].startswith("└ first: 12 steps, seed 42, ")
    assert any(line.startswith("  └ second: 4 steps") for line in lines)
    assert "44 clips" in result.output
    assert "WER on other: " in result.output
    assert "note" not in result.output


def test_it_stays_when_a_base_goes_and_tells_when_one_changed(here: Path, run_cli: RunCli) -> None:
    before = run_cli("lineage", "second").output
    weights = here / "models" / "first" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert (
        "note: first was made again since; second comes from the weights named above"
        in run_cli("lineage", "second").output
    )
    shutil.rmtree(here / "models" / "first")
    assert run_cli("lineage", "second").output == f"{before}note: models/first is not there any more\n"


def test_the_card_tells_it_too(made: Path) -> None:
    card = (made / "models" / "second" / "README.md").read_text(encoding="utf-8")
    lineage = card.split("## Lineage")[1].split("\n## ")[0]
    first = read_json(made / "models" / "first" / "evaluation" / "results.json")["sets"]["held-out"]["wer"]
    assert "`first`" in lineage
    assert f"held-out {100 * first:.2f}" in lineage
    first_card = (made / "models" / "first" / "README.md").read_text(encoding="utf-8")
    assert "## Lineage" not in first_card
