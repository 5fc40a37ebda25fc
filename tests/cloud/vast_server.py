"""A stand-in for Vast.ai's API on 127.0.0.1: it records every request, checks its fields and answers like the API.

Methods, paths and fields are those of vastai 1.9.1; limits are those of
https://docs.vast.ai/api-reference/openapi/yaml/create_instance.yaml and https://docs.vast.ai/api-reference/templates.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "key-of-the-tests-0123456789abcdef"
USER = 4242

# Every field of a request that creates an instance or a template, with the types its value may have.
NONE = type(None)
INSTANCE_FIELDS: dict[str, tuple[type, ...]] = {
    "client_id": (str,),
    "image": (str,),
    "env": (dict,),
    "price": (float, NONE),
    "disk": (float,),
    "label": (str,),
    "extra": (NONE,),
    "onstart": (str, NONE),
    "image_login": (NONE,),
    "python_utf8": (bool,),
    "lang_utf8": (bool,),
    "use_jupyter_lab": (bool,),
    "jupyter_dir": (NONE,),
    "force": (bool,),
    "cancel_unavail": (bool,),
    "template_hash_id": (NONE,),
    "user": (NONE,),
    "runtype": (str,),
}
TEMPLATE_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "image": (str,),
    "tag": (str,),
    "href": (str,),
    "repo": (str,),
    "env": (str,),
    "onstart": (str, NONE),
    "jup_direct": (bool,),
    "ssh_direct": (bool,),
    "use_jupyter_lab": (bool,),
    "runtype": (str,),
    "use_ssh": (bool,),
    "jupyter_dir": (NONE,),
    "docker_login_repo": (NONE,),
    "extra_filters": (dict,),
    "recommended_disk_space": (str,),
    "readme": (str,),
    "readme_visible": (bool,),
    "desc": (str,),
    "private": (bool,),
}
RUNTYPES = ("args", "ssh_direc ssh_proxy")  # so, without the t: what the client sends for --ssh --direct


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: method, path, parameters of the address (decoded), JSON body."""

    method: str
    path: str
    query: dict[str, Any]
    body: dict[str, Any]


@dataclass
class VastServer:
    """What Vast.ai knows and what it was asked. `refuse` answers requests by (method, path) with status and message."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    offers: list[dict[str, Any]] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    refuse: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    command_lines: set[str] = field(default_factory=set)  # of every process, seen while a request was answered
    log_text: str = "step 100/1,400  loss 4.9221"

    def asked(self, method: str, path: str) -> list[Request]:
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def created(self) -> dict[str, Any]:
        """The body of the one request that created an instance: what Vast.ai makes a container of."""
        bodies = [request.body for request in self.requests if request.path.startswith("/api/v0/asks/")]
        assert len(bodies) == 1
        return bodies[0]

    def answer(self, request: Request) -> tuple[int, Any]:
        for pattern, method, handler in ROUTES:
            if request.method == method and (match := re.fullmatch(pattern, request.path)):
                try:
                    return 200, handler(self, request, *match.groups())
                except AssertionError as error:
                    return 400, {"success": False, "error": "invalid_args", "msg": f"invalid args: {error}"}
                except LookupError as error:
                    return 404, {"success": False, "error": "no_such", "msg": f"no_such {error.args[0]}"}
        return 404, {"success": False, "msg": f"no route {request.method} {request.path}"}


def check_fields(body: dict[str, Any], fields: dict[str, tuple[type, ...]], more: set[str]) -> None:
    assert body.keys() - fields.keys() <= more, f"unknown fields {sorted(body.keys() - fields.keys() - more)}"
    assert fields.keys() <= body.keys(), f"missing fields {sorted(fields.keys() - body.keys())}"
    for name, types in fields.items():
        assert isinstance(body[name], types), f"{name}: {body[name]!r}"


def show_user(server: VastServer, request: Request) -> Any:
    return {
        "id": USER,
        "email": "someone@example.org",
        "credit": 25.0,
        "api_key": KEY,
        "host_agreement_accepted": False,
    }


def search_templates(server: VastServer, request: Request) -> Any:
    filters = json.loads(request.query["select_filters"])
    assert json.loads(request.query["select_cols"]) == ["*"]
    return {"templates": [row for row in server.templates if suits(row, filters)]}


def create_template(server: VastServer, request: Request) -> Any:
    check_template(request.body, set())
    row = {**request.body, "id": 100 + len(server.templates), "hash_id": f"hash{len(server.templates)}"}
    server.templates.append({**row, "creator_id": USER})
    return {"success": True, "template": server.templates[-1]}


def update_template(server: VastServer, request: Request) -> Any:
    check_template(request.body, {"id", "hash_id"})
    old = next(row for row in server.templates if row["id"] == request.body["id"])
    assert old["hash_id"] == request.body["hash_id"]
    old.update(request.body, hash_id=old["hash_id"] + "-new")
    return {"success": True, "template": old}


def check_template(body: dict[str, Any], more: set[str]) -> None:
    check_fields(body, TEMPLATE_FIELDS, more)
    assert ":" not in body["image"].rpartition("/")[2], "the tag has a field of its own"
    assert body["runtype"] in ("ssh", "args")
    assert len(body["onstart"] or "") <= 4048
    assert float(body["recommended_disk_space"]) >= 8


def search_offers(server: VastServer, request: Request) -> Any:
    body = request.body
    assert body["type"] in ("on-demand", "bid"), body["type"]
    assert isinstance(body["allocated_storage"], float)
    reserved = {"order", "type", "limit", "allocated_storage"}
    filters = {name: value for name, value in body.items() if name not in reserved}
    found = [offer for offer in server.offers if suits(offer, filters)]
    return {"offers": found[: body.get("limit", 64)]}


def suits(row: dict[str, Any], filters: dict[str, dict[str, Any]]) -> bool:
    """Whether `row` passes Vast.ai's filters; numbers come as text from the client."""
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda have, want: have == want,
        "gte": lambda have, want: have >= want,
    }
    for name, conditions in filters.items():
        have = row.get(name)
        for test, value in conditions.items():
            want = type(have)(float(value)) if isinstance(have, int | float) and not isinstance(have, bool) else value
            if have is None or not tests[test](have, want):
                return False
    return True


