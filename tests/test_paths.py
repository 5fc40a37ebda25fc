"""Where things are: folders that can be written to, the settings of .env, and files written whole or not at all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from whisper_train.errors import UserError
from whisper_train.paths import find_directories, make_directory, read_environment, written_whole

NOBODY = 65534


# Folders.


def test_a_full_disk_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(place)._replace(free=300 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(UserError, match=rf"MODEL_DIR: {place}/models: the disk is full \(300 MiB free\); make room"):
        make_directory(place / "models", named_by="MODEL_DIR")


def test_a_folder_below_a_file_is_refused(place: Path) -> None:
    (place / "file").write_text("")

    with pytest.raises(UserError, match=rf"LOG_DIR: {place}/file/logs: cannot be created \(Not a directory\)"):
        make_directory(place / "file" / "logs", named_by="LOG_DIR")
    with pytest.raises(UserError, match=rf"LOG_DIR: {place}/file: cannot be created \(File exists\)"):
        make_directory(place / "file", named_by="LOG_DIR")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that others may read only, outside of pytest's own, which others may not enter."""
    with TemporaryDirectory(prefix="closed-") as folder:
        Path(folder).chmod(0o555)
        yield Path(folder)


@pytest.mark.parametrize(("below", "message"), [("", "cannot be written to; change its"), ("x", "cannot be created")])
def test_a_folder_that_this_user_may_not_write_to_is_refused(closed: Path, below: str, message: str) -> None:
    become_nobody = f"import os; os.geteuid() or os.setuid({NOBODY})"
    script = f"""
from pathlib import Path
from whisper_train.errors import UserError
from whisper_train.paths import make_directory
{become_nobody}
try:
    make_directory(Path({str(closed / below)!r}), named_by="CACHE_DIR")
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert f"CACHE_DIR: {closed / below}: {message}" in done.stdout, done.stderr


def test_a_folder_is_made_with_those_above_it_and_may_be_there_already(place: Path) -> None:
    for _ in range(2):
        assert make_directory(place / "a" / "b", named_by="CACHE_DIR").is_dir()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "{here}/cache {here}/models {here}/logs"),
        ({"BASE_DIR": ""}, "{here}/cache {here}/models {here}/logs"),
        ({"BASE_DIR": "runs"}, "{here}/runs/cache {here}/runs/models {here}/runs/logs"),
        ({"BASE_DIR": "~/runs", "LOG_DIR": "logs"}, "{home}/runs/cache {home}/runs/models {here}/logs"),
        ({"BASE_DIR": "/data", "MODEL_DIR": "~/models"}, "/data/cache {home}/models /data/logs"),
    ],
)
def test_the_folders_are_absolute_and_by_default_under_base_dir(
    place: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")

    found = find_directories(settings)

    assert f"{found.cache} {found.models} {found.logs}" == expected.format(here=place, home="/home/someone")


# Settings.


def test_env_that_is_no_text_is_told(place: Path) -> None:
    (place / ".env").write_bytes("HF_TOKEN=\xe4".encode("latin-1"))

    with pytest.raises(UserError, match=rf"{place}/.env: cannot be read \(.*; save it as UTF-8 text"):
        read_environment()


@pytest.mark.parametrize(
    ("file", "shell", "expected"),
    [
        ("", {}, (None, None)),
        ("GPUS=", {}, (None, None)),
        ("GPUS=all", {}, (None, None)),
        ("GPUS=1", {}, ("1", "PCI_BUS_ID")),
        ("GPUS=0,1", {}, ("0,1", "PCI_BUS_ID")),
        ("GPUS=0", {"GPUS": "1"}, ("1", "PCI_BUS_ID")),
        ("GPUS=0", {"GPUS": ""}, (None, None)),
        ("GPUS=0", {"CUDA_VISIBLE_DEVICES": "1"}, ("1", "PCI_BUS_ID")),
        ("GPUS=0", {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, ("0", "FASTEST_FIRST")),
    ],
)
def test_gpus_says_which_cards_cuda_sees_counted_as_nvidia_smi_does(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    shell: dict[str, str],
    expected: tuple[str | None, str | None],
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    for key, value in shell.items():
        monkeypatch.setenv(key, value)
    (place / ".env").write_text(f"{file}\n")

    environment = read_environment()

    assert (environment.get("CUDA_VISIBLE_DEVICES"), environment.get("CUDA_DEVICE_ORDER")) == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected[0]  # where torch reads it


# Files.


def test_a_file_is_replaced_whole_or_stays_as_it_was(place: Path) -> None:
    path = place / "run.json"
    path.write_text("old")

    with suppress(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"

    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(place) == ["run.json"]
