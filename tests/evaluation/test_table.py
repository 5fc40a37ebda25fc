"""The table that a run ends with: every set, every model, how they compare, and the gates."""

from typing import Any

import pytest

from whisper_train.evaluation.table import band, make_table


@pytest.mark.parametrize(
    ("wer", "word"), [(0.0, "excellent"), (0.0999, "excellent"), (0.1, "good"), (0.25, "acceptable"), (0.3, "poor")]
)
def test_bands(wer: float, word: str) -> None:
    assert band(wer) == word


def figures(wer: float, interval: list[float] | None) -> dict[str, Any]:
    return {"wer": wer, "wer_interval": interval, "cer": wer / 2}


def test_the_table_shows_every_model_of_every_set() -> None:
    hard = {**figures(0.081, [0.07, 0.09]), "clips": 1200, "baseline": figures(0.124, [0.11, 0.14])}
    hard |= {"others": {"openai--x": figures(0.5, None)}, "comparison": {"sentence": "WER 12.4 → 8.1, certain"}}
    other = {**figures(0.5, None), "clips": 3, "baseline": None, "others": {}, "comparison": None}
    models = {"tuned": {"model": "models/a"}, "baseline": {"model": "job:b"}, "openai--x": {"model": "openai/x"}}
    gate = {"gate": "wer", "met": False, "sentence": "WER on hard is 8.10 %"}

    results = {"models": models, "sets": {"hard": hard, "other": other}, "gates": [gate], "promoted": None}
    table = make_table(results).splitlines()

    assert table[2].split() == ["hard", "1,200", "models/a", "8.10%", "7.00%", "to", "9.00%", "4.05%", "excellent"]
    assert table[3].split()[2:4] == ["job:b", "12.40%"]
    assert table[4].split()[2:5] == ["openai/x", "50.00%", "-"]
    assert table[5].split()[:3] == ["other", "3", "models/a"]
    assert table[6:] == ["hard: WER 12.4 → 8.1, certain", "gate wer: MISSED: WER on hard is 8.10 %"]
    own = make_table({**results, "promoted": False}).splitlines()
    assert own[2].split()[2] == "tuned", "a run's own model needs no name"
