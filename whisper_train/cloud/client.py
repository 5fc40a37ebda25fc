"""Vast.ai's official client as a subprocess: arguments in by standard input, JSON out, every failure as one message."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from whisper_train.errors import UserError

CHECKOUT = Path(__file__).parent.parent.parent
KEYS_PAGE = "https://cloud.vast.ai/manage-keys/"
SECRETS = ("VAST_API_KEY", "HF_TOKEN")

# The client's own main function. Its arguments come by standard input, since one of them may hold HF_TOKEN and a
# command line can be read by every user of the machine.
CLIENT = (
    "import json, sys; sys.argv = ['vastai', *json.load(sys.stdin)]; from vastai.cli.main import main; sys.exit(main())"
)


def call_json(environment: Mapping[str, str], *arguments: str) -> Any:
    """What `vastai <arguments> --raw` answers; raises UserError when that is no JSON."""
    return parse_json(call(environment, *arguments, "--raw"), " ".join(arguments[:2]))


def parse_json(output: str, what: str) -> Any:
    """The JSON in an answer of the client to the command `what`; raises UserError when there is none."""
    try:
        return json.loads(output)
    except ValueError as error:
        told = output.strip().splitlines()
        raise UserError(f"Vast.ai: {what}: {told[0] if told else 'no answer'}; try again") from error


def call(environment: Mapping[str, str], *arguments: str, show: bool = False) -> str:
    """The standard output of `vastai <arguments>`, written to ours as it comes with `show`.

    Raises UserError with the way out for everything that goes wrong.
    """
    if not environment.get("VAST_API_KEY"):
        raise UserError(f"VAST_API_KEY: is not set; make a key at {KEYS_PAGE} and write it to .env")
    command = [str(find_python()), "-c", CLIENT]
    settings = {**environment, "VASTAI_NO_UPDATE_CHECK": "1"}
    pipe = subprocess.PIPE
    chunks: list[bytes] = []
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=settings) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(arguments).encode())
        while chunk := os.read(process.stdout.fileno(), 65_536):
            chunks.append(chunk)
            if show:
                click.echo(chunk, nl=False)
        status = process.wait()
        errors.seek(0)
        stderr = errors.read().decode(errors="replace")
    stdout = without_secrets(b"".join(chunks).decode(errors="replace"), environment)
    if problem := find_problem(stderr, environment):
        raise UserError(problem)
    if status:
        last = (stderr or stdout).strip().splitlines()[-1:] or [f"status {status}"]
        raise UserError(f"Vast.ai's client: {arguments[0]}: {without_secrets(last[0], environment)}; try again")
    return stdout


def find_python() -> Path:
    """The Python that has Vast.ai's client: this one, or that of .venv-vast in the checkout."""
    if find_spec("vastai"):
        return Path(sys.executable)
    python = CHECKOUT / ".venv-vast" / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise UserError(
            "Vast.ai's client is not installed; run requirements/install.sh vast (make vast-offers does it)"
        )
    return python


def find_problem(stderr: str, environment: Mapping[str, str]) -> str | None:
    """What the client complains of, in our words. It ends with status 0 after a refused request."""
    status, message = find_refusal(stderr)
    if status in (401, 403):
        return (
            f"VAST_API_KEY: Vast.ai refuses it ({without_secrets(message, environment)}); make a new key with the"
            f" right to rent at {KEYS_PAGE} and write it to .env"
        )
    if status == 429:
        return f"Vast.ai: too many requests ({without_secrets(message, environment)}); wait, then try again"
    if message:
        return f"Vast.ai: {without_secrets(message, environment)}" + (f" (status {status})" if status else "")
    if re.search(r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|SSLError", stderr):
        where = environment.get("VAST_URL") or "https://console.vast.ai"
        return f"Vast.ai: {where} cannot be reached; check the network and try again"
    if "rsync error" in stderr:
        told = [line for line in stderr.splitlines() if line.strip() and not line.startswith("rsync error")]
        return "; ".join(told) or stderr.strip()
    if "Result not ready" in stderr:
        return "Vast.ai: the instance has sent no logs yet; try again in a minute"
    return None


def find_refusal(stderr: str) -> tuple[int, str]:
    """Status and message of a refused request, as the client writes them with and without --raw; (0, "") for none."""
    for line in stderr.splitlines():
        if line.startswith("{"):
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict) and told.get("error"):
                return int(told.get("status_code") or 0), str(told.get("msg") or "no reason given")
        if match := re.match(r"Failed with error (\d+): (.*)", line):
            return int(match[1]), match[2]
    return 0, ""


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """`text` with the secrets of `environment` blotted out: Vast.ai's answers repeat what they were sent."""
    for name in SECRETS:
        if environment.get(name):
            text = text.replace(environment[name], "***")
    return text


def find_user(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The account that the key belongs to. It proves the key before anything is asked of the user."""
    user = call_json(environment, "show", "user")
    if not isinstance(user, dict) or "id" not in user:
        raise UserError("Vast.ai: show user: no account in the answer; try again")
    return user


def rows_of(answer: Any, what: str) -> Sequence[Mapping[str, Any]]:
    """`answer` as a list of objects; raises UserError when the client answered something else."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise UserError(f"Vast.ai: {what}: not the list that was expected; try again")
    return answer
