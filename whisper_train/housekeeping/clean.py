"""`whisper-train clean-cache`: shows what can go, asks, removes it, and says how much was freed."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from whisper_train.errors import UserError
from whisper_train.exits import unwinding_on_sigterm
from whisper_train.housekeeping.caches import find_in_cache, find_uses
from whisper_train.housekeeping.in_use import cache_to_oneself
from whisper_train.housekeeping.items import ALWAYS, ON_REQUEST, Group, Item
from whisper_train.housekeeping.runs import find_in_runs, holder_of
from whisper_train.job_file import display
from whisper_train.paths import Directories, as_size, find_directories
from whisper_train.run_folder import LAUNCHER_LOCK, RANKS_LOCK, locked

Say = Callable[[str], None]


def clean_cache(
    environment: Mapping[str, str], *, everything: bool, yes: bool, ask: Callable[[str], bool], say: Say
) -> None:
    """Removes what `ask` agrees to, group by group, or all that is shown where `yes`.

    Without `yes` and without a terminal it only shows. `everything` adds what comes back at a price.
    """
    directories = find_directories(environment)
    if not directories.cache.is_dir() and not directories.models.is_dir():
        raise UserError(f"CACHE_DIR: {directories.cache}: no such folder; check CACHE_DIR or BASE_DIR in .env")
    wanted = (*ALWAYS, *ON_REQUEST) if everything else ALWAYS
    found = find_items(directories, environment)
    for line in describe(found, wanted, directories):
        say(line)
    offered = [one for one in found if one.group in wanted]
    if not offered:
        say("nothing to remove")
    elif yes:
        remove_items(offered, directories, environment, say)
    elif not sys.stdin.isatty():
        say("nothing was removed: there is no terminal to ask at; --yes (YES=1) removes what is listed above")
    else:
        groups = [group for group in wanted if any(one.group == group for one in offered)]
        agreed = [group for group in groups if ask(question(group, offered))]
        remove_items([one for one in offered if one.group in agreed], directories, environment, say)


def question(group: Group, items: Sequence[Item]) -> str:
    sizes = [one.bytes for one in items if one.group == group]
    return f"{group}: remove {len(sizes)}, {as_size(sum(sizes))}?"


def find_items(directories: Directories, environment: Mapping[str, str]) -> list[Item]:
    uses = find_uses(directories, environment)
    return [*find_in_cache(directories, environment, uses), *find_in_runs(directories)]


def describe(items: Sequence[Item], wanted: Sequence[Group], directories: Directories) -> list[str]:
    """What can go, largest first within its group; what goes with --all only as a sum; and what is left alone."""
    lines = []
    for group in (*ALWAYS, *ON_REQUEST):
        members = sorted((one for one in items if one.group == group), key=lambda one: -one.bytes)
        if not members:
            continue
        total = as_size(sum(one.bytes for one in members))
        if group not in wanted:
            lines.append(f"{group}: {len(members)}, {total}; --all offers {'them' if len(members) > 1 else 'it'} too")
            continue
        lines.append(f"{group}: {total}")
        lines += [f"  {as_size(one.bytes):>10}  {display(one.path)}  ({one.what})" for one in members]
    if running := list_running(directories):
        lines.append(f"running, and left alone with all that is in the cache: {'; '.join(running)}")
    places = dict.fromkeys(place for place in (directories.cache, directories.models) if place.is_dir())
    lines += [f"free on the disk of {display(place)}: {as_size(shutil.disk_usage(place).free)}" for place in places]
    return lines


def list_running(directories: Directories) -> list[str]:
    folders = [path for path in sorted(directories.models.glob("*")) if path.is_dir()]
    return [f"{folder.name} ({holder})" for folder in folders if (holder := holder_of(folder, directories))]


def remove_items(agreed: Sequence[Item], directories: Directories, environment: Mapping[str, str], say: Say) -> None:
    """Removes what was agreed to and can still go: it is looked for again under the locks."""
    freed = 0
    with unwinding_on_sigterm(), ExitStack() as stack:
        alone = directories.cache.is_dir() and stack.enter_context(cache_to_oneself(directories.cache))
        still = {(one.group, one.path, one.what): one for one in find_items(directories, environment)}
        kept = 0
        for one in agreed:
            now = still.get((one.group, one.path, one.what))
            if now is None or (now.run is None and not alone):
                kept += 1
                continue
            if remove_item(now, say):
                freed += now.bytes
            else:
                kept += 1
    if kept:
        say(f"left alone: {kept}, in use now, or changed since they were listed; the same command looks again")
    say(f"freed {as_size(freed)}")


def remove_item(one: Item, say: Say) -> bool:
    """Removes `one`, under the locks of its run where it lies in one; returns whether it did."""
    try:
        with ExitStack() as stack:
            if one.run is not None:
                for name in (LAUNCHER_LOCK, RANKS_LOCK):
                    stack.enter_context(locked(one.run / name))
            one.remove()
    except UserError:  # a job has just begun there
        return False
    except OSError as error:
        say(f"{display(one.path)}: cannot be removed ({error.strerror}); its owner is {owner_of(one.path)}")
        return False
    return True


def owner_of(path: Path) -> str:
    try:
        return path.owner()
    except (OSError, KeyError):
        return f"user {path.stat().st_uid}" if path.exists() else f"not user {os.getuid()}"
