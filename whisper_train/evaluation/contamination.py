"""What makes an evaluation worth less than it says: clips known from training, and transcripts that may be wrong."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from whisper_train.evaluation.score import Counts, count_errors
from whisper_train.evaluation.words import count_words

FEWEST_WORDS = 3  # shorter ones, such as "ja" or "guten tag", are everybody's
SUSPICIOUS_RATE = 0.5
FEWEST_CHARACTERS = 10  # of a reference: one slip in "ja" is already half of it
MOST_CLIPS = 200


def same_texts(train_texts: Iterable[str], eval_texts: Sequence[str], normalize: Callable[[str], str]) -> list[int]:
    """Positions, ascending, of eval clips whose normalized sentence is also one of training.

    Sentences of fewer than FEWEST_WORDS words do not count. Takes memory for the eval clips only (16 bytes of hash
    each, some 200 with the objects around them), none for those of training.
    """
    positions: dict[bytes, list[int]] = {}
    for position, text in enumerate(eval_texts):
        normalized = normalize(text)
        if count_words(normalized) >= FEWEST_WORDS:
            positions.setdefault(fingerprint(normalized), []).append(position)
    met = {mark for text in train_texts if (mark := fingerprint(normalize(text))) in positions}
    return sorted(position for mark in met for position in positions[mark])


def fingerprint(text: str) -> bytes:
    """16 bytes: among a million sentences two different ones share it with a chance of 1e-27."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def same_audio(train_hashes: np.ndarray, eval_hashes: np.ndarray) -> list[int]:
    """Positions, ascending, of eval clips whose audio is also one of training; uint64 hashes, 0 where unknown."""
    return [int(position) for position in np.flatnonzero((eval_hashes != 0) & np.isin(eval_hashes, train_hashes))]


def suspicious_clips(
    clips: Sequence[Mapping[str, Any]],
    baseline: Sequence[str],
    baseline_characters: Counts,
    tuned_characters: Counts,
    normalize: Callable[[str], str],
) -> list[dict[str, Any]]:
    """Clips to listen to, at most MOST_CLIPS: the baseline's character error rate is SUSPICIOUS_RATE or more.

    `clips` are those of the tuned model's transcription, `baseline` the other model's hypotheses as written; the counts
    are those of both against the references. First come clips on which both models agree with each other more than
    either does with the transcript, and among these and the others those where the nearer model is farthest from it.
    """
    units = baseline_characters.units
    rates = baseline_characters.edits / np.maximum(units, 1)
    positions = np.flatnonzero((rates >= SUSPICIOUS_RATE) & (units >= FEWEST_CHARACTERS)).tolist()
    between = share_of_edits(
        count_errors(
            [normalize(baseline[position]) for position in positions],
            [normalize(clips[position]["hypothesis"]) for position in positions],
            "character",
        )
    )
    from_transcript = np.minimum(share_of_edits(baseline_characters), share_of_edits(tuned_characters))[positions]
    agree = between < from_transcript
    order = np.lexsort((positions, -from_transcript, ~agree))[:MOST_CLIPS]
    return [
        describe(clips[positions[row]], baseline[positions[row]], rates[positions[row]], agree[row]) for row in order
    ]


def share_of_edits(counts: Counts) -> np.ndarray:
    """Edits per unit of the longer text of each pair: float64 from 0 to 1 of shape (clips,)."""
    heard = counts.hits + counts.substitutions + counts.insertions
    share: np.ndarray = counts.edits / np.maximum(np.maximum(counts.units, heard), 1)
    return share


def describe(clip: Mapping[str, Any], baseline: str, rate: float, agree: bool) -> dict[str, Any]:
    """A line of listen.jsonl: that of the clip with what the baseline heard as its hypothesis, and why it is listed."""
    known = {name: value for name, value in clip.items() if name != "compute_seconds"}
    why = {"baseline_cer": round(float(rate), 4), "models_agree": bool(agree)}
    return {**known, "hypothesis": baseline, "tuned": clip["hypothesis"], **why}
