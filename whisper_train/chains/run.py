"""`whisper-train chain`: shows what there is of a chain, runs what is missing, and puts all stages into one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_train.chains.inputs import code_digest, model_digest
from whisper_train.chains.load import load_chain
from whisper_train.chains.measure import Sets, all_sets, measure_others, transcription_files
from whisper_train.chains.states import TO_TRAIN, Stage, State, draw_plan, look_at_chain, look_at_stage, set_aside
from whisper_train.chains.table import LEGEND, Measured, make_rows, say_losses, show_rows
from whisper_train.data.prepare import hash_of
from whisper_train.errors import DONE, GATE_MISSED, UserError
from whisper_train.job import Job
from whisper_train.job_data import LONG_FORM_SET
from whisper_train.job_file import display
from whisper_train.launch import find_hosts
from whisper_train.machine import choose_profile, list_gpus
from whisper_train.paths import (
    Directories,
    find_config_dir,
    find_directories,
    make_directory,
    read_json,
    write_json,
    written_whole,
)
from whisper_train.run_folder import LAUNCHER_LOCK, RANKS_LOCK, is_locked, read_holder, run_folder, stop_command
from whisper_train.run_log import print_line
from whisper_train.runner import check_trainable, train_job
from whisper_train.tasks import check_of_speech

CHAINS = "chains"  # the folder under MODEL_DIR for their tables


def run_chain(
    name: str,
    beside: str | None,
    machine: str | None,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    *,
    only_plan: bool,
) -> int:
    """Runs the chain that ends in the job `name`, and that of `beside` to compare it with; returns the exit status.

    Raises UserError for a mistake in any of the jobs, before any of them runs.
    """
    if find_hosts(environment).count > 1:
        raise UserError("chain: runs on one host; with several, start each stage with make train on all of them")
    directories = find_directories(environment)
    profile, why = choose_profile(machine, find_config_dir(environment), list_gpus(environment))
    shared = [text for text in overrides if text.partition("=")[0].startswith("machine.")]
    jobs = load_chain(name, machine_path=profile, overrides=overrides, environment=environment)
    others = load_chain(beside, machine_path=profile, overrides=shared, environment=environment) if beside else []
    for job in (*jobs, *others):
        check_of_speech(job, "chain")
        check_trainable(job)
    check_names(jobs, others)
    sets = all_sets([*jobs, *others])
    print_line(why)
    for chain in filter(None, (jobs, others)):
        print_line(f"\nchain {chain[-1].name}:\n{draw_plan(look_at_chain(chain, directories))}")
    check_chain_room(jobs, others, directories, environment)
    if only_plan:
        return DONE
    status, measured = run_stages(jobs, sets, directories, environment)
    beside_it: list[Job] = []
    if others and status == DONE:
        compared, beside_it = run_stages(others, sets, directories, environment)
        status = compared if compared not in (DONE, GATE_MISSED) else status
    if measured and status in (DONE, GATE_MISSED):
        print_line(f"\n{tell_chain(measured, beside_it, sets, directories, name=jobs[-1].name)}")
    return status


def check_chain_room(
    jobs: Sequence[Job], others: Sequence[Job], directories: Directories, environment: Mapping[str, str]
) -> None:
    """Says what the stages that are still to be trained will leave on the disk; UserError where it has no room."""
    from whisper_train.planning.room import check_room
    from whisper_train.planning.takes import chain_takes

    takes = []
    known: set[str] = set()
    for chain in filter(None, (jobs, others)):
        stages = [stage for stage in look_at_chain(chain, directories) if stage.job.name not in known]
        missing = [stage.job for stage in stages if stage.state in TO_TRAIN]
        known |= {job.name for job in missing}
        takes += chain_takes(missing, chain[0], directories, environment)
    way_out = "training.save_total_limit: 1 keeps the fewest checkpoints, MODEL_DIR names another disk"
    check_room(takes, print_line, key="MODEL_DIR", way_out=way_out)


def check_names(jobs: Sequence[Job], others: Sequence[Job]) -> None:
    """Raises UserError where two chains mean different jobs by one name."""
    known = {job.name: job for job in jobs}
    for job in others:
        if known.get(job.name, job) != job:
            raise UserError(f"{job.name}: --set changes it for one of the two chains alone; leave it out, or --beside")


def run_stages(
    jobs: Sequence[Job], sets: Sets, directories: Directories, environment: Mapping[str, str]
) -> tuple[int, list[Job]]:
    """Runs what is missing, stage by stage, each from a base that is as it should be; ends at the first gate missed.

    Returns the exit status, and the stages that are measured as they are now: what lies behind a missed gate is of
    another time.
    """
    measured: list[Job] = []
    for number, job in enumerate(jobs, 1):
        stage = look_at_stage(job, directories)
        status = {State.DONE: DONE, State.GATE_MISSED: GATE_MISSED}.get(stage.state)
        if status is None:
            print_line(f"\nstage {number} of {len(jobs)}: {job.name}")
            if stage.state == State.STALE:
                make_way(stage, directories)
            status = train_job(job, environment)
        if status not in (DONE, GATE_MISSED):
            return status, measured
        measure_others(job, sets, directories, environment, with_base=number == 1 and job.base != "new")
        measured.append(job)
        if status == GATE_MISSED:
            print_line(f"\n{tell_missed(job, directories)}")
            return status, measured
    return DONE, measured


def make_way(stage: Stage, directories: Directories) -> None:
    """Sets aside what an earlier run of a stale stage left; raises UserError when it is still running."""
    job, folder = stage.job, run_folder(stage.job, directories)
    for lock in (folder.path / LAUNCHER_LOCK, folder.path / RANKS_LOCK):
        if is_locked(lock):
            holder = read_holder(lock)
            raise UserError(f"{job.name}: is running as {holder}; stop it first ({stop_command(job.name, holder)})")
    aside = set_aside(job, directories)
    print_line(f"{job.name}: {stage.reason}; the earlier run is {display(aside)} now, remove it when it is not needed")


def tell_missed(job: Job, directories: Directories) -> str:
    results = read_json(run_folder(job, directories).evaluation / "results.json")
    missed = [gate["sentence"] for gate in results["gates"] if not gate["met"]]
    return "\n".join(
        [
            f"the chain ends here: {job.name} missed a gate",
            *(f"  {sentence}" for sentence in missed),
            "change its job and start the chain again: it goes on from there",
        ]
    )


def tell_chain(jobs: Sequence[Job], others: Sequence[Job], sets: Sets, directories: Directories, *, name: str) -> str:
    """The table of the chain `name`, as far as it got, as text.

    It is written to MODEL_DIR/chains/<name>/ too, unless nothing has changed.
    """
    folder = make_directory(directories.models / CHAINS / name, named_by="MODEL_DIR")
    digest = table_digest([*jobs, *others], sets, directories)
    file = folder / "chain.json"
    facts = read_json(file) if file.is_file() else {}
    if facts.get("digest") != digest:
        facts = make_table(jobs, others, sets, directories, name=name)
        write_page(folder / "chain.html", facts)
        write_json(file, {"digest": digest, **facts})
    lines = [*show_rows(facts["rows"], facts["sets"])]
    if facts["beside"]:
        lines += ["", f"beside it, {facts['beside']}:", *show_rows(facts["beside_rows"], facts["sets"])]
    return "\n".join([*lines, LEGEND, facts["sentence"], f"page: {display(folder / 'chain.html')}"])


def table_digest(jobs: Sequence[Job], sets: Sets, directories: Directories) -> str:
    """Changes with anything that the table shows."""
    runs = [run_folder(job, directories) for job in jobs]
    stages = [[run.path.name, model_digest(run.path), run.read().get("evaluated")] for run in runs]
    timings = [run.read().get("timings") for run in runs]
    return hash_of([code_digest(("chains", "evaluation")), stages, timings, list(sets), jobs[-1].evaluation.normalizer])


def make_table(
    jobs: Sequence[Job], others: Sequence[Job], sets: Sets, directories: Directories, *, name: str
) -> dict[str, Any]:
    """chain.json: the rows of both chains. The other one's leave out the stages that both share, after judging them."""
    normalizer, names = jobs[-1].evaluation.normalizer, list(sets)
    rows = make_rows(find_models(jobs, sets, directories), names, normalizer)
    other_rows = make_rows(find_models(others, sets, directories), names, normalizer) if others else []
    shown = {row["stage"] for row in rows}
    beside = others[-1].name if others else None
    return {
        "version": 1,
        "chain": name,
        "beside": beside,
        "normalizer": normalizer,
        "sets": names,
        "rows": rows,
        "beside_rows": [row for row in other_rows if row["stage"] not in shown],
        "sentence": say_losses(name, rows, str(beside), other_rows),
    }


def find_models(jobs: Sequence[Job], sets: Sets, directories: Directories) -> list[Measured]:
    """The models of a chain as far as it got: the first base, where there is one, then each stage's."""
    models = []
    if jobs[0].base != "new":
        files = transcription_files(jobs[0], sets, directories, of_base=True)
        models.append(Measured(name=jobs[0].base, files=files, own_set=None, seconds=None))
    for job in jobs:
        run = run_folder(job, directories)
        results = read_json(path) if (path := run.evaluation / "results.json").is_file() else {}
        models.append(
            Measured(
                name=job.name,
                files=transcription_files(job, sets, directories),
                own_set=next(iter(job.data.eval)),
                seconds=sum(run.read().get("timings", {}).values()) or None,
                long_form=results.get("sets", {}).get(LONG_FORM_SET),
            )
        )
    return [model for model in models if model.files]


def write_page(path: Path, facts: Mapping[str, Any]) -> None:
    from whisper_train.report.render import render

    with written_whole(path) as temporary:
        temporary.write_text(render("chain.html", chain=facts, legend=LEGEND), encoding="utf-8")
