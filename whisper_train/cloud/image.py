"""The image an instance runs, what it runs in it, and in which of Vast.ai's launch modes."""

import re
import subprocess
from collections.abc import Mapping
from typing import Literal

from whisper_train.errors import UserError

Mode = Literal["ssh", "entrypoint"]

ROOT = "/opt/whisper-train"
CACHE_DIR, MODEL_DIR, LOG_DIR = "/cache", "/models", "/logs"  # what the image sets

# SSH mode replaces the image's entrypoint and runs this at every start of the instance
# (https://docs.vast.ai/guides/instances/docker-environment).
ONSTART = f"bash {ROOT}/docker/onstart.sh"


def check_image(image: str) -> tuple[str, str]:
    """Name and tag of an image that Vast.ai can pull; raises UserError for one that only this computer has."""
    way_out = "push it to a registry first: make push REGISTRY=docker.io/<you>"
    if not image:
        raise UserError(f"--image: is empty; {way_out}")
    found = re.fullmatch(r"(?P<host>[^/\s]+)/(?P<path>[^:@\s]+):(?P<tag>[\w.-]+)", image)
    if found is None or not re.search(r"[.:]", found["host"]):
        raise UserError(f"--image: {image}: names no registry and tag that a rented machine could pull from; {way_out}")
    if re.match(r"localhost|127\.|\[?::1", found["host"]):
        raise UserError(f"--image: {image}: {found['host']} is this computer, which Vast.ai cannot reach; {way_out}")
    return f"{found['host']}/{found['path']}", found["tag"]


def check_pushed(image: str) -> None:
    """Raises UserError when the registry says that it has no such image: a machine would be paid for while it waits.

    Without a docker command, or when the registry does not answer, it is not known, and launching goes on.
    """
    try:
        asked = subprocess.run(
            ["docker", "manifest", "inspect", image], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if asked.returncode and re.search(r"no such manifest|manifest unknown", asked.stderr):
        raise UserError(
            f"--image: {image}: the registry has no such image; push this commit (make push REGISTRY=…), or name one"
            " that was pushed (TAG=…)"
        )


def join_environment(variables: Mapping[str, str]) -> str:
    """`variables` as Docker options, which is how the client takes them; raises UserError for what it would cut."""
    options = []
    for name, value in variables.items():
        if re.search(r"[\s'\"]", value):
            raise UserError(f"{name}: has a space or a quote in it, which Vast.ai's client does not pass on")
        options.append(f"-e {name}={value}")
    return " ".join(options)


def launch_options(mode: Mode) -> list[str]:
    """The client's options for `mode`; in entrypoint mode the container's arguments follow, last of all."""
    return ["--ssh", "--direct", "--onstart-cmd", ONSTART] if mode == "ssh" else []
