"""The commands. Each reads its input and calls one function; nothing heavy is imported before it is needed."""

import sys
from pathlib import Path
from typing import Any

import click

from whisper_train import __version__
from whisper_train.cli_evaluation import evaluate, leaderboard, normalize, score
from whisper_train.cli_export import benchmark_model, convert, qat, transcribe
from whisper_train.cli_housekeeping import clean_cache
from whisper_train.cli_travel import make_travel, order
from whisper_train.cloud.commands import vast
from whisper_train.errors import WRONG_INPUT, UserError
from whisper_train.exits import exits, stopping_after
from whisper_train.options import job_options, leave_to_itself, stop_option
from whisper_train.paths import find_directories, read_environment
from whisper_train.secret_values import keep_secrets


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """From one job file to a proven, deployable Whisper model."""
    keep_secrets()
    try:
        read_environment()  # before the commands' options, some of which have a variable
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(WRONG_INPUT)


@main.command()
@click.argument("job", required=False)
@job_options
@stop_option
@click.option("--detach", is_flag=True, help="run in the background; a closed terminal does not end it")
@click.option("--config", type=click.Path(path_type=Path), help="a flat config.yaml instead of a job")
@click.option("-g", "--gpu", help="flat: which GPUs, as 0 or 0,1")
@click.option("-l", "--lang", help="flat: language")
@click.option("-dn", "--name", help="flat: data set on the hub, or a folder")
@click.option("-dc", "--cache", help="flat: where data sets are kept")
@click.option("-mn", "--model-name", help="flat: whisper-small, whisper-large-v3 …")
@click.option("-mc", "--model-cache", help="flat: where models are kept")
@click.option("-wp", "--whisper-pretrained", help="flat: hub id or folder to start from")
@click.option("-ck", "--checkpoint-name", help="flat: name of the run")
@click.option("-cd", "--checkpoint-dir", help="flat: folder of the run")
@click.option("-t", "--max-steps", type=int, help="flat: how many steps")
@exits
def train(
    job: str | None,
    machine: str | None,
    overrides: tuple[str, ...],
    stop_after: str | None,
    detach: bool,
    config: Path | None,
    **flags: Any,
) -> int:
    """Train JOB, a name in jobs/ or a path; run it again to resume."""
    environment = read_environment()
    if (job is None) == (config is None):
        raise UserError("train: name one job (whisper-train train demo), or one flat file (--config config.yaml)")
    if config is not None:
        if detach:
            raise UserError("train: --detach: is for jobs; with --config use nohup")
        from whisper_train.flat import train_flat

        with stopping_after(stop_after):
            return train_flat(config, flags, machine, overrides, environment)
    if given := [name for name, value in flags.items() if value is not None]:
        raise UserError(f"train: --{given[0].replace('_', '-')} goes with --config; for a job use --set")
    from whisper_train.runner import resolve, train_named

    if detach:
        return leave_to_itself(resolve(str(job), machine, overrides, environment)[0], environment)
    with stopping_after(stop_after):
        return train_named(str(job), machine, overrides, environment)


@main.command()
@click.argument("job")
@job_options
@stop_option
@click.option("--beside", metavar="JOB", help="another chain, run too and put beside this one in the table")
@click.option("--plan", "only_plan", is_flag=True, help="show what there is and what would run, and run nothing")
@click.option("--detach", is_flag=True, help="run in the background; a closed terminal does not end it")
@exits
def chain(
    job: str,
    machine: str | None,
    overrides: tuple[str, ...],
    stop_after: str | None,
    beside: str | None,
    only_plan: bool,
    detach: bool,
) -> int:
    """Run JOB after the jobs it builds on, as far as they are missing or stale; each stage is measured on every set."""
    from whisper_train.chains.run import run_chain
    from whisper_train.runner import resolve

    environment = read_environment()
    if detach:
        return leave_to_itself(resolve(job, machine, overrides, environment)[0], environment)
    with stopping_after(stop_after):
        return run_chain(job, beside, machine, overrides, environment, only_plan=only_plan)


@main.command()
@click.argument("job")
@job_options
@exits
def lineage(job: str, machine: str | None, overrides: tuple[str, ...]) -> None:
    """Print where JOB's model comes from: every base back to the first, its data, and what it reached."""
    from whisper_train.chains.lineage import show_lineage
    from whisper_train.runner import resolve

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    click.echo(show_lineage(resolved, find_directories(environment)))


@main.command()
@click.argument("job")
@job_options
@exits
def check(job: str, machine: str | None, overrides: tuple[str, ...]) -> None:
    """Print JOB as it would run: extended, substituted, overridden, with its machine profile."""
    from whisper_train.augment.settings import noise_folders
    from whisper_train.job_file import dump_job
    from whisper_train.machine import list_gpus, plan_layout
    from whisper_train.prepare import missing_manifests
    from whisper_train.runner import resolve_with_bases

    environment = read_environment()
    jobs, why = resolve_with_bases(job, machine, overrides, environment)
    resolved = jobs[-1]
    layout = plan_layout(resolved, gpus=len(list_gpus(environment)))
    click.echo(f"# {why}")
    click.echo(f"# {layout}")
    for path in missing_manifests(resolved):
        click.echo(f"# warning: manifest: {path}: no such file (paths are relative to the job file)")
    for key, folder in noise_folders(resolved.data):
        if not Path(folder).is_dir():
            click.echo(f"# warning: {key}: {folder}: no such folder (paths are relative to the job file)")
    click.echo(dump_job(resolved), nl=False)


