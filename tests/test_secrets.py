"""Canaries in the environment and in .env: whole runs, failures and a crash, and a search through all they leave."""

import base64
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import yaml

from tests.conftest import RunCli
from tests.tiny import command, environment, interrupt, write_job
from whisper_train.secret_values import secrets_of, without_secrets

IN_ENVIRONMENT = {
    "HF_TOKEN": "hf_canaryaBcDeFgHiJkLmNoPqRsTuVwXyZ01",
    "VAST_API_KEY": "canary-vast-0123456789abcdef",
    "CONTAINER_API_KEY": "canary-container-0123456789",
    "WANDB_API_KEY": "canary-wandb-0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+0123456789",
    "GITHUB_TOKEN": "ghp_canary0123456789",
    "REGISTRY_PASSWORD": "canary registry password",
    "HTTPS_PROXY": "http://user:canary-proxy-password@127.0.0.1:9",
}
IN_ENV_FILE = {
    "HUGGING_FACE_HUB_TOKEN": "hf_canaryInEnvFile0123456789abcdefgh",
    "MY_SERVICE_TOKEN": "canary-in-env-file",
}
CANARIES = [*IN_ENVIRONMENT.values(), *IN_ENV_FILE.values(), "canary-proxy-password"]

# What a run leaves behind, by name: a pattern below the folder it ran in. Each must be there, and none hold a canary.
PLACES = {
    "log of the training": "logs/tiny/training.log",
    "run.json": "models/tiny/run.json",
    "resolved job": "models/tiny/job.yaml",
    "plan for the ranks": "models/tiny/.plan.json",
    "checkpoints": "models/tiny/checkpoints/checkpoint-*/*",
    "model": "models/tiny/*.safetensors",
    "its configuration": "models/tiny/*config*.json",
    "audit and indexes": "models/tiny/data/*",
    "results": "models/tiny/evaluation/results.json",
    "transcriptions": "models/tiny/evaluation/transcriptions/*/*.jsonl",
    "report": "models/tiny/evaluation/report.html",
    "model card": "models/tiny/README.md",
    "TensorBoard events": "logs/**/events.out.tfevents.*",
    "exported model": "exports/*",
    "log of a run that failed": "logs/broken/training.log",
    "cache": "cache/**/*",
}


def spellings(canary: str) -> Iterator[bytes]:
    """The canary as it stands, and as usual encodings would hide it."""
    yield canary.encode()
    yield quote(canary, safe="").encode()
    yield base64.b64encode(canary.encode()).rstrip(b"=")[:-2]
    yield canary.encode().hex().encode()
    yield canary.encode("utf-16-le")


def found_in(content: bytes) -> list[str]:
    return [canary for canary in CANARIES if any(spelled in content for spelled in spellings(canary))]


