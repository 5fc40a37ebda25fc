"""The commands on travel orders: annotated sentences made, and the cities of an order found."""

import os
from pathlib import Path
from typing import Any

import click

from whisper_train.exits import exits
from whisper_train.options import language_option
from whisper_train.paths import find_directories, read_environment


@click.command("make-travel")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--sentences", type=click.IntRange(min=1), default=8_000, show_default=True)
@click.option("--part", type=click.Choice(("train", "test")), default="train", show_default=True)
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="of sentence; repeatable; default: all")
@click.option("--places", type=click.IntRange(min=4), help="so many of the part's cities; default: all")
@click.option("--invented", type=click.FloatRange(0, 1), default=0.0, help="share of the cities that exist nowhere")
@click.option("--seed", type=int, default=0, show_default=True)
@exits
def make_travel(path: Path, **asked: Any) -> None:
    """Write annotated travel sentences to PATH: .jsonl (character spans) or .conll, both of them sources of a job."""
    from pydantic import ValidationError

    from whisper_train.entities.files import format_of
    from whisper_train.entities.generate import make_travel as make
    from whisper_train.errors import UserError
    from whisper_train.job_entities import COMMON_KINDS, HARD_KINDS, Travel
    from whisper_train.paths import make_directory

    format_of(path)
    if unknown := [kind for kind in asked["kinds"] if kind not in (*COMMON_KINDS, *HARD_KINDS)]:
        raise UserError(
            f"make-travel: --kind: {unknown[0]}: is not known; there are {', '.join((*COMMON_KINDS, *HARD_KINDS))}"
        )
    try:
        recipe = Travel(**{**asked, "kinds": list(asked["kinds"]) or None})
    except ValidationError as error:
        raise UserError(f"make-travel: {error.errors()[0]['msg']}") from error
    make_directory(path.absolute().parent, named_by="make-travel")
    counts = make(recipe, path)
    for kind, number in counts.items():
        click.echo(f"{number:>7,}  {kind}")
    click.echo(f"{sum(counts.values()):>7,}  sentences of part {recipe.part} in {path}")


@click.command()
@click.argument("audio", nargs=-1, type=click.Path(path_type=Path))
@click.option("--text", "texts", multiple=True, metavar="SENTENCE", help="a written order; repeatable")
@click.option("--asr", metavar="MODEL", help="for AUDIO: a job, or a folder in any form that transcribe reads")
@click.option("--entities", required=True, metavar="MODEL", help="what finds the cities: a job, a folder or a hub id")
@click.option(
    "--format", "format_", type=click.Choice(("json", "text", "csv")), default="json", help="default: json, one a line"
)
@language_option("of the speech; else the model's own")
@exits
def order(
    audio: tuple[Path, ...],
    texts: tuple[str, ...],
    asr: str | None,
    entities: str,
    format_: str,
    language: str | None,
) -> None:
    """Find departure, arrival and stops of spoken travel orders in AUDIO, and of written ones (--text)."""
    directories = find_directories(read_environment())
    os.environ.setdefault("HF_HOME", str(directories.cache / "huggingface"))
    from whisper_train.entities.order import orders
    from whisper_train.housekeeping.in_use import cache_in_use
    from whisper_train.run_log import quiet_libraries

    quiet_libraries(None)
    with cache_in_use(directories.cache):
        orders(audio, texts, asr, entities, format_, language=language, directories=directories, say=click.echo)
