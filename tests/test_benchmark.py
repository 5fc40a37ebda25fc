"""The benchmark of training: wrong input, the same labels for all ways, and a run at the smallest size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig, WhisperForConditionalGeneration

from benchmarks.training.flops import training_flops
from benchmarks.training.material import make_base
from benchmarks.training.options import parse
from benchmarks.training.stock import PaddingCollator, compute_one, load_stock_processor
from whisper_train.audio import SAMPLE_RATE
from whisper_train.data.dataset import IGNORED, Collator
from whisper_train.errors import UserError
from whisper_train.labels import Labels
from whisper_train.model import load_processor

REPOSITORY = Path(__file__).parent.parent
SMALLEST: tuple[str, ...] = ("--synthetic", "--model-size", "smallest", "--clips", "24", "--held-out-clips", "4")
SMALLEST += ("--batch-clips", "4", "--rounds", "2", "--updates", "2", "--wer-clips", "2", "--everything")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model-size", "tinny"], "--model-size: tinny: no such size; did you mean tiny?"),
        (["--device", "gpu"], "--device: gpu: must be cpu or cuda"),
        (["--ways", "stock,packed"], "--ways: packed: no such way; there are stock, single, joined"),
        (["--ways", "joined"], "--ways: stock: is missing"),
        (["--ways", "stock", "--everything"], "--ways: stock alone"),
        (["--rounds", "0"], "--rounds: 0: must be at least 1"),
        (["--rounds", "5", "--updates", "12"], "--updates: 12: must be a multiple of --rounds (5)"),
        (["--device-batch", "3"], "--device-batch: 3: must divide --batch-clips (16)"),
        (["--language", "germanisch"], "--language: germanisch: not a language of Whisper"),
    ],
)
def test_wrong_options_are_named_with_the_way_out(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(arguments)
    assert str(error.value).startswith(said)


def run(*arguments: str, expect: int, base: Path) -> str:
    environment = {**os.environ, "BASE_DIR": str(base), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.training", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_missing_data_folder_ends_with_status_2(tmp_path: Path) -> None:
    said = run("--data", str(tmp_path / "nowhere"), expect=2, base=tmp_path)
    assert f"error: --data: {tmp_path / 'nowhere' / 'manifest.jsonl'}: no such file" in said
    assert "Traceback" not in said


def test_stock_recipe_and_ours_learn_the_same_tokens(tmp_path: Path) -> None:
    from transformers.models.whisper.modeling_whisper import shift_tokens_right

    texts = ["ein Apfel", "das alte Buch auf dem Markt"]
    base, _ = make_base(parse(["--synthetic", "--model-size", "smallest"]), tmp_path / "base", texts)
    processor = load_processor(str(base))
    labels = Labels(processor.tokenizer, "transcribe", multilingual=True)
    silence = np.zeros(1_600, np.float32)
    ours = Collator(processor.tokenizer.pad_token_id)(
        [
            {"waveform": silence, "tokens": labels(text, "de"), "unlearned": 0, "clips": 1, "audio_seconds": 0.1}
            for text in texts
        ]
    )
    stock = load_stock_processor(base, "de")
    start = stock.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    rows = [compute_one({"audio": write_silence(tmp_path), "text": text}, stock) for text in texts]
    theirs = PaddingCollator(stock, start)(rows)
    assert ours["labels"].tolist() == theirs["labels"].tolist()
    fed = shift_tokens_right(theirs["labels"], processor.tokenizer.pad_token_id, start)
    learned = theirs["labels"] != IGNORED
    assert ours["decoder_input_ids"][learned].tolist() == fed[learned].tolist()


def test_the_operations_of_a_step_are_those_that_torch_counts() -> None:
    config = WhisperConfig(
        vocab_size=51_865, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=64, max_source_positions=200,
        attn_implementation="eager",  # torch counts no operation of the CPU's fused attention
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    with FlopCounterMode(display=False) as counter:
        model(input_features=torch.zeros(3, 80, 400), decoder_input_ids=torch.ones(3, 17, dtype=torch.long))
    assert training_flops(config, windows=3, frames=400, tokens=17) == pytest.approx(3 * counter.get_total_flops())


def write_silence(folder: Path) -> str:
    soundfile.write(folder / "silence.wav", np.zeros(1_600, np.float32), SAMPLE_RATE)
    return str(folder / "silence.wav")


@pytest.mark.slow
def test_the_smallest_benchmark_writes_its_table_its_results_and_both_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("espeakng_loader")
    said = run(*SMALLEST, expect=0, base=tmp_path)
    output = tmp_path / "logs" / "benchmark-training"
    table = (output / "table.md").read_text(encoding="utf-8")
    assert table in said
    assert "| audio hours per hour |" in table
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    ways, material = results["ways"], results["material"]
    assert list(ways) == ["stock", "joined", "short"]
    for way in ways.values():
        start, first, *later = way["points"]
        assert (start["updates"], first["updates"], [point["updates"] for point in later][:2]) == (0, 1, [2, 3])
        assert start["held_out_loss"] == ways["stock"]["points"][0]["held_out_loss"]  # of the same start weights
        assert len(way["rounds"]) == 2
        assert way["peak_bytes"] > 0
        assert way["disk_bytes"] > 0
    assert ways["short"]["points"][1]["clips"] == ways["stock"]["points"][1]["clips"] == 4
    for name in ("joined", "short"):  # never longer than the stock recipe
        stock, ours = ways["stock"]["points"][-1], results["against_stock"][name]["equal_wall_time"]["ours"]
        assert ours["train_seconds"] <= stock["train_seconds"]
    features = material["training_clips"] * 80 * 3_000 * 4  # bytes that the stock recipe keeps
    assert ways["stock"]["disk_bytes"] > features
    assert ways["joined"]["disk_bytes"] < features / 20
    assert results["capped"]["profile"] == "2x16gb"  # with DeepSpeed and its offload, on the CPU too
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (output / "training.svg").read_text(encoding="utf-8")
    assert list((tmp_path / "cache").glob("benchmark-*")) == []
