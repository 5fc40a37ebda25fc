"""How the process of a way hears commands and answers them."""

import json
import os
import sys
from typing import Any, TextIO


class Channel:
    """Lines of JSON to the parent and from it. What libraries print goes to the log instead."""

    def __init__(self) -> None:
        self.answers: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(self, **facts: Any) -> None:
        self.answers.write(json.dumps(facts) + "\n")
        self.answers.flush()

    def next_command(self) -> dict[str, Any]:
        """What the parent wants; when it is gone, the end."""
        line = sys.stdin.readline()
        return dict(json.loads(line)) if line else {"updates": 0}
