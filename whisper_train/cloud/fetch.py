"""Results back from an instance, by `vastai copy` (rsync over SSH), without ever mixing two runs."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from whisper_train.cloud.client import call
from whisper_train.cloud.image import LOG_DIR, MODEL_DIR
from whisper_train.errors import UserError
from whisper_train.paths import find_directories, make_directory, read_json

MISSING = "No such file or directory"  # what rsync says


def fetch(job: str, instance: int, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Brings the run folder and the logs of `job` into MODEL_DIR and LOG_DIR; what is there already is not sent again.

    Raises UserError when the local folder holds another run, or a later state of the same one.
    """
    for program in ("rsync", "ssh"):
        if shutil.which(program) is None:
            raise UserError(
                f"{program}: is not installed, and Vast.ai's copy uses it; sudo apt install rsync openssh-client"
            )
    directories = find_directories(environment)
    models = make_directory(directories.models, named_by="MODEL_DIR") / job
    logs = make_directory(directories.logs, named_by="LOG_DIR") / job
    there = read_run(job, instance, models.parent, environment)
    check_same_run(models, there)
    if there.get("status") == "running":
        say(f"{job} has not ended: this is its present state, and a checkpoint being written may come in part")
    for place, local in ((MODEL_DIR, models), (LOG_DIR, logs)):
        say(f"copying {place}/{job} of instance {instance} to {local}")
        copy(instance, f"{place}/{job}/", local, environment)
    say(f"{job}: {there.get('status', 'no status')}; run.json, evaluation and model are in {models}")


def read_run(job: str, instance: int, beside: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """run.json of the instance, copied alone to a folder that is removed again; raises UserError when it has none."""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=beside) as folder:
        try:
            copy(instance, f"{MODEL_DIR}/{job}/run.json", Path(folder), environment, show=False)
        except UserError as error:
            if MISSING not in str(error):
                raise
        path = Path(folder) / "run.json"
        if not path.is_file():
            raise UserError(
                f"{job}: nothing to fetch from instance {instance} yet; make vast-logs EXP={job} says how far it is"
            )
        return dict(read_json(path))


def check_same_run(folder: Path, there: Mapping[str, Any]) -> None:
    """Raises UserError unless `folder` is new or holds an earlier, or the same, state of the run `there`.

    A run is known by the starts of its sessions: a later state has the earlier one's, and perhaps more.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    way_out = "move it away, or fetch with MODEL_DIR=<another folder>"
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds files of no run; {way_out}")
    here, remote = ([session.get("started") for session in run.get("sessions", [])] for run in (read_json(path), there))
    if not here or remote[: len(here)] != here:
        if remote and here[: len(remote)] == remote:
            raise UserError(f"{folder}: its run went on here after it was on the instance; {way_out}")
        raise UserError(f"{folder}: holds another run (started {here[0] if here else 'never'}); {way_out}")


def copy(instance: int, source: str, target: Path, environment: Mapping[str, str], *, show: bool = True) -> None:
    """Copies `source` of the instance into the folder `target`; raises UserError when rsync did not get all of it.

    A target without `local:` makes the client ask for the address of the instance
    (https://docs.vast.ai/cli/reference/copy).
    """
    if ":" in str(target):
        raise UserError(f"{target}: Vast.ai's client takes the colon in it for an address; name another folder")
    try:
        told = call(environment, "copy", f"C.{instance}:{source}", str(target), show=show)
    except UserError as error:
        raise UserError(
            f"{source} of instance {instance}: {error}; the same command goes on where it stopped (Vast.ai must know"
            " your SSH key: https://cloud.vast.ai/manage-keys/)"
        ) from error
    if not any(line.startswith("rsync ") for line in told.splitlines()):
        last = told.strip().splitlines()[-1:] or ["no answer"]
        raise UserError(f"Vast.ai: copy: {last[0]}; try again")
