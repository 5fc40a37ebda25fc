"""The commands that measure models: transcribe and score, score again, compare runs, and what is compared."""

import sys
from pathlib import Path

import click

from whisper_train.errors import UserError
from whisper_train.exits import exits
from whisper_train.options import job_options, leave_to_itself
from whisper_train.paths import find_directories, read_environment


@click.command("eval")
@click.argument("job")
@job_options
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="folder or hub id instead of the job's; repeatable"
)
@click.option("--baseline", metavar="MODEL", help="what to compare with instead of the job's base")
@click.option("--sets", multiple=True, metavar="NAME", help="these sets of data.eval only; repeatable")
@click.option("--max-samples", type=click.IntRange(min=1), help="so many clips of each set, spread evenly")
@click.option("--detach", is_flag=True, help="run in the background; a closed terminal does not end it")
@exits
def evaluate(
    job: str,
    machine: str | None,
    overrides: tuple[str, ...],
    models: tuple[str, ...],
    baseline: str | None,
    sets: tuple[str, ...],
    max_samples: int | None,
    detach: bool,
) -> int:
    """Transcribe the eval sets of JOB with its model and its base, score, compare and judge; run again to go on."""
    from whisper_train.evaluate_job import evaluate_named
    from whisper_train.runner import resolve

    environment = read_environment()
    resolved, _ = resolve(job, machine, overrides, environment)
    if detach:
        return leave_to_itself(resolved, environment)
    return evaluate_named(resolved, models, baseline, sets, max_samples, environment)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--normalizer", metavar="NAME", help="instead of the job's; of a file: this one only")
@click.option("--json", "as_json", is_flag=True, help="print every figure as JSON")
@exits
def score(paths: tuple[Path, ...], normalizer: str | None, as_json: bool) -> int:
    """Compute all figures again from saved transcriptions: run folders, or JSON lines files; no model is needed."""
    from whisper_train.evaluation.normalize import make_normalizer
    from whisper_train.rescore import score as score_again

    if normalizer is not None:
        make_normalizer(normalizer)  # an unknown name is refused before anything is read
    cache = find_directories(read_environment()).cache
    return score_again(paths, normalizer, as_json, cache, click.echo)


@click.command()
@exits
def leaderboard() -> None:
    """Put every evaluated run under MODEL_DIR beside those it may be compared with, on a page and as a table."""
    from whisper_train.report.leaderboard import collect, make_table, write_leaderboard

    models = find_directories(read_environment()).models
    if not models.is_dir():
        raise UserError(f"MODEL_DIR: {models}: no such folder; train or evaluate a job first")
    board = collect(models)
    if not board.rows and not board.skipped:
        raise UserError(f"MODEL_DIR: {models}: holds no evaluated run; train or evaluate a job first")
    page = write_leaderboard(models)
    click.echo(f"{make_table(board)}\n\npage: {page}")  # at once: `| head` may read the beginning alone


@click.command()
@click.argument("text", nargs=-1)
@click.option("--with", "names", multiple=True, metavar="NAME", help="one of these normalizers only; repeatable")
@click.option("--explain", "with_steps", is_flag=True, help="each step that changes something")
@exits
def normalize(text: tuple[str, ...], names: tuple[str, ...], with_steps: bool) -> None:
    """Print each TEXT, or each line of standard input, as it is compared for a WER."""
    from whisper_train.evaluation.show_normalized import read_lines, show_normalized

    for line in show_normalized(text or read_lines(sys.stdin.buffer), names, with_steps):
        click.echo(line)
