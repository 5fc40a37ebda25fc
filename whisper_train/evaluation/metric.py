"""The same scores for those who use Hugging Face's `evaluate`: offline, without `evaluate.load`.

    from whisper_train.evaluation.metric import SpeechErrors
    SpeechErrors("whisper-basic").compute(predictions=["ja ja"], references=["ja"])["wer"]

Nothing in the package imports this module: `evaluate` brings torch along.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate  # type: ignore[import-untyped]

from whisper_train.evaluation.normalize import VERSIONS
from whisper_train.evaluation.score import count_pairs, rates

DESCRIPTION = "Word and character errors over the whole corpus, of texts normalized by a named normalizer."
INPUTS = """
Args:
    predictions: list of str, what a model wrote, not normalized.
    references: list of str, what was said, as many.
Returns:
    dict with `wer`, `cer`, `mer`, `wil` (fractions), and `hits`, `substitutions`, `deletions`, `insertions` and `words`
    (of the references) at word level.
"""


class SpeechErrors(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate.Metric` with a normalizer of this program; raises ValueError for an unknown one.

    Texts are kept in memory and no file is written, unless several processes share a computation (`num_process`), which
    need `cache_dir` or Hugging Face's own folder to meet. In `evaluate.combine` give several a name each:
    `combine({"raw": SpeechErrors("raw"), "basic": SpeechErrors("whisper-basic")})`.
    """

    def __init__(self, normalizer: str = "whisper-basic", **options: Any) -> None:
        if normalizer not in VERSIONS:
            raise ValueError(f"unknown normalizer {normalizer}; there are {', '.join(VERSIONS)}")
        self.normalizer = normalizer
        options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
        super().__init__(config_name=normalizer, **options)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _build_data_dir(self) -> str:
        # evaluate would create the folder even where it keeps everything in memory.
        return "" if self.keep_in_memory else str(super()._build_data_dir())

    def _finalize(self) -> None:
        if self.keep_in_memory and self.writer is None:
            raise ValueError("no texts to score: give predictions and references, or call add_batch before compute")
        super()._finalize()

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = list(zip(references, predictions, strict=True))
        return rates(count_pairs(pairs, [self.normalizer])[self.normalizer])
