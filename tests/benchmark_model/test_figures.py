"""From turns to figures, sentences, a table and a picture."""

from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_model.made import CLIPS, make_turn
from whisper_train.benchmark_model.figures import compare_trained, hearing, memory, other_texts, speed, unit_of
from whisper_train.benchmark_model.table import make_table
from whisper_train.benchmark_model.verdict import conclude, worth_it

FLOAT, ROUNDED, TRAINED = "transformers fp32", "onnx int4 post-training", "onnx int4 QAT"
FACTS = (
    (FLOAT, "float", "transformers", "fp32", 400),
    ("onnx fp32", "float", "onnx", "fp32", 400),
    (ROUNDED, "post-training", "onnx", "int4", 60),
    (TRAINED, "QAT", "onnx", "int4", 61),
)


def make_turns(rounded: int = 20, trained: int = 2) -> dict[str, list[dict[str, Any]]]:
    """Float hears everything right, the others so many clips wrong; int4 has a decoder three times as fast."""
    four: dict[str, Any] = {"encoder": 105.0, "decoder": 3.0, "latency": 0.5}
    return {
        FLOAT: [make_turn()],
        "onnx fp32": [make_turn()],
        ROUNDED: [make_turn(wrong=range(rounded), **four)],
        TRAINED: [make_turn(wrong=range(trained), **four, other=3)],
    }


