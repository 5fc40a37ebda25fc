"""A run whose training clips are changed, and whose eval set is: what it hears, where that is told, what is redone."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.augment.signals import read
from tests.conftest import RunCli
from tests.evaluated import eval_only, read_lines, read_results, synthetic, transcriptions
from tests.tiny import run_here, tiny_job, write_job
from whisper_train.augment.augmenter import augmenter_for
from whisper_train.data.index import Index
from whisper_train.evaluation.passages import AUGMENT_SEED
from whisper_train.job_augment import Augment

pytestmark = pytest.mark.slow
NOISY: dict[str, Any] = {"noise": {"kinds": ["white", "babble"], "snr_db": [0, 5]}, "telephone": {}}


@pytest.fixture
def base(trained_and_evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the job `first` with all that its run left, as BASE_DIR."""
    shutil.copytree(trained_and_evaluated, tmp_path / "runs")
    monkeypatch.setenv("BASE_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def noisy(clips: int = 6, **effects: Any) -> list[dict[str, Any]]:
    return [{**synthetic(clips, 2)[0], "augment": effects or NOISY}]


def header(folder: Path, label: str = "tuned", name: str = "held-out") -> dict[str, Any]:
    path = folder / "transcriptions" / label / f"{name}.jsonl"
    return dict(json.loads(path.read_text(encoding="utf-8").splitlines()[0]))


def hypotheses(folder: Path) -> list[str]:
    return [line["hypothesis"] for line in read_lines(folder, "tuned", "held-out")]


def test_a_set_that_is_harder_to_hear_is_another_question_and_is_asked_once(base: Path, run_cli: RunCli) -> None:
    folder = base / "models" / "only" / "evaluation"
    assert run_cli("eval", eval_only(base, synthetic(6, 2))).exit_code == 0
    assert header(folder)["augment"] is None
    clean, result = hypotheses(folder), read_results(folder)["sets"]["held-out"]
    assert result["digest"] == header(folder)["set_digest"]

    assert run_cli("eval", eval_only(base, noisy())).exit_code == 0
    assert header(folder)["augment"][0].keys() == {"noise", "telephone"}
    heard, before = hypotheses(folder), transcriptions(folder)
    assert heard != clean
    assert header(folder)["set_digest"] == result["digest"], "the same clips: nothing is audited again"
    changed = read_results(folder)["sets"]["held-out"]
    assert changed["digest"] != result["digest"], "and no row beside the clean ones in the leaderboard"
    assert changed["augment"] == header(folder)["augment"]
    assert "<dd>noise, telephone</dd>" in (folder / "report.html").read_text(encoding="utf-8")

    assert run_cli("eval", eval_only(base, noisy())).exit_code == 0
    assert transcriptions(folder) == before, "asked and answered"
    shutil.rmtree(folder / "transcriptions")
    assert run_cli("eval", eval_only(base, noisy())).exit_code == 0
    assert hypotheses(folder) == heard, "whoever asks again hears the same"


def test_the_report_plays_what_the_model_heard(base: Path, run_cli: RunCli) -> None:
    assert run_cli("eval", eval_only(base, noisy(gain={"decibels": [-40, -40]}))).exit_code == 0
    folder = base / "models" / "only" / "evaluation"
    page = (folder / "report.html").read_text(encoding="utf-8")
    played = [base64.b64decode(sound) for sound in re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)]
    assert played
    loudest = [np.abs(soundfile.read(io.BytesIO(sound))[0]).max() for sound in played]
    assert 0.001 < max(loudest) < 0.02, "40 dB quieter"

    (folder / "data" / "eval.held-out.arrow").write_bytes(b"")
    assert run_cli("score", base / "models" / "only").exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "its set has been audited anew since; evaluate again" in page
    assert "data:audio" not in page


def test_training_hears_changed_clips_and_a_new_epoch_others(base: Path) -> None:
    """The loss of the same steps, with and without; and the same clips are used, without another audit."""
    losses = {}
    for name, effects in (("clean", None), ("changed", NOISY)):
        data = {**tiny_job()["data"], "augment": effects}
        run_here(write_job(base, name, data=data, training={"max_steps": 12, "eval_strategy": "no"}), base)
        found = sorted((base / "models" / name / "checkpoints").glob("*/trainer_state.json"))[-1]
        losses[name] = [entry["loss"] for entry in json.loads(found.read_text())["log_history"] if "loss" in entry]
    assert losses["clean"] != losses["changed"]
    audits = [json.loads((base / "models" / name / "data" / "audit.json").read_text()) for name in losses]
    assert audits[0]["fingerprints"] == audits[1]["fingerprints"]


def test_evaluation_in_training_hears_what_the_final_one_hears(base: Path) -> None:
    data = {"eval": {"held-out": noisy()}}
    output = run_here(write_job(base, "noisy", data=data, training={"max_steps": 2, "eval_steps": 2}), base)
    during = re.search(r"evaluated: wer ([\d.]+)%", output)
    assert during
    folder = base / "models" / "noisy" / "evaluation"
    assert float(during[1]) == pytest.approx(100 * read_results(folder)["sets"]["held-out"]["wer"], abs=0.01)
    index = Index(base / "models" / "noisy" / "data" / "eval.held-out.arrow", base / "cache")
    change = augmenter_for([Augment.model_validate(NOISY)], index, [None], AUGMENT_SEED)
    assert change
    assert not np.array_equal(change(read(index, 0), 0, 0), read(index, 0))
