"""Publishing: the real hub client against a local server that answers as the hub does and notes what it is sent."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.hub import Hub
from tests.report.results import make_results, not_promoted
from tests.tiny import tiny_job, write_job
from whisper_train.errors import RunFailed, UserError
from whisper_train.job import Job
from whisper_train.job_file import dump_job, load_job
from whisper_train.paths import write_json
from whisper_train.run_folder import RunFolder

TOKEN = "hf_canary"
MODEL = ["config.json", "evaluation/results.json", "model.safetensors", "run.json"]
HOME: tuple[str, ...] = ("checkpoints/checkpoint-1/optimizer.pt", "data/train.arrow", "base/config.json", ".lock")
HOME += (
    "evaluation/eval.jsonl",
    "evaluation/transcriptions/tuned/eval.jsonl",
    "evaluation/report.html",
    ".env",
    "token",
)
HOME += (
    "checkpoints/checkpoint-1/config.json",
    "evaluation/README.md",
    "exports/README.md",
    "config.json.bak",
    "env.yaml",
)
HOME += ("pytorch_model.bin", "backup.safetensors", "recordings/anna.wav", "README.generated.md")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import huggingface_hub.constants as constants

    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = tmp_path / "tiny"
    for name in MODEL:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}")
    for name in HOME:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("stays at home")
    return RunFolder(run, tmp_path / "logs")


@pytest.fixture
def finished(folder: RunFolder, tmp_path: Path) -> Path:
    """The job file of a finished and promoted run under MODEL_DIR, which is `folder`."""
    write_json(folder.path / "run.json", {"status": "done", "steps": 12})
    write_json(folder.evaluation / "results.json", make_results())
    (tmp_path / ".env").write_text(f"MODEL_DIR={tmp_path}\n")
    path = write_job(tmp_path)
    (folder.path / "job.yaml").write_text(dump_job(load_job(path, machine_path=None)), encoding="utf-8")
    return path


def tiny(**training: Any) -> Job:
    return Job.model_validate({"name": "tiny", **tiny_job(training=training)})


def test_a_run_without_a_result_is_refused(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    for status in ("running", "trained", "stopped", "failed"):
        folder.update(status=status)
        refused = run_cli("publish", finished, "--yes")
        assert refused.exit_code == 2
        assert f"error: tiny: is {status} and has no finished result in tiny" in refused.output
    (folder.evaluation / "results.json").unlink()
    folder.update(status="done")
    assert run_cli("publish", finished, "--yes", "--force").exit_code == 2
    never = run_cli("publish", finished, "--set", "name=other", "--yes")
    assert never.exit_code == 2
    assert "other: was not trained" in never.output
    assert not (folder.path.parent / "other").exists()
    assert hub.committed == []


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"version": 1, "sets": {"a": {}}}', '{"version": 2, "sets": {}}'])
def test_results_that_say_nothing_are_refused(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder, text: str
) -> None:
    (folder.evaluation / "results.json").write_text(text)
    refused = run_cli("publish", finished, "--yes", "--force")
    assert refused.exit_code == 2
    assert "error: tiny/evaluation/results.json: " in refused.output
    assert "evaluate the model again" in refused.output
    assert hub.committed == []


def test_a_verdict_by_other_gates_or_not_of_the_run_itself_is_none(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder
) -> None:
    changed = run_cli("publish", finished, "--set", "gates.wer=0.01", "--yes")
    assert changed.exit_code == 2
    assert "gates: have changed since it was judged" in changed.output
    folder.update(status="gate missed")  # whatever results.json says, as after `score` by other rules
    refused = run_cli("publish", finished, "--yes")
    assert refused.exit_code == 2
    assert "is not promoted" in refused.output
    assert hub.committed == []


def test_results_of_other_weights_are_refused(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    from whisper_train.model import files_digest

    measured = {**make_results(), "models": {"tuned": {"model": "tiny", "digest": files_digest(folder.path)}}}
    write_json(folder.evaluation / "results.json", measured)
    assert run_cli("publish", finished).exit_code == 0
    (folder.path / "model.safetensors").write_text("others")
    refused = run_cli("publish", finished, "--yes", "--force")
    assert refused.exit_code == 2
    assert "is about other weights" in refused.output
    assert hub.committed == []


def test_speakers_and_what_they_said_stay_at_home() -> None:
    from whisper_train.publish import without_people

    kept: dict[str, Any] = {
        "wer": 0.1,
        "slices": {"duration": [{"value": "under 2 s"}]},
        "sources": ["manifest: dev.jsonl"],
    }
    people: dict[str, Any] = {
        "slices": {**kept["slices"], "speaker": [{"value": "Anna"}]},
        "confusions": [{"reference": "Anna"}],
    }
    results: dict[str, Any] = {"sets": {"dev": {**kept, **people, "sources": ["manifest: /home/anna/dev.jsonl"]}}}
    results |= {
        "base": "/home/anna/base",
        "models": {"tuned": {"model": "models/tiny"}, "baseline": {"model": "job:a"}},
    }
    named = {"base": "base", "models": {"tuned": {"model": "models/tiny"}, "baseline": {"model": "job:a"}}}
    assert without_people(results) == {"sets": {"dev": kept}, **named}
    assert "confusions" in results["sets"]["dev"], "the results on the disk stay whole"


def test_a_run_of_another_job_is_refused(hub: Hub, run_cli: RunCli, finished: Path) -> None:
    refused = run_cli("publish", finished, "--set", "training.learning_rate=0.5", "--yes")
    assert refused.exit_code == 2
    assert "holds a run with training.learning_rate: 0.001, this job has 0.5" in refused.output
    assert hub.committed == []


def test_a_model_that_is_not_promoted_is_refused(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    write_json(folder.evaluation / "results.json", not_promoted())
    refused = run_cli("publish", finished, "--yes")
    assert refused.exit_code == 2
    assert "tiny: is not promoted (WER on held-out is 31.00 %" in refused.output
    assert "--force" in refused.output
    assert hub.committed == []
    assert not (folder.path / "README.md").exists()


def test_what_is_not_promoted_goes_by_force_and_says_so(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder
) -> None:
    write_json(folder.evaluation / "results.json", not_promoted())
    forced = run_cli("publish", finished, "--yes", "--force")
    assert forced.exit_code == 0
    assert "is not promoted" in forced.output
    assert "model.safetensors" in hub.committed
    assert "Not promoted" in hub.contents["README.md"]


def test_by_itself_it_shows_what_would_go_and_uploads_nothing(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder
) -> None:
    shown = run_cli("publish", finished)
    assert shown.exit_code == 0
    assert hub.tokens == set()
    assert "to the hub as tiny, in the account of HF_TOKEN" in shown.output
    assert "public, for everybody to download" in shown.output
    goes, stays = shown.output.split("what stays here:")
    assert re.search(r"^ +2 B  model\.safetensors$", goes, re.MULTILINE)
    assert "README.md" in goes
    for name, why in (
        (".env", "hidden"),
        ("checkpoints/", "to go on training from"),
        ("data/", "with their transcripts"),
        ("evaluation/transcriptions/tuned/eval.jsonl", "what people said"),
        ("evaluation/report.html", "people's voices"),
        ("recordings/", "no part of a model folder"),
    ):
        assert re.search(rf"^ +\d+ B  {re.escape(name)}  \(.*{why}.*\)$", stays, re.MULTILINE), name
    assert "nothing was uploaded; --yes" in shown.output
    assert "pushed" not in folder.read()
    private = run_cli(
        "publish", finished, "--set", "training.hub_private_repo=true", "--set", "training.hub_model_id=a/b"
    )
    assert "to the hub as a/b\n  private\n" in private.output


def test_with_yes_exactly_the_model_and_its_proof_go(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder
) -> None:
    done = run_cli("publish", finished, "--yes")
    assert done.exit_code == 0
    assert sorted(hub.committed) == sorted([*MODEL, "README.md", "job.yaml"])
    assert hub.contents["README.md"] == (folder.path / "README.md").read_text(encoding="utf-8")
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.output
    assert folder.read()["pushed"].endswith("someone/tiny")


def test_a_card_of_ones_own_goes_instead_of_ours(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    (folder.path / "README.md").write_text("My own words.\n")
    done = run_cli("publish", finished, "--yes")
    assert "README.md is your own and stays as it is" in done.output
    assert hub.contents["README.md"] == "My own words.\n"
    assert "README.generated.md" not in hub.committed


def test_a_link_is_not_followed(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("private")
    (folder.path / "LICENSE").symlink_to(tmp_path / "diary.txt")
    (folder.path / "notes").symlink_to(tmp_path)
    assert "LICENSE  (a link" in run_cli("publish", finished, "--yes").output
    assert sorted(hub.committed) == sorted([*MODEL, "README.md", "job.yaml"])


@pytest.mark.parametrize("secret", [TOKEN, "hf_" + "a1B2c3" * 6])
def test_a_file_that_holds_a_secret_stops_it(
    hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder, secret: str
) -> None:
    (folder.path / "LICENSE").write_text(f"export X={secret}\n")
    refused = run_cli("publish", finished, "--yes")
    assert refused.exit_code == 2
    assert "error: tiny/LICENSE: holds " in refused.output
    assert secret not in refused.output
    assert hub.committed == []


def test_a_folder_without_weights_is_refused(hub: Hub, run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    (folder.path / "model.safetensors").unlink()
    refused = run_cli("publish", finished, "--yes")
    assert refused.exit_code == 2
    assert "holds no whole model" in refused.output


def test_without_a_token_it_says_where_to_put_one(
    hub: Hub, run_cli: RunCli, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    refused = run_cli("publish", finished, "--yes")
    assert refused.exit_code == 2
    assert "HF_TOKEN: is not set" in refused.output
    assert hub.tokens == set()


def test_places_of_this_machine_are_pointed_out(run_cli: RunCli, finished: Path, folder: RunFolder) -> None:
    folder.update(
        sessions=[{"command": ["train", "/home/anna/jobs/tiny.yaml"], "see": "https://hf.co/a/b", "of": "a/b"}]
    )
    notes = [line for line in run_cli("publish", finished).output.splitlines() if line.startswith("note:")]
    assert notes == ["note: run.json names places of this machine: /home/anna/jobs/tiny.yaml"]


def test_what_is_to_be_private_does_not_go_to_a_public_repository(hub: Hub, folder: RunFolder) -> None:
    from whisper_train.publish import push

    hub.private = False
    with pytest.raises(UserError, match="is there already and public"):
        push(tiny(hub_private_repo=True), folder)
    assert hub.committed == []
    hub.private = True
    push(tiny(hub_private_repo=True), folder)
    assert sorted(hub.committed) == MODEL


def test_the_model_and_its_proof_go_to_the_hub_and_nothing_else(hub: Hub, folder: RunFolder) -> None:
    from whisper_train.publish import push

    assert push(tiny(push_to_hub=True), folder).endswith("someone/tiny")
    assert sorted(hub.committed) == MODEL
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_hub_that_refuses_leaves_the_model_and_says_so(hub: Hub, folder: RunFolder) -> None:
    from whisper_train.publish import push

    hub.refuses = True
    with pytest.raises(RunFailed, match="the model is whole in") as refused:
        push(tiny(push_to_hub=True), folder)
    assert "rights" in str(refused.value)
    assert TOKEN not in str(refused.value)
