"""Jobs as environment variables: packed here, unpacked on the instance. Standard library only.

Vast.ai takes 256 characters for a variable and 32,768 for all of them
(https://docs.vast.ai/api-reference/openapi/yaml/create_instance.yaml), so the text is sent in pieces.
"""

import base64
import gzip
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

PIECE_CHARACTERS = 200
MOST_CHARACTERS = 24_000  # leaves room for the other variables and for the names
JOBS_DIR = "vast-jobs"  # below CACHE_DIR, which anyone may write to


def pack(jobs: Mapping[str, str]) -> dict[str, str] | None:
    """Job texts by name as variables JOB_000, JOB_001 …; None when they are too long to be sent."""
    text = base64.b64encode(gzip.compress(json.dumps(dict(jobs)).encode(), mtime=0)).decode()
    if len(text) > MOST_CHARACTERS:
        return None
    starts = range(0, len(text), PIECE_CHARACTERS)
    return {f"JOB_{number:03}": text[start : start + PIECE_CHARACTERS] for number, start in enumerate(starts)}


def unpack(environment: Mapping[str, str]) -> dict[str, str]:
    """The job texts that `pack` put into `environment`; ValueError when a piece is missing or damaged."""
    pieces: list[str] = []
    while piece := environment.get(f"JOB_{len(pieces):03}"):
        pieces.append(piece)
    try:
        jobs = json.loads(gzip.decompress(base64.b64decode("".join(pieces), validate=True)))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"JOB_000 to JOB_{len(pieces) - 1:03}: hold no whole job") from error
    return {str(name): str(text) for name, text in jobs.items()}


def job_path(name: str, cache_dir: str) -> str:
    """Where `unpack` puts the job called `name` on the instance."""
    return f"{cache_dir}/{JOBS_DIR}/{name}.yaml"


def main() -> int:
    """Writes the jobs of the environment to files; prints where the last one is, which is the one to train."""
    try:
        jobs = unpack(os.environ)
    except ValueError as error:
        print(f"error: {error}; launch the instance again", file=sys.stderr)
        return 2
    for name, text in jobs.items():
        path = Path(job_path(name, os.environ.get("CACHE_DIR", "/cache")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
