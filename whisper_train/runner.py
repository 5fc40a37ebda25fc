"""One job from its file to its result: bases first, then data, ranks, and the status they end with."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from whisper_train.averaging.settle import settle_model
from whisper_train.averaging.state import is_settled
from whisper_train.chains.load import load_chain, load_whole
from whisper_train.chains.states import asks_for_more
from whisper_train.errors import DONE as EXIT_DONE
from whisper_train.errors import GATE_MISSED as EXIT_GATE_MISSED
from whisper_train.errors import STOPPED as EXIT_STOPPED
from whisper_train.errors import Stopped, UserError
from whisper_train.evaluate_job import EVALUATION_KEYS, evaluate_run
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.housekeeping.in_use import cache_in_use
from whisper_train.job import Job
from whisper_train.job_file import display
from whisper_train.launch import find_hosts, launch
from whisper_train.machine import Layout, choose_gpus, choose_profile, list_gpus, plan_layout
from whisper_train.paths import Directories, find_config_dir, find_directories, make_directory, read_json
from whisper_train.plan import RunPlan
from whisper_train.publish import push
from whisper_train.recovery import known_to_fit, launch_until_it_fits
from whisper_train.run_folder import (
    DONE,
    FAILED,
    GATE_MISSED,
    LAUNCHER_LOCK,
    MAY_CHANGE,
    STOPPED,
    TRAINED,
    TRAINING_LOG,
    RunFolder,
    locked,
    opened,
    run_folder,
)
from whisper_train.run_log import errors_logged, open_log, print_line
from whisper_train.tasks import parts_of

EXIT_STATUS = {DONE: EXIT_DONE, GATE_MISSED: EXIT_GATE_MISSED, STOPPED: EXIT_STOPPED}
EXIT_STATUS |= {TRAINED: EXIT_DONE}  # of another host than the first, which evaluates


def resolve(
    name: str, machine: str | None, overrides: Sequence[str], environment: Mapping[str, str]
) -> tuple[Job, str]:
    """The job called `name` on the machine profile asked for or found, and the sentence about the profile."""
    profile, why = choose_profile(machine, find_config_dir(environment), list_gpus(environment))
    return load_whole(name, machine_path=profile, overrides=overrides, environment=environment), why


def resolve_with_bases(
    name: str, machine: str | None, overrides: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[Job], str]:
    """The job called `name` after those jobs it is based on that have no result yet, and as resolve() the sentence."""
    profile, why = choose_profile(machine, find_config_dir(environment), list_gpus(environment))
    jobs = load_chain(
        name,
        machine_path=profile,
        overrides=overrides,
        environment=environment,
        is_done=lambda base: run_folder_status(base, environment) == DONE,
    )
    return jobs, why


def train_named(name: str, machine: str | None, overrides: Sequence[str], environment: Mapping[str, str]) -> int:
    """Trains a job, after those jobs it is based on that have no result yet; returns the exit status."""
    jobs, why = resolve_with_bases(name, machine, overrides, environment)
    for each in jobs:
        check_trainable(each)
    print_line(why)
    for number, each in enumerate(jobs, 1):
        if len(jobs) > 1:
            print_line(
                f"\njob {number} of {len(jobs)}: {each.name}"
                + (f", the base of {jobs[number].name}" if number < len(jobs) else "")
            )
        status = train_job(each, environment)
        if status != EXIT_DONE and number < len(jobs):
            if status == EXIT_GATE_MISSED:
                print_line(f"{each.name} missed a gate, so {jobs[number].name} does not start from it")
            return status
    return status


def check_trainable(job: Job) -> None:
    if not job.data.train:
        raise UserError(f"{job.name}: data.train: is missing; a job without it can be evaluated only (make eval)")


def run_folder_status(name: str, environment: Mapping[str, str]) -> str | None:
    path = find_directories(environment).models / name / "run.json"
    return read_json(path).get("status") if path.is_file() else None


def train_job(job: Job, environment: Mapping[str, str], folder: RunFolder | None = None) -> int:
    """Trains one job whose base is there, in `folder` or its usual one; returns the exit status.

    Raises UserError for wrong input.
    """
    check_trainable(job)
    directories = find_directories(environment)
    folder = folder or run_folder(job, directories)
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    gpus = choose_gpus(job, environment)
    hosts = find_hosts(environment)
    if job.machine.processes == "all" and job.machine.device == "auto" and not gpus:
        raise UserError(
            f"{job.name}: machine.processes: all: one process per GPU, and no GPU is visible; make doctor looks for the"
            " cause, and MACHINE=cpu runs on the processor"
        )
    layout = plan_layout(job, gpus=gpus, hosts=hosts.count)
    if directories.mirror and hosts.rank == 0:
        fetch_from_mirror(folder, directories.mirror / job.name)
    before = folder.read()
    if before.get("status") in (DONE, GATE_MISSED) and not asks_for_more(job, folder):
        done = finish_again(job, folder, directories, environment) if hosts.rank == 0 else before["status"]
        return EXIT_STATUS[done]
    if hosts.rank > 0 and before.get("status") == TRAINED and not asks_for_more(job, folder):
        return EXIT_DONE  # the first host alone evaluates
    if hosts.rank > 0:
        return EXIT_STATUS[launch(follower_plan(job, layout, folder, directories.cache), hosts, print_line)]
    only_evaluates = before.get("status") == TRAINED and not asks_for_more(job, folder)
    may_change = MAY_CHANGE + EVALUATION_KEYS if only_evaluates else MAY_CHANGE
    with opened(job, folder, may_change), unwinding_on_sigterm(), cache_in_use(directories.cache):
        make_directory(directories.cache, named_by="CACHE_DIR")
        if before.get("status") == TRAINED and asks_for_more(job, folder):
            folder.update(status=STOPPED)
        say = open_log(folder.logs / TRAINING_LOG)
        say(f"{job.name}: {job.base} -> {display(folder.path)}; follow it with: make tensorboard")
        try:
            with errors_logged(), naming(job):
                status = folder.read().get("status")
                if status != TRAINED:
                    layout = known_to_fit(layout, job, folder, say)
                    plan = parts_of(job).prepare(job, folder, layout, directories, environment, say)
                    status = launch_until_it_fits(plan, hosts, say)
                if status == TRAINED:
                    status = finish(job, folder, directories, environment, say)
        except Stopped:
            say("stopped; the same command goes on from where it was")
            status = STOPPED
        except Exception as error:
            failed = {} if folder.read().get("status") == TRAINED else {"status": FAILED}
            folder.update(error=str(error), **failed)
            raise
        if status == STOPPED:
            if folder.read().get("status") != TRAINED:
                folder.update(status=STOPPED)
            return EXIT_STATUS[status]
        publish(job, folder)
        print_line(parts_of(job).next_command(job, folder, directories.cache, environment))
        return EXIT_STATUS[status]


def fetch_from_mirror(folder: RunFolder, place: Path) -> None:
    """Brings back what MIRROR_DIR has of a run and MODEL_DIR has lost."""
    from whisper_train.mirror import fetch_lost

    make_directory(folder.path, named_by="MODEL_DIR")
    with locked(folder.path / LAUNCHER_LOCK):
        fetch_lost(folder, place, print_line)


def finish(
    job: Job, folder: RunFolder, directories: Directories, environment: Mapping[str, str], say: Callable[[str], None]
) -> str:
    """Saves the model of a trained run and evaluates it; returns the status that its gates leave it with."""
    settle_model(job, folder, base_of(job, folder, directories), directories, environment, say)
    return evaluate_run(job, folder, directories, environment, say)


def base_of(job: Job, folder: RunFolder, directories: Directories) -> str:
    from whisper_train.model import resolve_place

    return str(folder.new_base) if job.base == "new" else resolve_place(job.base, directories)


def finish_again(job: Job, folder: RunFolder, directories: Directories, environment: Mapping[str, str]) -> str:
    """What is left to do for a finished run whose job is started again: average and evaluate what changed, and push.

    Nothing is done where nothing changed.
    """
    whole = opened(job, folder, MAY_CHANGE + EVALUATION_KEYS)
    with whole, unwinding_on_sigterm(), cache_in_use(directories.cache), naming(job):
        say = print_line if is_settled(job, folder.read()) else open_log(folder.logs / TRAINING_LOG)
        status = finish(job, folder, directories, environment, say)
        results = folder.evaluation / "results.json"
        print_line(f"{job.name}: finished before, {status}; its results are in {results}")
        publish(job, folder)
    return status


def publish(job: Job, folder: RunFolder) -> None:
    """Pushes a model that met its gates, once, if the job says so."""
    facts = folder.read()
    if job.training.get("push_to_hub") and facts["status"] == DONE and not facts.get("pushed"):
        address = push(job, folder)
        folder.update(pushed=address)
        print_line(f"pushed to {address}")


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Puts the name of the job before what is wrong with its base or its data: several jobs may run in one command."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from error


def follower_plan(job: Job, layout: Layout, folder: RunFolder, cache: Path) -> RunPlan:
    """The plan of a host that is not the first: its ranks read the first one's from the shared MODEL_DIR."""
    return RunPlan(job=job, folder=folder, cache=cache, base=job.base, layout=layout, deepspeed=None, checkpoint=None)
