"""A results.json of version 2, with what a test changes in it."""

from typing import Any

COMPARISON: dict[str, Any] = {
    "wer": {
        "before": 0.7369,
        "after": 0.0137,
        "difference": -0.7232,
        "interval": [-0.76, -0.69],
        "p_value": 0.0001,
        "certain": True,
        "unit": "speaker",
        "units": 24,
        "needed_units": None,
    },
    "sentence": "WER 73.7 → 1.4, 98 % fewer errors, certain at 95 % (24 speakers)",
}


def figures(wer: float = 0.0137, cer: float = 0.0044) -> dict[str, Any]:
    """What one model did on one set."""
    return {
        "wer": wer,
        "wer_interval": [wer * 0.5, wer * 1.5],
        "cer": cer,
        "cer_interval": [cer * 0.5, cer * 1.5],
        "hallucination": {"loops": 1, "too_long": 0, "clips": 1, "share": 0.0042},
    }


def one_set(**changes: Any) -> dict[str, Any]:
    measured = {
        "clips": 240,
        "seconds": 396.1,
        "sources": ["synthetic: speech by espeak-ng"],
        "revisions": [None],
        "normalizer": "whisper-basic",
        "normalizer_version": "1",
        **figures(),
        "baseline": figures(0.7369, 0.5),
        "comparison": {**COMPARISON, "cer": COMPARISON["wer"]},
        "contamination": None,
    }
    return measured | changes


def make_results(**changes: Any) -> dict[str, Any]:
    results: dict[str, Any] = {
        "version": 2,
        "job": "tiny",
        "base": "new",
        "language": "de",
        "promoted": True,
        "gates": [
            {
                "gate": "wer",
                "set": "held-out",
                "limit": 0.1,
                "measured": 0.0137,
                "met": True,
                "sentence": "WER on held-out is 1.37 %; at most 10.00 % was asked for",
            }
        ],
        "silence": {"tuned": {"clips": 12, "seconds": 72.0, "words": 3, "words_per_minute": 2.5}, "baseline": None},
        "sets": {"held-out": one_set()},
    }
    return results | changes


def not_promoted() -> dict[str, Any]:
    sentence = "WER on held-out is 31.00 %; at most 10.00 % was asked for"
    gate = {"gate": "wer", "set": "held-out", "limit": 0.1, "measured": 0.31, "met": False, "sentence": sentence}
    return make_results(promoted=False, gates=[gate], sets={"held-out": one_set(**figures(0.31, 0.1))})
