"""push_to_hub: the real hub client against a local server that answers as the hub does and notes what it is sent."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_job
from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.run_folder import RunFolder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.committed: list[str] = []
        self.tokens: set[str] = set()
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refuses:
            self.answer({"error": "You don't have the rights"}, 403)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"{self.address()}/someone/tiny", "id": "1", "name": "someone/tiny"})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.committed += [line["value"]["path"] for line in lines if line["key"] == "file"]
            self.answer({"commitUrl": f"{self.address()}/someone/tiny/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer({}, 404)

    def do_GET(self) -> None:
        self.answer({"id": "someone/tiny", "sha": COMMIT, "siblings": []})

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the test says what went wrong."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import huggingface_hub.constants as constants

    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = tmp_path / "tiny"
    for name in ("config.json", "model.safetensors", "run.json", "evaluation/results.json", "evaluation/eval.jsonl"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}")
    for name in ("checkpoints/checkpoint-1/optimizer.pt", "data/train.arrow", "base/config.json", ".lock"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("stays at home")
    return RunFolder(run, tmp_path / "logs")


def test_the_model_and_its_proof_go_to_the_hub_and_nothing_else(hub: Hub, folder: RunFolder) -> None:
    from whisper_train.publish import push

    job = Job.model_validate({"name": "tiny", **tiny_job(training={"push_to_hub": True})})
    assert push(job, folder).endswith("someone/tiny")
    assert sorted(hub.committed) == ["config.json", "evaluation/results.json", "model.safetensors", "run.json"]
    assert hub.tokens == {"Bearer hf_canary"}


def test_a_hub_that_refuses_leaves_the_model_and_says_so(hub: Hub, folder: RunFolder) -> None:
    from whisper_train.publish import push

    hub.refuses = True
    job = Job.model_validate({"name": "tiny", **tiny_job(training={"push_to_hub": True})})
    with pytest.raises(RunFailed, match="the model is whole in") as refused:
        push(job, folder)
    assert "hf_canary" not in str(refused.value)
