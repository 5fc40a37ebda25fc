"""The real client of Vast.ai, in .venv-vast, against a server of our own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.vast_server import KEY, VastServer, serving
from tests.conftest import REPOSITORY

IMAGE = "docker.io/someone/whisper-train:train-abc123"
HF_TOKEN = "hf_of_the_tests_0123456789"


@pytest.fixture(scope="session")
def vast_client() -> Path:
    """Vast.ai's own client, installed as `make vast-offers` does where it is missing (half a minute, once)."""
    client = REPOSITORY / ".venv-vast" / "bin" / "vastai"
    if not client.is_file():
        made = subprocess.run(
            ["requirements/install.sh", "vast"], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"Vast.ai's client cannot be installed here: {made.stderr.strip()[-300:]}")
    return client


@pytest.fixture
def vast(vast_client: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VastServer]:
    """A Vast.ai that knows the key of the environment; the client keeps its files in the test's own folder."""
    with serving() as server:
        monkeypatch.setenv("VAST_URL", server.url)
        monkeypatch.setenv("VAST_API_KEY", KEY)
        monkeypatch.setenv("HF_TOKEN", HF_TOKEN)
        monkeypatch.delenv("MACHINE")
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, str(place / "client"))
        role = place / "client" / "vastai" / "vast_role"  # else every command asks for it once more
        role.parent.mkdir(parents=True)
        role.write_text("client")
        yield server
