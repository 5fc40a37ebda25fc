"""Words of a text in any script, for measures that look at texts as they were written."""

import re
from collections.abc import Sequence

# Apostrophes stay: they stand within words.
SEPARATORS = (
    r"\s_!-&(-/:-@\[-^`{-~\xa1-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u0964\u0965\u2000-\u2018\u201a-\u206f\u2e00-\u2e7f"
)
WIDE_SEPARATORS = (
    r"\u2669-\u266f\u3000-\u3004\u3008-\u3020\u3030\u303d\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
# Thai, Lao, Tibetan, Burmese, Khmer, kana, Han
UNSPACED = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(f"[{UNSPACED}]|[^{SEPARATORS}{WIDE_SEPARATORS}{UNSPACED}]+")
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")


def split_words(text: str) -> list[str]:
    """Words without case and punctuation; every character of a script without spaces is one of its own."""
    return WORD.findall(text.casefold())


def count_words(text: str) -> int:
    """Words of a text; two characters of a script without spaces count as one."""
    words = split_words(text)
    characters = sum(1 for word in words if UNSPACED_CHARACTER.match(word))
    return len(words) - characters + (characters + 1) // 2


def join_texts(texts: Sequence[str]) -> str:
    """Segments as one text. OpenAI's models begin each with a space; a tuned one does as it was taught."""
    joined = ""
    for text in (text.strip() for text in texts):
        unspaced = joined and text and UNSPACED_CHARACTER.match(joined[-1]) and UNSPACED_CHARACTER.match(text[0])
        joined += text if not joined or unspaced else f" {text}"
    return joined.strip()
