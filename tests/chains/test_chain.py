"""`whisper-train chain`: a chain is planned, run, measured; nothing runs twice, nothing that was made is lost."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chains.jobs import change, write_chain
from tests.conftest import REPOSITORY, RunCli
from tests.tiny import call, call_here, environment
from whisper_train.chains.measure import all_sets, transcription_files
from whisper_train.chains.states import Stage, State, draw_plan
from whisper_train.job_file import load_job
from whisper_train.paths import find_directories, read_json, write_json

pytestmark = pytest.mark.slow  # the first one trains
COMMAND = [sys.executable, "-m", "whisper_train", "chain"]
TIMES = re.compile(r"\b\d+m?\d*s\b")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both chains, run to their ends: not to be changed, but copied."""
    base = tmp_path_factory.mktemp("chain")
    write_chain(base / "jobs")
    chain_apart(base, "third", "--beside", "third-plain")
    return base


@pytest.fixture
def here(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the chains to change, in the working directory."""
    shutil.copytree(made, place, dirs_exist_ok=True, symlinks=True)
    monkeypatch.setenv("BASE_DIR", str(place))
    return place


def chain(base: Path, *words: str, expect: int = 0) -> str:
    """What the command prints, in this process, whose imports would be most of the time."""
    return call_here(["chain", *words, "--machine", "cpu"], environment(base), expect=expect, cwd=base)


def chain_apart(base: Path, *words: str) -> str:
    """The same in a process of its own, as it is used."""
    return call([*COMMAND, *words, "--machine", "cpu"], environment(base), expect=0, cwd=base)


def states(output: str, name: str = "third") -> dict[str, str]:
    """Job -> what its line in the plan of the chain `name` says."""
    plan = output.split(f"chain {name}:\n")[1].split("\n\n")[0]
    return {match[1]: match[2].strip() for match in re.finditer(r"^[ └]*([\w-]+)  +(.*)$", plan, re.MULTILINE)}


def table(base: Path, name: str = "third") -> dict[str, Any]:
    """chain.json without what depends on the clock."""
    facts = read_json(base / "models" / "chains" / name / "chain.json")
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in facts["rows"]]
    return {"rows": rows, "sentence": facts["sentence"], "sets": facts["sets"]}


def sessions(base: Path) -> dict[str, int]:
    """How often each job was begun."""
    return {path.parent.name: len(read_json(path)["sessions"]) for path in base.glob("models/*/run.json")}


def test_mistakes_are_told_before_anything_runs(place: Path, run_cli: RunCli) -> None:
    jobs = write_chain(place / "jobs")
    assert "no such job" in run_cli("chain", "forth").output
    change(jobs, "third", "data", eval={"other": json.loads('[{"manifest": "else.jsonl"}]')})
    result = run_cli("chain", "third")
    assert result.exit_code == 2
    assert "third: data.eval.other: is another set in second" in result.output
    write_chain(place / "more")
    shutil.rmtree(jobs)
    (place / "more").rename(jobs)
    change(jobs, "third", "training", generation_num_beams=2)
    result = run_cli("chain", "third")
    assert result.exit_code == 2
    assert "third: training.generation_num_beams: 2: is None in first" in result.output
    assert not list(place.glob("models/*/run.json"))


def test_several_hosts_are_refused(place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chain(place / "jobs")
    monkeypatch.setenv("NNODES", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    result = run_cli("chain", "third")
    assert result.exit_code == 2
    assert "chain: runs on one host" in result.output


def test_a_change_for_one_of_two_chains_alone_is_refused(place: Path, run_cli: RunCli) -> None:
    write_chain(place / "jobs")
    result = run_cli("chain", "second", "--beside", "second", "--set", "training.max_steps=5")
    assert result.exit_code == 2
    assert "second: --set changes it for one of the two chains alone" in result.output


def test_the_plan_shows_what_would_run_and_runs_nothing(place: Path, run_cli: RunCli) -> None:
    write_chain(place / "jobs")
    result = run_cli("chain", "third", "--plan")
    assert result.exit_code == 0, result.output
    assert states(result.output) == dict.fromkeys(("first", "second", "third"), "to train  never ran")
    assert not (place / "models").exists()


def test_a_job_that_has_begun_is_not_said_to_have_never_run() -> None:
    job = load_job(REPOSITORY / "jobs" / "demo.yaml", machine_path=None)
    stage = Stage(job, State.UNFINISHED, "goes on where it was (running)", None)
    assert draw_plan([stage]) == "demo  unfinished  not ended     goes on where it was (running)"


def test_every_stage_is_measured_on_every_set_of_the_chain(made: Path) -> None:
    rows = table(made)["rows"]
    assert [(row["stage"], row["own_set"]) for row in rows] == [
        ("first", "held-out"),
        ("second", "other"),
        ("third", "last"),
    ]
    for row in rows:
        assert row["sets"].keys() == {"held-out", "other", "last"}
    own = read_json(made / "models" / "third" / "evaluation" / "results.json")["sets"]
    assert {name: one["rate"] for name, one in rows[2]["sets"].items()} == {
        name: result["wer"] for name, result in own.items()
    }
    assert rows[0]["sets"]["other"]["lost"] is None
    assert rows[2]["sets"]["other"]["lost"] == pytest.approx(
        rows[2]["sets"]["other"]["rate"] - rows[1]["sets"]["other"]["rate"]
    )
    page = (made / "models" / "chains" / "third" / "chain.html").read_text(encoding="utf-8")
    assert "second-plain" in page
    assert "first-plain" not in page  # what both chains share stands there once


def test_what_the_stage_before_heard_is_not_transcribed_again(made: Path) -> None:
    said = (made / "logs" / "second" / "training.log").read_text(encoding="utf-8")
    assert "tuned: transcribing held-out" in said
    assert "baseline: transcribing" not in said


def test_again_nothing_runs_and_the_same_is_told(here: Path, made: Path) -> None:
    before = sessions(here)
    output = chain(here, "third", "--beside", "third-plain")
    assert all(line.startswith("done") for line in states(output).values()), output
    assert "transcribing" not in output
    assert sessions(here) == before
    assert table(here) == table(made)


def test_a_job_that_was_touched_makes_itself_and_what_follows_stale(here: Path) -> None:
    os.utime(here / "jobs" / "second.yaml")
    assert "stale" not in chain(here, "third", "--plan")
    change(here / "jobs", "second", "model", dropout=0.1)
    change(here / "jobs", "third", "model", dropout=None)
    plan = states(chain(here, "third", "--plan"))
    assert plan["first"].startswith("done")
    assert plan["second"].endswith("model.dropout: 0.1, was None")
    assert plan["third"].startswith("stale")
    before = sessions(here)
    kept = (here / "models" / "second" / "model.safetensors").read_bytes()
    output = chain(here, "third")
    assert "second.old-1 now, remove it when it is not needed" in output
    assert sessions(here) == before | {"second.old-1": 1, "third.old-1": 1}
    assert (here / "models" / "second.old-1" / "model.safetensors").read_bytes() == kept
    assert (here / "logs" / "second.old-1" / "training.log").is_file()
    assert all(line.startswith("done") for line in states(chain(here, "third", "--plan")).values())


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("code", "the part of this program that trains has changed"),
        ("base", "its base is another model now"),
        ("data", "its training data have changed"),
    ],
)
def test_another_input_makes_a_stage_stale(here: Path, key: str, reason: str) -> None:
    path = here / "models" / "second" / "run.json"
    run = read_json(path)
    write_json(path, {**run, "inputs": {**run["inputs"], key: "another"}})
    plan = states(chain(here, "third", "--plan"))
    assert plan["second"].endswith(reason)
    assert plan["third"].endswith("its base second is made anew")


def test_what_only_evaluates_is_no_reason_to_train(here: Path) -> None:
    change(here / "jobs", "third", "evaluation", normalizer="german")
    assert states(chain(here, "third", "--plan"))["third"].startswith("to evaluate")
    before = sessions(here)
    output = chain(here, "third")
    assert "step 1/" not in output
    assert sessions(here) == before


def test_a_missed_gate_ends_the_chain_until_its_job_is_changed(place: Path) -> None:
    jobs = write_chain(place / "jobs")
    change(jobs, "second", "gates", wer=0.0)
    change(jobs, "third", "gates", wer=None)
    output = chain(place, "third", expect=3)
    assert "gate wer: MISSED" in output
    assert sessions(place).keys() == {"first", "second"}
    assert "stage   held-out" in output  # the table goes as far as the chain got
    again = chain(place, "third", expect=3)
    assert "the chain ends here: second missed a gate" in again
    assert "step 1/" not in again
    change(jobs, "second", "gates", wer=None)
    output = chain(place, "third")
    assert sessions(place) == {"first": 1, "second": 1, "third": 1}


def test_what_lies_behind_a_missed_gate_is_of_another_time_and_not_in_the_table(here: Path) -> None:
    change(here / "jobs", "second", "model", dropout=0.1)
    change(here / "jobs", "second", "gates", wer=0.0)
    change(here / "jobs", "third", "gates", wer=None)
    chain(here, "third", expect=3)
    rows = table(here)["rows"]
    assert [row["stage"] for row in rows] == ["first", "second"]
    assert all(row["sets"].keys() == {"held-out", "other", "last"} for row in rows)
    assert (here / "models" / "third" / "model.safetensors").is_file()


def test_what_an_earlier_model_heard_does_not_count(here: Path) -> None:
    job = load_job(here / "jobs" / "second.yaml", machine_path=None)
    directories = find_directories({"BASE_DIR": str(here)})
    sets = all_sets([job, load_job(here / "jobs" / "third.yaml", machine_path=None)])
    assert transcription_files(job, sets, directories).keys() == {"held-out", "other", "last"}
    weights = here / "models" / "second" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert transcription_files(job, sets, directories) == {}


def test_other_decoding_measures_every_set_again(here: Path) -> None:
    for name in ("first", "second", "third"):
        change(here / "jobs", name, "training", generation_num_beams=2)
    output = chain(here, "third")
    assert "step 1/" not in output
    assert all(line.startswith("done") for line in states(chain(here, "third", "--plan")).values())


def test_what_only_was_to_be_evaluated_may_be_evaluated_otherwise(here: Path) -> None:
    path = here / "models" / "third" / "run.json"
    write_json(path, {**read_json(path), "status": "trained"})
    change(here / "jobs", "third", "evaluation", normalizer="german")
    output = chain(here, "third")
    assert states(output)["third"].endswith("is to be evaluated")
    assert "step 1/" not in output


def test_a_run_does_not_go_on_from_another_base_than_it_began_from(here: Path, run_cli: RunCli) -> None:
    path = here / "models" / "third" / "run.json"
    run = read_json(path)
    write_json(path, {**run, "status": "stopped", "inputs": {**run["inputs"], "base": "another"}})
    result = run_cli("train", "third")
    assert result.exit_code == 2
    assert "third: base: job:second: is another model than the one this run began from" in result.output


def test_in_the_background_it_ends_with_the_same_table(here: Path, made: Path) -> None:
    shutil.rmtree(here / "models" / "chains")
    chain_apart(here, "third", "--detach")
    file = here / "models" / "chains" / "third" / "chain.json"
    deadline = time.monotonic() + 120
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert table(here)["rows"] == table(made)["rows"]


def test_killed_ten_times_it_ends_with_the_table_of_an_unbroken_one(place: Path, made: Path) -> None:
    write_chain(place / "jobs")
    chance = random.Random(5)
    kills = 0
    while kills < 10:
        process = subprocess.Popen(
            [*COMMAND, "third", "--machine", "cpu"],
            cwd=place,
            env=environment(place),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=chance.uniform(1.5, 6.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
            shutil.rmtree(place / "models" / "third")  # it was through: there is to be something left to kill
    chain_apart(place, "third")
    assert table(place)["rows"] == table(made)["rows"]
    assert not list(place.glob("models/*.old-*"))
