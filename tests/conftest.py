"""What every test shares: a place of its own to run in, small audio files, tiny jobs, and the command line."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from whisper_train.cli import main

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs the hub; a forgotten access fails at once instead of waiting

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"
SETTINGS: tuple[str, ...] = (
    "BASE_DIR",
    "CACHE_DIR",
    "MODEL_DIR",
    "LOG_DIR",
    "MIRROR_DIR",
    "CONFIG_DIR",
    "HF_TOKEN",
    "CUDA_VISIBLE_DEVICES",
    "GPUS",
)
SETTINGS += ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")

# A Whisper that is made and trained in a second; clips up to two seconds.
TINY_ARCHITECTURE: dict[str, Any] = {
    "vocabulary_size": 300,
    "width": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "attention_heads": 2,
    "hop_length": 320,
    "window_seconds": 2,
    "max_label_tokens": 32,
}


class MakeWav(Protocol):
    def __call__(
        self, path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, pitch: float = 220.0, **how: Any
    ) -> Path: ...


class MakeJob(Protocol):
    def __call__(self, data: dict[str, Any], /, name: str = "tiny", **sections: Any) -> Path: ...


class RunCli(Protocol):
    def __call__(self, *arguments: str | Path) -> Result: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that neither of two processes is left alone with them at the end."""
    first: tuple[str, ...] = (
        "test_distributed",
        "test_recovery",
        "test_jobs",
        "test_training",
        "test_runs",
        "test_hosts",
    )
    first += ("test_real_speech", "test_chain", "test_loss", "test_running", "test_memory", "test_registry")
    first += ("test_averaging", "test_evaluate_interrupted", "test_french_chain", "test_scale", "test_in_a_run")
    first += ("test_images", "test_short_window", "test_benchmark", "test_vast", "test_tensorboard", "test_users")
    order = {name: position for position, name in enumerate(first)}
    items.sort(key=lambda item: order.get(item.path.stem, len(first)))


@pytest.fixture(autouse=True)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs in its own empty folder, on the CPU profile, untouched by the developer's settings."""
    before = dict(os.environ)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    if "gpu" not in request.keywords:
        monkeypatch.setenv("MACHINE", "cpu")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in os.environ.keys() - before.keys():  # what the program itself sets
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def trained_and_evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tests/evaluated.py's jobs, trained and evaluated: not to be changed, but copied."""
    from tests.evaluated import train_jobs

    return train_jobs(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def speech() -> Path:
    """Real recordings, see ../shared/speech/README.md; they are no part of the project."""
    if not (SHARED / "speech").is_dir():
        pytest.skip("the recordings of ../shared/speech are not here")
    return SHARED / "speech"


@pytest.fixture
def processor_dir() -> Path:
    """Whisper's own tokenizer and feature extractor."""
    if not (SHARED / "whisper-processor").is_dir():
        pytest.skip("../shared/whisper-processor is not here")
    return SHARED / "whisper-processor"


@pytest.fixture
def run_cli() -> RunCli:
    """Runs `whisper-train` in this process; `output` holds both streams, an unforeseen exception fails the test."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def make_wav() -> MakeWav:
    """Writes a tone to a file whose suffix says the format; other `pitch`es make other clips."""

    def make(
        path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1, pitch: float = 220.0, **how: Any
    ) -> Path:
        import soundfile

        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * pitch * time)
        soundfile.write(path, np.tile(tone[:, None], (1, channels)), rate, **how)
        return path

    return make


@pytest.fixture
def make_manifest(make_wav: MakeWav) -> Callable[..., Path]:
    """Writes `clips` different tones and a manifest that names them, each with its number as text."""

    def make(path: Path, clips: int = 4, first: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(first, first + clips):
            make_wav(path.parent / f"{path.stem}-{number}.wav", pitch=200.0 + 10 * number)
            lines.append(f'{{"audio": "{path.stem}-{number}.wav", "text": "clip {number}"}}\n')
        path.write_text("".join(lines))
        return path

    return make


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Writes a job that starts from a tiny new Whisper; `sections` replace what stands here."""

    def make(data: dict[str, Any], /, name: str = "tiny", **sections: Any) -> Path:
        training = {"global_batch_size": 2, "max_steps": 2, "eval_strategy": "no", "logging_steps": 1}
        job = {"language": "en", "base": "new", "architecture": TINY_ARCHITECTURE, "data": data, "training": training}
        job["machine"] = {"audit_workers": 1, "dataloader_num_workers": 0}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job | sections, allow_unicode=True), encoding="utf-8")
        return path

    return make
