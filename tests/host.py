"""A machine for the scripts of docker/: a copy of the checkout, and a PATH with bash and little else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

COREUTILS = ("cat", "cut", "df", "dirname", "basename", "head", "id", "ls", "mkdir", "printf", "sort", "timeout", "tr")
OTHERS = ("bash", "env", "find", "grep", "sed")  # on every Linux as well
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Host:
    """A copy of the checkout on a machine that has bash and little else: no docker, no driver, no awk."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.bin, self.home = folder / "checkout", folder / "bin", folder / "home"
        for part in (self.checkout, self.bin, self.home):
            part.mkdir()
        shutil.copytree(REPOSITORY / "docker", self.checkout / "docker")
        for name in ("pyproject.toml", "compose.yaml", "Makefile"):
            shutil.copy(REPOSITORY / name, self.checkout / name)
        self.has(*COREUTILS, *OTHERS)

    def has(self, *tools: str) -> None:
        for tool in tools:
            path = shutil.which(tool)
            if path is None:
                pytest.skip(f"{tool} is not here")
            (self.bin / tool).symlink_to(path)

    def has_cards(self, *cards: str, driver: str = "580.65.06") -> None:
        """Puts an nvidia-smi there that answers for `cards`, each "name, MiB, compute capability"."""
        lines = "\n".join(f'each "{number}" "{card}"' for number, card in enumerate(cards))
        self.write_tool(
            "nvidia-smi",
            f"""each() {{ case $query in -L) echo "GPU $1: $2" ;; *driver_version) echo {driver} ;;
              *=index) echo "$1" ;; *) echo "$1, $2" ;; esac; }}
            query=$1
            {lines}""",
        )

    def has_engine(self) -> None:
        """Puts a docker there that only says that it is there: what is tested ends before it is to do anything."""
        self.write_tool(
            "docker", 'case "$1" in info | compose | buildx | version) ;; *) echo "docker $*" >&2; exit 1 ;; esac'
        )

    def write_tool(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{self.bin}/bash\n{script}\n")
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": str(self.bin), "HOME": str(self.home), **variables}
        done = subprocess.run(
            command, cwd=self.checkout, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert "command not found" not in done.stderr, done.stderr
        assert "unbound variable" not in done.stderr, done.stderr
        return done

    def source(self, script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs `script` as one that begins like ours do."""
        return self.run("bash", "-c", f"set -euo pipefail; . docker/host.sh; {script}", **variables)

    def doctor(self, **variables: str) -> "subprocess.CompletedProcess[str]":
        return self.run("bash", "docker/doctor.sh", **variables)


@pytest.fixture
def host() -> Iterator[Host]:
    """Outside of pytest's own folders, which no other user may enter."""
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        Path(folder).chmod(0o755)
        yield Host(Path(folder))