@main.command()
@click.argument("job")
@job_options
@click.option("--gpus", type=click.IntRange(min=1), help="plan for so many cards, instead of the profile's")
@click.option("--price", type=click.FloatRange(min=0), help="of the machine, an hour: tells the cost")
@click.option("--probe", is_flag=True, help="try it on this machine, a few minutes, and write a machine profile")
@click.option(
    "--memory-gb", type=click.FloatRange(min=0, min_open=True), help="with --probe: take no more than so much"
)
@click.option("--json", "as_json", is_flag=True, help="print every figure as JSON")
@exits
def plan(
    job: str,
    machine: str | None,
    overrides: tuple[str, ...],
    gpus: int | None,
    price: float | None,
    probe: bool,
    memory_gb: float | None,
    as_json: bool,
) -> None:
    """Say what JOB will take: memory by part and whether it fits, disk, steps, hours and cost; needs no GPU."""
    import json

    from whisper_train.planning import report
    from whisper_train.planning.command import make_plan, probe_case, read_case

    if memory_gb is not None and not probe:
        raise UserError("plan: --memory-gb: is what a probe may take; use it with --probe")
    environment = read_environment()
    case = read_case(job, machine, overrides, environment, gpus=gpus)
    made = make_plan(case, price)
    if probe:
        made = probe_case(case, made, memory_gb, environment, lambda line: click.echo(line, err=as_json))
    click.echo(json.dumps(report.as_json(made), indent=2) if as_json else report.as_text(made))


@main.command()
@click.argument("job")
@job_options
@exits
def hear(job: str, machine: str | None, overrides: tuple[str, ...]) -> None:
    """Write training clips of JOB before and after augmentation, with a page to listen to them; needs no model."""
    from whisper_train.hear import hear as write_examples
    from whisper_train.housekeeping.in_use import cache_in_use
    from whisper_train.job_file import display
    from whisper_train.runner import resolve

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    directories = find_directories(environment)
    with cache_in_use(directories.cache):
        page = write_examples(resolved, directories, click.echo)
    click.echo(f"listen: {display(page)}")


@main.command()
@click.argument("job")
@job_options
@click.option("--yes", is_flag=True, help="upload; without it nothing leaves this machine")
@click.option("--force", is_flag=True, help="also a model that is not promoted; its card says so")
@click.option("--export", "form", metavar="FORM", help="a converted model instead: onnx-int8, ctranslate2-int8 …")
@exits
def publish(
    job: str, machine: str | None, overrides: tuple[str, ...], yes: bool, force: bool, form: str | None
) -> None:
    """Show what of JOB's result, or of a converted form of it, would go to the hub, or with --yes upload it."""
    from whisper_train.publish import publish as publish_run
    from whisper_train.run_folder import run_folder
    from whisper_train.runner import resolve

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    directories = find_directories(environment)
    folder = run_folder(resolved, directories)
    if form is not None:
        from whisper_train.publish_export import publish_export

        publish_export(resolved, folder, form, directories, yes=yes, force=force, say=click.echo)
        return
    publish_run(resolved, folder, yes=yes, force=force, say=click.echo)


@main.command()
@exits
def ps() -> None:
    """List the runs under MODEL_DIR, and what runs now."""
    from whisper_train.running import list_runs

    click.echo(list_runs(read_environment()))


@main.command()
@click.argument("job")
@exits
def logs(job: str) -> int:
    """Print what JOB says, until it ends."""
    from whisper_train.running import follow_log

    return follow_log(job, read_environment())


@main.command()
@click.argument("job")
@exits
def stop(job: str) -> int:
    """Ask JOB to save and stop, and wait until it has."""
    from whisper_train.running import stop_run

    return stop_run(job, read_environment())


@main.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@exits
def schema(path: Path | None) -> None:
    """Write the JSON schema of job files to PATH, or print it; editors complete and check with it."""
    from whisper_train.paths import make_directory, write_text
    from whisper_train.schema import job_schema

    if path is None:
        click.echo(job_schema(), nl=False)
    elif path.is_dir():
        raise UserError(f"schema: {path}: is a folder; name a file")
    else:
        make_directory(path.absolute().parent, named_by="schema")
        write_text(path, job_schema())


main.add_command(benchmark_model)
main.add_command(clean_cache)
main.add_command(convert)
main.add_command(evaluate)
main.add_command(leaderboard)
main.add_command(make_travel)
main.add_command(normalize)
main.add_command(order)
main.add_command(qat)
main.add_command(score)
main.add_command(transcribe)
main.add_command(vast)
