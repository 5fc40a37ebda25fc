"""A server that answers as the Hugging Face hub does where a model is published, and notes what it is sent."""

import json
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.contents: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.refuses = False
        self.private: bool | None = None

    @property
    def committed(self) -> list[str]:
        return list(self.contents)


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refuses:
            self.answer({"error": f"You don't have the rights, {self.headers.get('Authorization')}"}, 403)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            self.answer({"url": f"{self.address()}/someone/tiny", "id": "1", "name": "someone/tiny"})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.server.contents |= {file["path"]: b64decode(file["content"]).decode() for file in files}
            self.answer({"commitUrl": f"{self.address()}/someone/tiny/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer({}, 404)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refuses:
            return self.answer({"error": "Repository not found"}, 404)
        self.answer({"id": "someone/tiny", "sha": COMMIT, "siblings": [], "private": self.server.private})

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
