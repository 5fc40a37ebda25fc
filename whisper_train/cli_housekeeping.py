"""The command that makes room on the disk."""

import click

from whisper_train.exits import exits
from whisper_train.paths import read_environment


@click.command("clean-cache")
@click.option("--all", "everything", is_flag=True, help="also what comes back at a price: downloads, last checkpoints")
@click.option("--yes", is_flag=True, help="remove what is listed without asking")
@exits
def clean_cache(everything: bool, yes: bool) -> None:
    """Show what of caches, leftovers and old checkpoints can go, with sizes, and remove it when asked and agreed to.

    Models, reports, results, logs, exports and your own data are never touched.
    """
    from whisper_train.housekeeping.clean import clean_cache as clean

    clean(read_environment(), everything=everything, yes=yes, ask=click.confirm, say=click.echo)