def make_entries(turns: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    heard = hearing(turns, FLOAT, ["held-out"], "whisper-basic")
    entries = []
    for name, origin, form, precision, size in FACTS:
        entry: dict[str, Any] = {"name": name, "origin": origin, "format": form, "precision": precision, "folder": "/x"}
        entry |= {"size_bytes": size, "size_ratio": size / 400, "memory": memory(turns[name])}
        entries.append(entry | speed(turns[name], None if name == FLOAT else turns[FLOAT]) | heard[name])
    return entries


def conclude_on(turns: dict[str, list[dict[str, Any]]], limit: float = 0.02) -> list[str]:
    entries = make_entries(turns)
    return conclude(entries, compare_trained(entries, turns, FLOAT, "whisper-basic"), FLOAT, limit)


def test_a_ratio_is_that_of_its_round() -> None:
    """Where the machine is twice as slow in a round, it is so for both."""
    slow = [make_turn(encoder=100), make_turn(encoder=200), make_turn(encoder=100)]
    fast = [make_turn(encoder=50), make_turn(encoder=100), make_turn(encoder=25)]
    figures = speed(fast, slow)["encoder_ms"]
    assert figures["median"] == 50
    assert figures["faster"] == {"median": 2, "least": 2, "most": 4}


def test_memory_is_told_from_that_of_the_libraries() -> None:
    figures = memory([make_turn(), make_turn()])
    assert figures["model_bytes"] == 200_000_000
    assert figures["peak_bytes"] == {"1": 500_000_000, "8": 600_000_000, "16": 700_000_000}


def test_texts_that_a_batch_changes_are_counted() -> None:
    assert other_texts([make_turn(other=3), make_turn(other=1)])["8"] == {"other_texts": 4, "clips": 32}


def test_error_rates_come_with_the_interval_of_the_difference_to_float() -> None:
    found = hearing(make_turns(), FLOAT, ["held-out"], "whisper-basic")
    assert "difference" not in found[FLOAT]
    rounded = found[ROUNDED]
    assert rounded["wer"] == pytest.approx(0.3 * 20 / CLIPS)
    low, high = rounded["difference"]["wer"]["interval"]
    assert 0 < low < 0.15 < high
    assert rounded["sets"]["held-out"]["wer"] == rounded["wer"]
    assert rounded["cer"] > 0


def test_what_training_won_back_is_told() -> None:
    turns = make_turns()
    (pair,) = compare_trained(make_entries(turns), turns, FLOAT, "whisper-basic")
    assert (pair["trained"], pair["rounded"]) == (TRAINED, ROUNDED)
    assert pair["lost_by_rounding"] == pytest.approx(0.15)
    assert pair["won_back"] == pytest.approx(0.9)


def test_a_speaker_of_two_sets_is_one_speaker() -> None:
    lines = [
        {"set": name, "source": 0, "speaker": f"{number % 12}", "clip": f"{number}"}
        for name in ("ordinary", "noisy")
        for number in range(24)
    ]
    assert len(set(unit_of(lines).groups.tolist())) == 12


def test_where_next_to_nothing_was_lost_no_share_of_it_is_told() -> None:
    pair = {"form": "onnx int8", "sentence": "WER 20.0 → 18.0", "wer": {"certain": True, "difference": -0.02}}
    assert "and wins back more than rounding lost." in worth_it({**pair, "won_back": 8.75})


def test_the_fastest_within_the_limit_is_to_be_shipped() -> None:
    said = conclude_on(make_turns())
    assert said[0].startswith(f"Ship {TRAINED}: ")
    assert "2.0 times as fast" in said[0]
    assert said[0].endswith("It is the fastest that loses no more than 2 points of WER.")


def test_a_file_beyond_the_limit_is_never_to_be_shipped() -> None:
    assert conclude_on(make_turns(trained=20))[0].startswith(f"Ship {FLOAT}: ")


def test_qat_is_worth_it_only_where_that_is_certain() -> None:
    certain = conclude_on(make_turns())[1]
    assert "QAT was worth it over post-training quantization, and wins back 90 % of what rounding lost" in certain
    assert "certain at 95 %" in certain
    same = conclude_on(make_turns(rounded=3, trained=2))[1]
    assert same.endswith("QAT was not worth it over post-training quantization here.")
    assert "QAT is worse" in conclude_on(make_turns(rounded=2, trained=20))[1]


def test_without_qat_nothing_is_claimed_of_it() -> None:
    turns = make_turns()
    entries = [one for one in make_entries(turns) if one["origin"] != "QAT"]
    said = conclude(entries, [], FLOAT)
    assert any("was not measured, since there is no such model" in sentence for sentence in said)


def test_the_end_says_what_int4_does_not_speed_up() -> None:
    said = conclude_on(make_turns())[-1]
    assert said.startswith("int4 does not speed up the encoder on this processor")
    assert "the encoder runs at 0.95 times the speed, the decoder at 3.33 times" in said


def make_results() -> dict[str, Any]:
    turns = make_turns()
    entries = make_entries(turns)
    failed = {"name": "onnx fp16", "origin": "float", "format": "onnx", "precision": "fp16", "failed": "no such op"}
    return {
        "job": "demo",
        "baseline": FLOAT,
        "batches": ["1", "8", "16"],
        "candidates": [*entries, failed],
        "sets": {"held-out": {"clips": CLIPS, "left_out": 2}},
        "window_seconds": 30.0,
        "settings": {"rounds": 1, "threads": 2, "beams": 1, "normalizer": "whisper-basic", "tokens": 100},
        "machine": {"processor": "a processor", "cores": 2},
        "versions": {"torch": "2"},
        "verdict": conclude_on(turns),
    }


def test_the_table_has_every_file_and_names_those_that_failed() -> None:
    table = make_table(make_results())
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in (fact[0] for fact in FACTS)]
    assert len({row.count(" | ") for row in rows}) == 1
    assert "- not measured: onnx fp16: no such op" in table
    assert "2 longer than the window left out" in table


def test_the_picture_is_drawn_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from whisper_train.benchmark_model.picture import draw

    draw(make_results(), tmp_path / "benchmark")
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.png", "benchmark.svg"}
    first = (tmp_path / "benchmark.svg").read_bytes()
    draw(make_results(), tmp_path / "benchmark")
    assert (tmp_path / "benchmark.svg").read_bytes() == first
