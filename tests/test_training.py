"""A run from job file to model folder, and what it leaves beside the model."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import SPEECH, TRAIN_CLIPS, interrupt, run, run_here, write_job

pytestmark = pytest.mark.slow
FIGURES: tuple[str, ...] = ("clips_per_second", "audio_hours_per_hour", "padding_share", "label_padding_share")
FIGURES += ("data_wait_share", "model_flops_utilization")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(base: Path) -> Path:
    """The folder of a finished run of the tiny job."""
    run(write_job(base), base)
    return base / "models" / "tiny"


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_folder_loads_with_plain_transformers_and_no_missing_key(finished: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model, report = WhisperForConditionalGeneration.from_pretrained(finished, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight
    assert getattr(model.generation_config, "forced_decoder_ids", None) is None
    assert getattr(model.generation_config, "suppress_tokens", None) is None
    assert isinstance(model.generation_config.eos_token_id, int)
    assert (model.generation_config.language, model.generation_config.task) == ("de", "transcribe")
    assert WhisperProcessor.from_pretrained(finished).tokenizer.decode([0]) is not None


def test_the_run_leaves_job_versions_commit_seed_and_results_beside_the_model(finished: Path) -> None:
    facts = json.loads((finished / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["seed"] == 42
    assert facts["versions"]["transformers"]
    assert set(facts["data"]) == {"train", "eval.held-out"}
    assert (finished / "job.yaml").is_file()
    throughput = facts["throughput"]
    assert throughput.keys() == {*FIGURES, "totals"}
    assert all(0 <= throughput[name] < 1 for name in FIGURES if name.endswith(("share", "utilization")))
    assert throughput["totals"]["clips"] == 2 * TRAIN_CLIPS, "of two epochs"
    results = json.loads((finished / "evaluation" / "results.json").read_text())
    measured = results["sets"]["held-out"]
    assert measured["clips"] == 6
    assert measured["normalizer"] == "whisper-basic"
    assert measured["wer_interval"][0] <= measured["wer"] <= measured["wer_interval"][1]
    assert measured["baseline"] is None  # random weights are no baseline


def test_events_and_log_show_loss_rate_norm_speed_and_wer(finished: Path, base: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(base / "logs" / "tiny"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/learning_rate", "train/grad_norm", *(f"train/{name}" for name in FIGURES)} <= tags
    assert {"eval/wer", "eval/cer", "eval/loss"} <= tags
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13))
    assert "step 12/12" in (base / "logs" / "tiny" / "training.log").read_text()


def test_a_second_start_says_that_it_is_finished_and_changes_nothing(finished: Path, base: Path) -> None:
    before = weights(finished)
    assert "finished before" in run_here(base / "tiny.yaml", base)
    assert weights(finished) == before


def test_another_job_under_the_same_name_is_refused(finished: Path, base: Path) -> None:
    output = run_here(base / "tiny.yaml", base, "--set", "training.learning_rate=0.5", expect=2)
    assert "training.learning_rate: 0.001, this job has 0.5" in output


def test_a_finished_run_goes_on_when_it_is_given_more_steps(base: Path) -> None:
    job = write_job(base, "longer")
    run_here(job, base, "--set", "training.max_steps=6")
    assert "resuming from checkpoint-6" in run_here(job, base)


def test_kill_9_anywhere_and_run_again_ends_with_the_same_weights(base: Path) -> None:
    """Killed before the first checkpoint, in the middle of a step, while writing one, and while evaluating."""
    changes = {"model": {"dropout": 0.1, "spec_augment": {"mask_time_prob": 0.1, "mask_time_length": 2}}}
    training = {"max_steps": 20, "save_steps": 4, "eval_steps": 4, "global_batch_size": 8}
    machine = {"dataloader_num_workers": 1, "threads": 1, "audit_workers": 1, "per_device_train_batch_size": 4}
    unbroken = write_job(base, "unbroken", training={"learning_rate": 1e-3, **training}, machine=machine, **changes)
    run(unbroken, base)
    broken = write_job(base, "broken", training={"learning_rate": 1e-3, **training}, machine=machine, **changes)
    log, checkpoints = base / "logs" / "broken" / "training.log", base / "models" / "broken" / "checkpoints"
    log.parent.mkdir(parents=True)
    log.touch()
    moments = [
        lambda: "step 2/20" in log.read_text(),
        (checkpoints / ".incomplete" / "checkpoint-8").exists,
        lambda: "step 11/20" in log.read_text(),
        lambda: "step 16: evaluated" in log.read_text(),
        lambda: "step 20: evaluated" in log.read_text(),
    ]
    for moment in moments:
        interrupt(broken, base, moment, signal.SIGKILL)
    run(broken, base)
    assert weights(base / "models" / "broken") == weights(base / "models" / "unbroken")


def test_joined_windows_resume_to_the_same_weights_and_leave_a_model_with_timestamps(base: Path) -> None:
    """Clips, pauses, time stamps and prompts of a window are those of seed, epoch and clip, whenever it is shown."""
    from transformers import GenerationConfig

    source = {"synthetic": {**SPEECH, "part": "train", "clips": TRAIN_CLIPS, "seed": 1}}
    data = {"train": [{**source, "augment": {"speed": {}}}], "windows": {"pause_seconds": [0.1, 0.4]}}
    training = {"max_steps": 8, "save_steps": 3, "eval_steps": 8, "learning_rate": 1e-3, "global_batch_size": 8}
    machine = {"dataloader_num_workers": 1, "threads": 1, "audit_workers": 1, "per_device_train_batch_size": 4}
    output = run(write_job(base, "joined", data=data, training=training, machine=machine), base)
    assert "44 clips in " in output
    broken = write_job(base, "joined-broken", data=data, training=training, machine=machine)
    log = base / "logs" / "joined-broken" / "training.log"
    interrupt(broken, base, lambda: log.is_file() and "step 5/8" in log.read_text(), signal.SIGKILL)
    assert "resuming from checkpoint-" in run(broken, base)
    assert weights(base / "models" / "joined-broken") == weights(base / "models" / "joined")
    generation = GenerationConfig.from_pretrained(base / "models" / "joined")
    assert generation.no_timestamps_token_id is not None


@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)])
def test_a_signal_saves_leaves_with_143_and_the_run_goes_on(base: Path, number: signal.Signals, group: bool) -> None:
    name = f"stopped-{number.name}-{group}"
    machine = {"dataloader_num_workers": 1, "threads": 1, "audit_workers": 1}
    job = write_job(base, name, training={"max_steps": 400, "eval_steps": 400, "save_steps": 400}, machine=machine)
    log = base / "logs" / name / "training.log"
    status, output = interrupt(
        job, base, lambda: log.is_file() and "step 5/400" in log.read_text(), number, group=group
    )
    assert status == 143, output
    assert "Traceback" not in output
    assert "saved checkpoint-" in output
    assert json.loads((base / "models" / job.stem / "run.json").read_text())["status"] == "stopped"
    assert "resuming from checkpoint-" in run(job, base, "--set", "training.max_steps=60")


def test_a_run_without_evaluations_or_saves_still_ends_with_a_model(base: Path) -> None:
    training = {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    run_here(write_job(base, "bare", training=training), base)
    assert weights(base / "models" / "bare")


def test_the_best_evaluation_has_a_checkpoint_whatever_the_save_steps(base: Path) -> None:
    run_here(write_job(base, "best", training={"max_steps": 8, "eval_steps": 2, "save_steps": 8}), base)
    facts = json.loads((base / "models" / "best" / "run.json").read_text())
    assert facts["kept"] == f"checkpoint-{facts['best_step']}"


def test_training_clips_that_changed_under_a_run_are_refused(base: Path, make_manifest: Callable[..., Path]) -> None:
    held_out = make_manifest(base / "changing" / "eval.jsonl", clips=2, first=50)
    manifest = make_manifest(base / "changing" / "train.jsonl", clips=12)
    data = {"train": [{"manifest": str(manifest)}], "eval": {"last": [{"manifest": str(held_out)}]}}
    job = write_job(base, "changing", data=data, training={"max_steps": 6})
    run_here(job, base, "--set", "training.max_steps=3", "--set", "training.eval_steps=3")
    make_manifest(manifest, clips=14)
    assert "other clips than this run has trained on" in run_here(job, base, expect=2)


def test_clips_that_vanish_during_training_end_the_run(base: Path, make_manifest: Callable[..., Path]) -> None:
    """A mount that goes away must not end as a model trained on silence."""
    held_out = make_manifest(base / "vanishing" / "eval.jsonl", clips=2, first=50)
    manifest = make_manifest(base / "vanishing" / "train.jsonl", clips=40)
    data = {"train": [{"manifest": str(manifest)}], "eval": {"last": [{"manifest": str(held_out)}]}}
    training = {"max_steps": 4000, "eval_steps": 4000, "save_steps": 4000}
    job = write_job(base, "vanishing", data={**data, "max_dropped_fraction": 0.05}, training=training)
    log = base / "logs" / "vanishing" / "training.log"

    def gone() -> bool:
        if not log.is_file() or "step 5/" not in log.read_text():
            return False
        for path in manifest.parent.glob("train-*.wav"):
            path.unlink()
        return True

    status, output = interrupt(job, base, gone, signal.SIGCONT)
    assert status == 1, output
    assert "could not be read during training" in output
    assert "Traceback" not in output


def test_a_changed_goal_is_judged_anew_without_training(finished: Path, base: Path) -> None:
    before = weights(finished)
    run_here(base / "tiny.yaml", base, "--set", "gates.wer=0.0", expect=3)
    run_here(base / "tiny.yaml", base)
    assert weights(finished) == before


def test_a_missed_goal_ends_with_status_3(base: Path) -> None:
    output = run_here(write_job(base, "hopeless", gates={"wer": 0.0}, training={"max_steps": 2}), base, expect=3)
    assert "missed" in output


def test_a_job_on_another_jobs_result_runs_that_first_and_has_it_as_baseline(base: Path) -> None:
    write_job(base, "first", training={"max_steps": 2})
    second = write_job(base, "second", base="job:first", architecture=None, training={"max_steps": 2})
    output = run_here(second, base)
    assert output.index("job 1 of 2: first") < output.index("job 2 of 2: second")
    results = json.loads((base / "models" / "second" / "evaluation" / "results.json").read_text())
    assert results["sets"]["held-out"]["baseline"]["wer"] >= 0


def test_lora_trains_a_part_resumes_and_is_merged_into_a_plain_model(base: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    write_job(base, "plain", training={"max_steps": 2})
    job = write_job(base, "lora", base="job:plain", architecture=None, model={"lora": {"rank": 2, "alpha": 4}})
    run_here(job, base, "--set", "training.max_steps=6")
    assert "resuming from checkpoint-6" in run_here(job, base)
    _, report = WhisperForConditionalGeneration.from_pretrained(base / "models" / "lora", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert weights(base / "models" / "lora") != weights(base / "models" / "plain")


def test_a_frozen_encoder_stays_as_it_was(base: Path) -> None:
    from safetensors.torch import load_file

    job = write_job(base, "frozen", model={"freeze": ["encoder"]}, training={"max_steps": 3})
    run_here(job, base)
    before = load_file(base / "models" / "frozen" / "base" / "model.safetensors")
    after = load_file(base / "models" / "frozen" / "model.safetensors")
    changed = {name for name in after if not after[name].equal(before[name])}
    assert changed
    assert not any(name.startswith("model.encoder.") for name in changed)
