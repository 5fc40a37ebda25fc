"""What Vast.ai is asked for a job, for tests that play the instance: a real launch against a recording server."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cloud.vast_server import KEY, make_offer, serving
from tests.conftest import REPOSITORY

RECORDED_IMAGE = "docker.io/someone/whisper-train:train-recorded"


def record_launch(job: str | Path, *options: str, place: Path) -> dict[str, Any]:
    """The request that creates the instance of `job`, a name or a path; needs .venv-vast (the fixture vast_client).

    The container has `env` as its environment. In SSH mode `onstart` runs in it as root, by bash, instead of the
    image's entrypoint; with `--mode entrypoint` the image's own entrypoint gets `args`. `place` keeps the files of the
    client.
    """
    with serving() as server:
        server.offers = [make_offer(7)]
        settings = {"VAST_URL": server.url, "VAST_API_KEY": KEY, "PYTHONPATH": str(REPOSITORY)}
        settings |= {name: str(place / "client") for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")}
        environment = {name: value for name, value in os.environ.items() if name not in ("MACHINE", "HF_TOKEN")}
        command = [sys.executable, "-m", "whisper_train", "vast", "launch", str(job), "--offer", "7", "--yes"]
        ended = subprocess.run(
            [*command, "--image", RECORDED_IMAGE, *options],
            env={**environment, **settings},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return server.created()
