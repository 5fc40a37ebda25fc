"""Training on the first positions of the encoder's window: what a job may ask for, and that nothing else changes."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeJob, RunCli
from tests.tiny import SPEECH, TRAIN_CLIPS, interrupt, run_here, write_job
from tests.whisper import POSITIONS, make_batch, make_whisper
from whisper_train.audio import LogMel
from whisper_train.job import Job
from whisper_train.training.window import count_positions, count_samples, see_positions, whole_window

SHORT = 20


def test_clips_longer_than_the_window_are_refused(make_job: MakeJob, run_cli: RunCli) -> None:
    source = [{"folder": "clips"}]
    data = {"train": source, "eval": source, "window_seconds": 10, "max_seconds": 15}
    result = run_cli("check", make_job(data))
    assert result.exit_code == 2
    assert "max_seconds: 15: clips would be longer than window_seconds (10); lower it" in result.output


@pytest.mark.parametrize("value", [0, 31, "ten"])
def test_a_window_is_more_than_nothing_and_at_most_whispers_own(make_job: MakeJob, run_cli: RunCli, value: Any) -> None:
    source = [{"folder": "clips"}]
    result = run_cli("check", make_job({"train": source, "eval": source, "window_seconds": value}))
    assert result.exit_code == 2
    assert "data.window_seconds" in result.output


def test_a_window_that_the_base_has_not_is_refused(make_job: MakeJob, make_manifest: Any, run_cli: RunCli) -> None:
    source = [{"manifest": str(make_manifest(Path("clips/all.jsonl")))}]
    result = run_cli("train", make_job({"train": source, "eval": source, "window_seconds": 3}))
    assert result.exit_code == 2
    assert "data.window_seconds: 3: the base's window has 2 s; lower it, or leave it out" in result.output


def test_a_job_that_says_no_length_takes_clips_up_to_its_window() -> None:
    data: dict[str, Any] = {"train": [{"folder": "clips"}], "eval": [{"folder": "clips"}], "window_seconds": 10}
    job = Job.model_validate({"name": "short", "language": "de", "base": "./base", "data": data})
    assert job.data.max_seconds == 10
    assert Job.model_validate(job.model_dump(mode="json")) == job, "as a resumed run reads it"


@pytest.mark.parametrize(("seconds", "positions"), [(30, 1_500), (10, 500), (0.3, 15), (0.301, 16), (9.99, 500)])
def test_a_window_has_a_position_for_every_part_of_two_frames(seconds: float, positions: int) -> None:
    assert count_positions(seconds, hop_length=160) == positions
    assert count_samples(positions, 160) >= seconds * 16_000


def test_a_short_window_gives_what_a_model_with_so_many_positions_gives() -> None:
    """Which is that of the whole encoder on its first positions: the same weights, the beginning of the same table."""
    model = make_whisper(500)
    see_positions(model, SHORT)
    small = make_whisper(500, max_source_positions=SHORT)
    weights = model.state_dict()
    weights["model.encoder.embed_positions.weight"] = weights["model.encoder.embed_positions.weight"][:SHORT]
    small.load_state_dict(weights)
    batch = make_batch(frames=2 * SHORT)
    for one in (model, small):
        one(**batch).logits.square().mean().backward()
    assert torch.equal(model(**batch).logits, small(**batch).logits)
    gradients = dict(model.named_parameters())
    for name, parameter in small.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(gradients[name].grad, parameter.grad), name


def test_the_model_itself_stays_whole(tmp_path: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    model, plain = make_whisper(500).eval(), make_whisper(500).eval()
    see_positions(model, SHORT)
    with pytest.raises(ValueError, match="length 40"):
        model(**make_batch())
    with whole_window(model):
        assert torch.equal(model(**make_batch()).logits, plain(**make_batch()).logits)
        features = make_batch()["input_features"]
        assert torch.equal(
            model.generate(features, max_new_tokens=4, do_sample=False),
            plain.generate(features, max_new_tokens=4, do_sample=False),
        )
    assert model(**make_batch(frames=2 * SHORT)).logits.shape == (3, 8, 500)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["max_source_positions"] == POSITIONS
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(**make_batch()).logits, plain(**make_batch()).logits)


def test_adapters_see_the_short_window_too() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make_whisper(500), LoraConfig(target_modules=["q_proj"]))
    see_positions(model, SHORT)
    assert model(**make_batch(frames=2 * SHORT)).logits.shape == (3, 8, 500)
    with whole_window(model):
        assert model(**make_batch()).logits.shape == (3, 8, 500)


def test_the_spectrogram_of_a_short_window_is_the_beginning_of_the_long_one() -> None:
    from transformers import WhisperFeatureExtractor

    log_mel = LogMel(WhisperFeatureExtractor(), torch.device("cpu"))
    waveform = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)) / 10
    long, short = log_mel(waveform), log_mel(waveform, 32_000)
    assert (long.shape, short.shape) == ((1, 80, 3_000), (1, 80, 200))
    torch.testing.assert_close(short, long[..., :200])


def changes(**machine: Any) -> dict[str, Any]:
    """Joined windows of 2.5 of the 4 seconds, with masks over time; clips of the eval set are longer."""
    source = {"synthetic": {**SPEECH, "part": "train", "clips": TRAIN_CLIPS, "seed": 1}}
    masks = {"mask_time_prob": 0.1, "mask_time_length": 2}
    data = {"train": [source], "window_seconds": 2.5, "windows": {"pause_seconds": [0.1, 0.4]}}
    training = {"max_steps": 4, "save_steps": 2, "eval_steps": 2, "global_batch_size": 4, "learning_rate": 1e-3}
    return {"data": data, "training": training, "model": {"spec_augment": masks}, "machine": machine}


@pytest.mark.slow
def test_a_run_on_a_short_window_resumes_to_the_same_weights_and_leaves_a_whole_model(tmp_path: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    broken = write_job(tmp_path, "short", **changes())
    log = tmp_path / "logs" / "short" / "training.log"
    interrupt(broken, tmp_path, lambda: log.is_file() and "step 3/4" in log.read_text(), signal.SIGKILL)
    assert "resuming from checkpoint-2" in run_here(broken, tmp_path)
    run_here(write_job(tmp_path, "unbroken", **changes()), tmp_path)
    folders = [tmp_path / "models" / name for name in ("short", "unbroken")]
    assert (
        folders[0].joinpath("model.safetensors").read_bytes() == folders[1].joinpath("model.safetensors").read_bytes()
    )
    assert WhisperForConditionalGeneration.from_pretrained(folders[0]).config.max_source_positions == 100
    totals = [json.loads((folder / "run.json").read_text())["throughput"]["totals"] for folder in folders]
    for name in ("clips", "audio_seconds", "window_seconds", "label_tokens", "flops"):
        assert totals[0][name] == pytest.approx(totals[1][name]), "the steps before the break are in it once"
    assert totals[0]["window_seconds"] == pytest.approx(4 * 4 * 2.52)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["DeepSpeed", "LoRA"])
def test_a_short_window_trains_under_deepspeed_and_with_adapters(tmp_path: Path, how: str) -> None:
    given = changes(processes=2, deepspeed="zero2", per_device_train_batch_size=2) if how == "DeepSpeed" else changes()
    if how == "LoRA":
        given["model"]["lora"] = {"rank": 2}
    run_here(write_job(tmp_path, "short", **given), tmp_path)
    assert json.loads((tmp_path / "models" / "short" / "run.json").read_text())["status"] == "done"
