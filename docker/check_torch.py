"""Ends with 1 when the installed torch is not the pinned one: another would bring other CUDA libraries, or none."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

pinned = re.search(r"^torch==(\S+)", Path(sys.argv[1]).read_text(encoding="utf-8"), re.MULTILINE)
installed = version("torch")
if pinned is None or installed.partition("+")[0] != pinned[1]:
    sys.exit(f"torch {installed} was resolved, {sys.argv[1]} pins {pinned[1] if pinned else 'none'}")
print(f"torch {installed}")
