"""Text by strangers, made safe to print: a control character can rewrite a terminal, half a surrogate pair ends us."""

import re

# Without tab and the ends of lines, and with halves of surrogate pairs, which no file in UTF-8 can hold.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with its control characters spelled out, as in \\x1b."""
    return UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)
