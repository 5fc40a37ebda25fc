"""Named text normalizers, applied to reference and hypothesis alike before they are compared."""

from collections.abc import Callable

# A name stands for one behaviour for good: a changed one gets another name.
VERSIONS = {"raw": "1", "whisper-basic": "1"}


def make_normalizer(name: str) -> Callable[[str], str]:
    """`raw` leaves the text as it is; `whisper-basic` is OpenAI's for any language (openai/whisper, basic.py)."""
    if name == "raw":
        return str.strip
    assert name == "whisper-basic", f"unknown normalizer {name}"
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    basic = BasicTextNormalizer()
    return lambda text: str(basic(text)).strip()
