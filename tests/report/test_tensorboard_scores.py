"""The final scores in TensorBoard, read back by TensorBoard itself: its event reader, and a server's answers."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.report.results import make_results, one_set
from tests.tiny import tiny_job
from whisper_train.job import Job
from whisper_train.report.tensorboard import write_scores


def tiny(name: str = "tiny", **changes: Any) -> Job:
    return Job.model_validate({"name": name, **tiny_job(**changes)})


def read_events(logs: Path) -> EventAccumulator:
    events = EventAccumulator(str(logs))
    events.Reload()
    return events


def scalars(logs: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard shows them."""
    events = read_events(logs)
    return {
        tag: [(event.step, round(event.value, 5)) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def train_first(logs: Path, steps: int) -> None:
    """What the curves of a run leave."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(logs)) as writer:
        for step in range(1, steps + 1):
            writer.add_scalar("train/loss", 1 / step, step)


@contextmanager
def served(logs: Path) -> Iterator[str]:
    """The address of a TensorBoard server on `logs`."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", "0", "--load_fast", "false"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert server.stderr is not None
    try:
        line = next(line for line in server.stderr if "http://" in line)
        yield line[line.index("http://") :].split()[0].rstrip("/")
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def ask(address: str, question: dict[str, Any] | None = None) -> Any:
    data = json.dumps(question).encode() if question is not None else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_every_figure_is_a_scalar_at_the_last_step(tmp_path: Path) -> None:
    sets = {"held-out": one_set(), "long-form": one_set(wer=0.5, baseline=None, comparison=None)}
    write_scores(tmp_path, tiny(), make_results(sets=sets), 12)
    found = scalars(tmp_path)
    assert found["evaluation/held-out/wer"] == [(12, 0.0137)]
    assert found["evaluation/held-out/cer"] == [(12, 0.0044)]
    assert found["evaluation/held-out/wer_baseline"] == [(12, 0.7369)]
    assert found["evaluation/held-out/wer_low"] == [(12, 0.00685)]
    assert found["evaluation/held-out/wer_baseline_high"] == [(12, 1.10535)]
    assert found["evaluation/long-form/wer"] == [(12, 0.5)]
    assert "evaluation/long-form/wer_baseline" not in found
    assert (found["hparam/wer"], found["hparam/cer"]) == ([(12, 0.0137)], [(12, 0.0044)])


def test_a_set_without_words_has_no_scalar(tmp_path: Path) -> None:
    empty = one_set(wer=float("nan"), cer=None, wer_interval=None, cer_interval=None, baseline=None, comparison=None)
    write_scores(tmp_path, tiny(), make_results(sets={"empty": empty}), 12)
    assert scalars(tmp_path) == {}


def test_the_table_and_the_sentences_are_text(tmp_path: Path) -> None:
    write_scores(tmp_path, tiny(), make_results(), 12)
    (event,) = read_events(tmp_path).Tensors("evaluation/results/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert text.startswith("| Set | Clips |")
    assert "\n\n- held-out: WER 73.7 → 1.4, 98 % fewer errors" in text
    assert "- met: WER on held-out is 1.37 %" in text


def test_writing_again_replaces_the_scores_and_leaves_the_curves(tmp_path: Path) -> None:
    train_first(tmp_path, 12)
    write_scores(tmp_path, tiny(), make_results(), 12)
    write_scores(tmp_path, tiny(), make_results(sets={"held-out": one_set(wer=0.5)}), 12)
    found = scalars(tmp_path)
    assert found["evaluation/held-out/wer"] == found["hparam/wer"] == [(12, 0.5)]
    assert [step for step, _ in found["train/loss"]] == list(range(1, 13))
    assert len(read_events(tmp_path).Tensors("evaluation/results/text_summary")) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_run_that_went_on_shows_both_evaluations(tmp_path: Path) -> None:
    for step in (12, 120):
        write_scores(tmp_path, tiny(training={"max_steps": step}), make_results(), step)
    found = scalars(tmp_path)
    assert sorted(step for step, _ in found["evaluation/held-out/wer"]) == [12, 120]  # files of one second come by name
    assert [step for step, _ in found["hparam/wer"]] == [120]


def test_the_hparams_tab_compares_all_runs(tmp_path: Path) -> None:
    runs = {
        "full": tiny("full", training={"learning_rate": 1e-5}),
        "adapters": tiny("adapters", model={"lora": {"rank": 8}, "dropout": 0.1}, training={"max_steps": 20}),
    }
    for position, (name, job) in enumerate(runs.items()):
        train_first(tmp_path / name, 2)
        for _ in range(2):
            results = make_results(sets={"held-out": one_set(wer=0.1 * (position + 1))})
            write_scores(tmp_path / name, job, results, 12 * (position + 1))
    with served(tmp_path) as address:
        deadline = time.monotonic() + 60
        while len(ask(f"{address}/data/runs")) < len(runs) and time.monotonic() < deadline:
            time.sleep(0.2)
        experiment = ask(f"{address}/data/plugin/hparams/experiment", {"experimentName": "", "hparamsLimit": 0})
        asked = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING", "STATUS_FAILURE"],
            "colParams": [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
            + [{"metric": info["name"]} for info in experiment["metricInfos"]],
            "startIndex": 0,
            "sliceSize": 100,
        }
        rows = ask(f"{address}/data/plugin/hparams/session_groups", asked)["sessionGroups"]
        curve = ask(f"{address}/data/plugin/scalars/scalars?run=adapters&tag=evaluation%2Fheld-out%2Fwer")
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == ["hparam/wer", "hparam/cer"]
    assert {row["name"] for row in rows} == set(runs)
    by_name = {row["name"]: row for row in rows}
    full, adapters = by_name["full"]["hparams"], by_name["adapters"]["hparams"]
    assert (full["learning_rate"], full["lora_rank"], full["dropout"]) == (1e-5, 0.0, "the base's own")
    assert (adapters["lora_rank"], adapters["dropout"], adapters["steps"]) == (8.0, "0.1", 24.0)
    assert (adapters["freeze"], adapters["set"], adapters["global_batch_size"]) == ("nothing", "held-out", 8.0)
    scores = {metric["name"]["tag"]: metric["value"] for metric in by_name["adapters"]["metricValues"]}
    assert scores["hparam/wer"] == pytest.approx(0.2)
    assert [(step, round(value, 5)) for _, step, value in curve] == [(24, 0.2)]