def create_instance(server: VastServer, request: Request, offer: str) -> Any:
    body = request.body
    check_fields(body, INSTANCE_FIELDS, {"args"})
    if not any(row["id"] == int(offer) for row in server.offers):
        raise LookupError(f"ask: instance type by id {offer} is not available")
    assert body["runtype"] in RUNTYPES, body["runtype"]
    assert (body["runtype"] == "args") == ("args" in body), "args go with the runtype args"
    assert body["disk"] >= 8
    assert len(body["label"]) <= 256
    assert len(body["image"]) <= 1024
    assert body["price"] is None or 0.001 <= body["price"] <= 128
    assert len(body["onstart"] or "") + sum(map(len, body.get("args", []))) <= 4048
    assert all(len(name) + len(value) < 256 for name, value in body["env"].items()), "env: too long a variable"
    assert sum(len(name) + len(value) + 5 for name, value in body["env"].items()) <= 32_768
    number = 9000 + len(server.instances)
    server.instances.append(make_instance(number, body["label"], extra_env=list(map(list, body["env"].items()))))
    return {"success": True, "new_contract": number, "instance_api_key": "key-of-the-instance"}


def make_instance(number: int, label: str, **more: Any) -> dict[str, Any]:
    """A row of Vast.ai's list of instances."""
    row = {"id": number, "label": label, "actual_status": "running", "num_gpus": 1, "gpu_name": "RTX 4090"}
    return {**row, "dph_total": 0.4, "start_date": time.time() - 7200, "extra_env": [], **more}


def make_offer(number: int, **more: Any) -> dict[str, Any]:
    """A machine for rent, with one RTX 4090."""
    offer = {"id": number, "num_gpus": 1, "gpu_name": "RTX 4090", "gpu_ram": 24_564, "cpu_ram": 128_000}
    offer |= {"disk_space": 500.0, "cuda_max_good": 13.0, "compute_cap": 890, "reliability": 0.995, "verified": True}
    offer |= {"rentable": True, "external": False, "direct_port_count": 10, "inet_down": 800.0, "inet_up": 300.0}
    offer |= {"geolocation": "Germany, DE", "dph_total": 0.40, "min_bid": 0.15, "storage_cost": 0.146}
    return {**offer, "inet_down_cost": 0.002, "inet_up_cost": 0.01, **more}


def list_instances(server: VastServer, request: Request) -> Any:
    return {"instances": server.instances, "next_token": None, "total_instances": len(server.instances)}


def change_instance(server: VastServer, request: Request, number: str) -> Any:
    assert request.body == {"state": "stopped"}, request.body
    find_instance(server, number)["actual_status"] = "exited"
    return {"success": True}


def destroy_instance(server: VastServer, request: Request, number: str) -> Any:
    server.instances.remove(find_instance(server, number))
    return {"success": True}


def request_logs(server: VastServer, request: Request, number: str) -> Any:
    find_instance(server, number)
    assert re.fullmatch(r"\d+", request.body["tail"])
    return {"success": True, "result_url": f"{server.url}/logs/{number}"}


def read_logs(server: VastServer, request: Request, number: str) -> Any:
    return server.log_text


def ask_for_copy(server: VastServer, request: Request) -> Any:
    body = request.body
    assert body.keys() == {"client_id", "src_id", "dst_id", "src_path", "dst_path"}
    assert body["dst_id"] is None
    find_instance(server, body["src_id"].removeprefix("C."))
    return {"success": True, "src_addr": "host.of.the.instance", "src_port": 2222}


def find_instance(server: VastServer, number: str) -> dict[str, Any]:
    for row in server.instances:
        if row["id"] == int(number):
            return row
    raise LookupError(f"instance {number}")


ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    (r"/api/v0/users/current", "GET", show_user),
    (r"/api/v0/template/", "GET", search_templates),
    (r"/api/v0/template/", "POST", create_template),
    (r"/api/v1/template/", "PUT", update_template),
    (r"/api/v0/bundles/", "POST", search_offers),
    (r"/api/v0/asks/(\d+)/", "PUT", create_instance),
    (r"/api/v1/instances/", "GET", list_instances),
    (r"/api/v0/instances/(\d+)/", "PUT", change_instance),
    (r"/api/v0/instances/(\d+)/", "DELETE", destroy_instance),
    (r"/api/v0/instances/request_logs/(\d+)/", "PUT", request_logs),
    (r"/logs/(\d+)", "GET", read_logs),
    (r"/api/v0/commands/rsync/", "PUT", ask_for_copy),
)


def read_command_lines() -> set[str]:
    """What `ps` would show of every process."""
    lines = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


@contextmanager
def serving() -> Iterator[VastServer]:
    """A server that answers until the block ends."""
    state = VastServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            request = Request(self.command, parts.path, query, json.loads(text) if text else {})
            state.requests.append(request)
            state.command_lines |= read_command_lines()
            if self.headers.get("Authorization") not in (f"Bearer {KEY}", None) or (
                self.headers.get("Authorization") is None and not parts.path.startswith("/logs/")
            ):
                status, answer = 401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}
            elif (self.command, parts.path) in state.refuse:
                status, message = state.refuse[self.command, parts.path]
                answer = {"success": False, "msg": message}
            else:
                status, answer = state.answer(request)
            body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
