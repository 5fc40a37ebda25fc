"""Turns as a process would answer them, with times and texts that a test chooses."""

from collections.abc import Sequence
from typing import Any

WORDS = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]
CLIPS = 40


def make_turn(
    *, wrong: Sequence[int] = (), encoder: float = 100.0, decoder: float = 10.0, latency: float = 1.0, other: int = 0
) -> dict[str, Any]:
    """One turn that hears every clip; in those at the positions `wrong` it hears three of ten words wrong."""
    return {
        "computes_in": "float32",
        "libraries_bytes": 300_000_000,
        "load_seconds": 1.0,
        "window_seconds": 30.0,
        "tokens": 100,
        "encoder_ms": [encoder, encoder, 5 * encoder],
        "decoder_ms": [decoder] * 3,
        "latency_s": [latency] * 3,
        "clips": [make_line(position, position in wrong) for position in range(CLIPS)],
        "peak_bytes": {"1": 500_000_000, "8": 600_000_000, "16": 700_000_000},
        "batches": {
            "1": {"audio": 100.0, "seconds": 10.0 * latency},
            "8": {"audio": 100.0, "seconds": 5.0 * latency, "clips": 16, "other_texts": other},
            "16": {"audio": 100.0, "seconds": 4.0 * latency, "clips": 16, "other_texts": other},
        },
    }


def make_line(position: int, wrong: bool) -> dict[str, Any]:
    heard = ["falsch"] * 3 + WORDS[3:] if wrong else WORDS
    line = {"set": "held-out", "position": position, "clip": f"clip {position}", "source": 0}
    return {**line, "reference": " ".join(WORDS), "hypothesis": " ".join(heard)}
