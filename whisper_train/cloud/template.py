"""The template: what the console of Vast.ai fills in when one rents there. Private, and never with a secret in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.cloud.client import call, call_json, find_user, rows_of
from whisper_train.cloud.image import Mode, check_image, join_environment, launch_options
from whisper_train.cloud.offers import LEAST_COMPUTE_CAPABILITY, LEAST_CUDA, LEAST_RELIABILITY
from whisper_train.errors import UserError

README = """Trains Whisper with whisper-train from one job.

SSH mode: set EXP to the name of a job in jobs/ of the image, MACHINE to a machine profile if the one that suits the
GPUs found is not wanted, ARGS to further arguments of `whisper-train train`. It starts by itself, goes on after an
interruption, and with STOP_WHEN_DONE=1 stops the instance at its end. Output: /logs/<job>/console.log.
Entrypoint mode: the arguments of the container are those of whisper-train: train demo.
Results: /models/<job>. Put HF_TOKEN into the environment variables of your account, not in here.
"""


def template_name(kind: str) -> str:
    return f"whisper-train-{kind}"


def template_options(
    kind: str, image: str, mode: Mode, disk_gb: int, job: str | None, stop_when_done: bool
) -> list[str]:
    """The client's options for a whole template. Fields: https://docs.vast.ai/cli/reference/create-template."""
    name, tag = check_image(image)
    variables = ({"EXP": job} if job else {}) | {"STOP_WHEN_DONE": "1" if stop_when_done else "0"}
    search = (
        f"cuda_vers>={LEAST_CUDA} compute_cap>={LEAST_COMPUTE_CAPABILITY} reliability>={LEAST_RELIABILITY}"
        f" disk_space>={disk_gb}"
    )
    options = ["--name", template_name(kind), "--image", name, "--image_tag", tag, "--disk_space", str(disk_gb)]
    host, _, repository = name.partition("/")
    page = f"hub.docker.com/r/{repository}" if host == "docker.io" else name
    options += ["--repo", repository, "--href", f"https://{page}"]
    options += ["--env", join_environment(variables), "--search_params", search, *launch_options(mode)]
    return [*options, "--desc", f"whisper-train: {kind}, {mode} mode", "--readme", README]


def find_template(kind: str, environment: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The user's own template for `kind` of image; the newest one when there are several of its name."""
    user = find_user(environment)["id"]
    rows = rows_of(call_json(environment, "search", "templates", f"creator_id={user}"), "search templates")
    own = [row for row in rows if row.get("name") == template_name(kind) and row.get("creator_id") == user]
    return max(own, key=lambda row: int(row.get("id") or 0), default=None)


def save_template(
    kind: str, before: Mapping[str, Any] | None, options: Sequence[str], environment: Mapping[str, str]
) -> Mapping[str, Any]:
    """Creates the template, or updates `before`, which gives it a new hash; the template as it is then.

    The client hides some failures of this request, so what Vast.ai has afterwards decides.
    """
    verb = ["create", "template"] if before is None else ["update", "template", str(before["hash_id"])]
    told = call(environment, *verb, *options).strip()
    if not told.lower().startswith(("new template:", "updated template:")):
        raise UserError(f"Vast.ai: {verb[0]} template: {told.splitlines()[0] if told else 'no answer'}; try again")
    after = find_template(kind, environment)
    if after is None:
        raise UserError(f"Vast.ai: {verb[0]} template: {template_name(kind)} is not there afterwards; try again")
    return after
