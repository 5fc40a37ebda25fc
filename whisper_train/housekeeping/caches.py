"""What of CACHE_DIR can go: speech, what the hub gave, what was compiled. Only what this program knows."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_train.housekeeping.items import Group, Item, is_left_over, item
from whisper_train.paths import Directories, find_config_dir, size_of

COMPILED = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR")  # read by torch and DeepSpeed
QUIET_SECONDS = 600.0  # a download that was not written to for so long has ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """What jobs and runs name: the text of their files, and the audio in the indexes of runs, relative to CACHE_DIR."""

    text: str
    audio: frozenset[str]

    def name(self, repository: str) -> bool:
        """Whether some job names the hub's `repository`; a longer name that begins with it is another."""
        return re.search(rf"(?<![\w./-]){re.escape(repository)}(?![\w-]|\.\w)", self.text) is not None

    def read(self, path: Path, cache: Path) -> bool:
        """Whether a run's index names audio below `path`."""
        start = f"{path.relative_to(cache)}/"
        return any(audio.startswith(start) for audio in self.audio)


def find_uses(directories: Directories, environment: Mapping[str, str]) -> Uses:
    from whisper_train.data.index import cached_audio

    files = [*find_config_dir(environment).rglob("*.yaml"), *directories.cache.glob("vast-jobs/*.yaml")]
    files += [*directories.models.glob("*/job.yaml"), *directories.models.glob("*/run.json")]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file()]
    indexes = [path for path in directories.models.glob("**/data/*.arrow") if not is_left_over(path)]
    audio = [cached_audio(path) for path in indexes]
    return Uses(text="\n".join([*texts, *environment.values()]), audio=frozenset[str]().union(*audio))


def find_in_cache(directories: Directories, environment: Mapping[str, str], uses: Uses) -> Iterator[Item]:
    """Everything in CACHE_DIR that can go."""
    cache = directories.cache
    yield from find_synthetic(cache, uses)
    home = Path(environment.get("HF_HOME") or cache / "huggingface").expanduser().absolute()
    hub = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser().absolute()
    if hub.is_dir() and hub.is_relative_to(cache):  # elsewhere other programs use it too
        yield from find_downloads(hub)
        yield from find_repositories(hub, cache, uses)
    chunks = Path(environment.get("HF_XET_CACHE") or home / "xet").expanduser().absolute()
    if chunks.is_dir() and chunks.is_relative_to(cache):
        yield item(Group.UNUSED, chunks, "pieces of downloads, kept beside the files")
    for folder in sorted((cache / "datasets").glob("*")):
        used = uses.read(folder, cache) or uses.name(folder.name.replace("___", "/"))
        yield item(Group.AGAIN if used else Group.UNUSED, folder, "what datasets keeps of the hub")
    for name in COMPILED:
        folder = Path(environment.get(name) or "/").expanduser().absolute()
        if folder.is_dir() and folder.is_relative_to(cache) and folder != cache:
            yield item(Group.AGAIN, folder, f"compiled code ({name})")


def find_synthetic(cache: Path, uses: Uses) -> Iterator[Item]:
    for folder in sorted((cache / "synthetic").glob("*")):
        if is_left_over(folder):
            yield item(Group.LEFT_OVER, folder, "half-made speech")
        elif (folder / "manifest.jsonl").is_file():
            group = Group.AGAIN if uses.read(folder, cache) else Group.UNUSED
            yield item(group, folder, "synthetic speech")


def find_downloads(hub: Path) -> Iterator[Item]:
    """Downloads, and removals, that ended in the middle."""
    for path in sorted([*hub.glob(".*.incomplete"), *hub.parent.glob(".*.incomplete")]):
        yield item(Group.LEFT_OVER, path, "half-removed")
    for path in sorted(hub.glob("*/blobs/*.incomplete")):
        if time.time() - path.stat().st_mtime > QUIET_SECONDS:
            yield item(Group.LEFT_OVER, path, "half a download")


def find_repositories(hub: Path, cache: Path, uses: Uses) -> Iterator[Item]:
    """Models and data sets, whole, and their revisions that nothing points to any more."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir(hub)
    for repository in sorted(found.repos, key=lambda one: str(one.repo_path)):
        path, what = repository.repo_path, f"{repository.repo_type} {repository.repo_id}"
        read = uses.read(path, cache)
        if not (read or uses.name(repository.repo_id)):
            yield item(Group.UNUSED, path, what)
            continue
        old = [] if read else [one for one in repository.revisions if not one.refs and one.commit_hash not in uses.text]
        if old and len(old) < len(repository.revisions):
            yield revisions(found, path, what, [one.commit_hash for one in old])
        else:
            yield item(Group.AGAIN, path, what)


def revisions(found: Any, path: Path, what: str, commits: list[str]) -> Item:
    """Single revisions of a repository: its client knows which files they share with the others."""
    strategy = found.delete_revisions(*commits)
    return Item(
        group=Group.UNUSED,
        path=path,
        what=f"{what}, {len(commits)} earlier revision{'s' if len(commits) > 1 else ''}",
        bytes=size_of([*strategy.blobs, *strategy.snapshots]),
        remove=strategy.execute,
    )