class Observer(threading.Thread):
    """Looks at the command lines and the listening sockets of all processes below this one, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.command_lines: set[str] = set()
        self.listening: set[str] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.command_lines.add("\0".join(process.cmdline()))
                    sockets = process.net_connections("all")
                except psutil.Error:
                    continue
                self.listening |= {str(one.laddr.ip) for one in sockets if one.status == psutil.CONN_LISTEN}


class Runs:
    """A job trained on two ranks, evaluated and converted; a job that fails; what they printed; what was observed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.printed = folder, ""
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in IN_ENV_FILE.items()))
        self.variables = environment(folder, **IN_ENVIRONMENT)
        job = write_job(folder, training={"max_steps": 2, "save_steps": 1, "eval_steps": 1}, machine={"processes": 2})
        observer = Observer()
        observer.start()
        self.run(0, *command(job))
        self.run(
            0, *command(job, verb="convert")[:-2], "--to", "ctranslate2", "--precision", "fp32", "--output", "exports"
        )
        broken = yaml.safe_load(job.read_text(encoding="utf-8"))
        broken["data"]["train"] = [{"manifest": "gone.jsonl"}]
        (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
        self.run(2, *command(folder / "broken.yaml"))
        observer.ended.set()
        observer.join()
        self.command_lines, self.listening = observer.command_lines, observer.listening

    def run(self, status: int, *words: str, **variables: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.variables | variables, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        self.printed += output
        assert done.returncode == status, output
        return output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    os.environ["MACHINE"] = "cpu"
    return Runs(tmp_path_factory.mktemp("secrets"))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_no_place_that_a_run_leaves_holds_a_secret(runs: Runs, place: str) -> None:
    files = [path for path in runs.folder.glob(PLACES[place]) if path.is_file()]
    assert files, f"the run left nothing at {PLACES[place]}"
    assert {path.name: found for path in files if (found := found_in(path.read_bytes()))} == {}


@pytest.mark.slow
def test_no_file_at_all_holds_a_secret_but_env(runs: Runs) -> None:
    """Whatever is left that the list above does not name; and .env stays as its owner wrote it."""
    for path in runs.folder.rglob("*"):
        if path.is_file():
            expected = list(IN_ENV_FILE.values()) if path.name == ".env" else []
            assert found_in(str(path).encode() + path.read_bytes()) == expected, path


@pytest.mark.slow
def test_the_terminal_and_ps_show_no_secret(runs: Runs) -> None:
    assert found_in(runs.printed.encode()) == []
    assert any("whisper_train.training.rank" in words for words in runs.command_lines), "the ranks were not seen"
    assert found_in("\n".join(runs.command_lines).encode()) == []


@pytest.mark.slow
def test_nothing_listens_on_other_than_loopback(runs: Runs) -> None:
    assert {address for address in runs.listening if address not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")} == set()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_leaves_no_memory_on_the_disk(place: Path, number: signal.Signals) -> None:
    """A core dump holds the environment. None is written, even where the shell allows any size."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("this machine allows no core dump to begin with")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    job = write_job(place, training={"max_steps": 100_000, "eval_strategy": "no", "save_strategy": "no"})
    log = place / "logs" / "tiny" / "training.log"
    variables = dict(IN_ENVIRONMENT)
    try:
        status, printed = interrupt(
            job, place, lambda: log.is_file() and "step" in log.read_text(), number, variables=variables
        )
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    assert status == -number, printed
    assert found_in(printed.encode()) == []
    assert [path for path in place.rglob("*") if path.is_file() and found_in(path.read_bytes())] == []


MISTAKES = {
    "secret by its name": ("name: '${HF_TOKEN}'", ["check", "job.yaml"]),
    "secret of another name": ("name: '${REGISTRY_PASSWORD}'", ["check", "job.yaml"]),
    "token as a value": ("training: {hub_token: " + IN_ENVIRONMENT["HF_TOKEN"] + "}", ["check", "job.yaml"]),
    "token where a number belongs": ("training: {seed: " + IN_ENVIRONMENT["HF_TOKEN"] + "}", ["check", "job.yaml"]),
    "token as a key": (IN_ENVIRONMENT["VAST_API_KEY"] + ": 1", ["check", "job.yaml"]),
    "token as a file": ("", ["check", IN_ENVIRONMENT["GITHUB_TOKEN"]]),
    "token by --set": ("", ["check", "job.yaml", "--set", "name=" + IN_ENVIRONMENT["VAST_API_KEY"] + "/x"]),
    "hub that is not reached": ("base: nobody/nothing\narchitecture: null", ["train", "job.yaml"]),
    "data of a hub that is not reached": ("data: {train: [{hub: nobody/nothing}]}", ["train", "job.yaml"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_message_repeats_a_secret(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    change, words = MISTAKES[mistake]
    path = write_job(place, "job")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **(yaml.safe_load(change) or {})}))
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.excepthook", lambda *given: None)

    result = run_cli(*words)

    assert result.exit_code == 2, result.output
    assert found_in(result.output.encode()) == []


def test_an_error_that_nobody_foresaw_is_printed_without_secrets(place: Path) -> None:
    code = "from whisper_train.secret_values import keep_secrets; import os; keep_secrets();"
    code += " raise RuntimeError('the server answered ' + os.environ['HF_TOKEN'] + ' ' + os.environ['HTTPS_PROXY'])"
    words = [*command(Path("x"))[:1], "-c", code]
    done = subprocess.run(words, env=environment(place, **IN_ENVIRONMENT), capture_output=True, text=True, check=False)
    assert "RuntimeError: the server answered *** http://***@127.0.0.1:9" in done.stderr
    assert found_in(done.stderr.encode().partition(b"RuntimeError")[2]) == []


def test_which_variables_are_secrets() -> None:
    secret = {**IN_ENVIRONMENT, **IN_ENV_FILE, "MY_PRIVATE_KEY": "x" * 9, "SMTP_PASS": "y" * 9}
    secret.pop("HTTPS_PROXY")
    public = {"HOME": "/root/somewhere", "MODEL_DIR": "/models/of/mine", "TOKENIZERS_PARALLELISM": "false"}
    public |= {"AWS_TOKEN_FILE": "/var/run/secrets/token", "HF_TOKEN_SHORT": "x"}
    assert set(secrets_of(secret | public).values()) == set(secret)


def test_addresses_keep_what_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", IN_ENVIRONMENT["HF_TOKEN"])
    text = f"GET https://huggingface.co/api?token={IN_ENVIRONMENT['HF_TOKEN']} by http://me:pass@proxy:80, a://b:80/c@d"
    assert without_secrets(text) == "GET https://huggingface.co/api?token=*** by http://***@proxy:80, a://b:80/c@d"


def test_a_limit_on_core_dumps_is_set_and_can_be_lifted() -> None:
    code = "import resource as r; from whisper_train.secret_values import keep_secrets as keep; keep();"
    code += " print(r.getrlimit(r.RLIMIT_CORE)); r.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == f"(0, {resource.getrlimit(resource.RLIMIT_CORE)[1]})\n"
