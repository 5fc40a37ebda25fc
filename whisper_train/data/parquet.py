"""Parquet shards with audio bytes inside: local, or a hub data set, downloaded or read over the network.

Rows are read by row group, so that one clip costs no more than its group, and no second copy lies on the disk.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from whisper_train.audio import Waveform, decode
from whisper_train.data.clip import AUDIO_COLUMNS, Clip, find_column, find_columns
from whisper_train.errors import UserError
from whisper_train.job_data import Source
from whisper_train.planning.room import Take, check_room
from whisper_train.run_log import print_line

CONVERTED = "refs/convert/parquet"  # the branch that the hub keeps Parquet copies on
GROUPS_IN_MEMORY = 12  # row groups a reading process keeps; the order of clips moves through fewer at a time


def open_parquet(path: str) -> Any:
    """A pyarrow ParquetFile for a local path or an hf:// address; reads only what is asked for."""
    import pyarrow.parquet as pq

    if "://" not in path:
        return pq.ParquetFile(path)
    import fsspec

    return pq.ParquetFile(fsspec.open(path, "rb", block_size=1 << 20).open())


def find_local_files(source: Source, split: str | None) -> list[str]:
    """The Parquet files a `parquet:` source names: a file, a glob, or a folder (of a split: <split>*.parquet)."""
    place = Path(str(source.parquet))
    pattern = f"{split}*.parquet" if split else "*.parquet"
    if place.is_dir():
        files = sorted(place.rglob(pattern))
    elif place.is_file():
        files = [place]
    else:
        try:
            files = sorted(place.parent.glob(place.name))
        except ValueError as error:
            raise UserError(f"{source.label}: is no pattern of file names ({error})") from error
    files = [path for path in files if path.is_file()]  # a pipe would be waited for
    if not files:
        raise UserError(f"{source.label}: no such Parquet file; check the source in the job")
    return [str(path) for path in files]


def open_hub(source: Source, language: str, cache: Path | None = None) -> Any:
    """The builder of a hub data set; a set with one configuration per language gets that of `language`.

    Raises UserError when the hub cannot be reached, or data set or configuration are not there.
    """
    import datasets

    name = str(source.hub)
    options: dict[str, Any] = {"revision": source.revision, "cache_dir": str(cache / "datasets") if cache else None}
    try:
        config = source.config
        if config is None and language in datasets.get_dataset_config_names(name, revision=source.revision):
            config = language
        try:
            return datasets.load_dataset_builder(name, config, **options)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # The hub converts such sets to Parquet, one folder per configuration (datasets#7693).
            options["revision"] = CONVERTED
            return datasets.load_dataset_builder(name, data_dir=config, **options)
    except Exception as error:  # datasets raises a dozen kinds, all of them about the name, the network or access
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"hub: {name}: cannot be found: {reason}; check the name, config and revision, the network, and HF_TOKEN if"
            " the data set is gated"
        ) from error


def find_revision(addresses: Sequence[str]) -> str | None:
    """The commit in the hf:// addresses of a hub data set; None for a local copy."""
    match = re.search(r"^hf://datasets/[^@]+@([0-9a-f]{40})/", next(iter(addresses), ""))
    return match[1] if match else None


def hub_revision(source: Source, language: str) -> str | None:
    """The commit of the data set that a hub source reads, or the revision it names."""
    files = open_hub(source, language).config.data_files or {}
    return find_revision([str(address) for split in files.values() for address in split]) or source.revision


def find_hub_files(source: Source, split: str | None, cache: Path, language: str) -> list[str]:
    """The Parquet files of one split of a hub data set: local paths, or hf:// addresses when streaming.

    Raises UserError when it has no such split or is not stored as Parquet.
    """
    import datasets

    where = f"hub: {source.hub}"
    splits = open_hub(source, language, cache).config.data_files or {}
    name = split or "train"
    if name not in splits:
        raise UserError(f"{where}: split: {name}: no such split; it has {', '.join(map(str, splits)) or 'none'}")
    addresses = [str(address) for address in splits[name]]
    if not all(address.endswith(".parquet") for address in addresses):
        raise UserError(f"{where}: is not stored as Parquet; download it and name its folder")
    if any(is_partial(address) for address in addresses):
        raise UserError(
            f"{where}: split: {name}: is not whole: the hub's own Parquet copy of it ends after about 5 GB; name a"
            " whole copy, or download this part and name its folder"
        )
    if source.streaming:
        return addresses
    takes = [Take(place=cache, bytes=bytes_to_fetch(addresses), what=f"{where} {name}")]
    way_out = "CACHE_DIR names another disk, and streaming: true of the source keeps nothing there"
    check_room(takes, print_line, key="CACHE_DIR", way_out=way_out)
    downloaded = datasets.DownloadManager(
        download_config=datasets.DownloadConfig(cache_dir=str(cache / "datasets" / "downloads"))
    ).download(addresses)
    return [str(path) for path in downloaded]


def bytes_to_fetch(addresses: Sequence[str]) -> int:
    """Bytes of those files of a hub data set that are not in the hub's cache, as far as the hub tells."""
    import fsspec
    from huggingface_hub import try_to_load_from_cache

    total = 0
    for address in addresses:
        place = re.match(r"hf://datasets/(?P<repo>[^@]+)@(?P<revision>[^/]+)/(?P<path>.+)", address)
        if place is None or isinstance(
            try_to_load_from_cache(place["repo"], place["path"], revision=place["revision"], repo_type="dataset"), str
        ):
            continue
        try:
            files, path = fsspec.core.url_to_fs(address)
            total += files.size(path) or 0
        except Exception:  # of the network or of access: the download itself tells better what is wrong
            continue
    return total


def is_partial(address: str) -> bool:
    """Whether the hub has converted only the beginning of the split: then it puts the files into partial-<split>/."""
    return re.search(r"^hf://.*/partial-[^/]+/", address) is not None


def open_shard(path: str, source: Source) -> Any:
    """The ParquetFile of one shard; raises UserError when it is none."""
    try:
        return open_parquet(path)
    except Exception as error:  # ArrowInvalid, OSError and fsspec's own: the shard is unusable either way
        raise unreadable(path, source, error) from error


def unreadable(path: str, source: Source, error: Exception) -> UserError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(f"{source.kind}: {path}: is not readable Parquet ({reason}); download it again")


def count_rows(files: Sequence[str], source: Source) -> int:
    return sum(open_shard(path, source).metadata.num_rows for path in files)


def read_parquet(
    files: Sequence[str], source: Source, position: int, language: str, first: int, last: int | None
) -> Iterator[Clip]:
    """Yields rows `first` up to `last`; reads the text columns only, never the audio."""
    number = 0
    for path in files:
        file = open_shard(path, source)
        names = file.schema_arrow.names
        where = f"{source.label} ({Path(path).name})"
        found = find_columns(names, source, where)
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if number + size <= first or (last is not None and number >= last):
                number += size
                continue
            try:
                rows = file.read_row_group(group, columns=found.described).to_pylist()
            except (ValueError, OSError) as error:  # what Arrow raises for damaged pages
                raise unreadable(path, source, error) from error
            for row in range(size):
                if number >= first and (last is None or number < last):
                    value = rows[row][found.text]
                    yield Clip(
                        id=f"{Path(path).name}#{group}.{row}",
                        audio=path,
                        text=value.strip() if isinstance(value, str) else "",
                        language=language,
                        row_group=group,
                        row=row,
                        source=position,
                        **found.describe(rows[row]),
                    )
                number += 1


class ParquetReader:
    """Reads single clips out of row groups; keeps the last few groups, since clips come group by group."""

    def __init__(self, audio_columns: Sequence[str | None]) -> None:
        self.audio_columns = audio_columns  # per source
        self.groups: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self.open = lru_cache(maxsize=32)(open_parquet)

    def read(self, path: str, row_group: int, row: int, source: int, max_seconds: float | None) -> Waveform:
        """The waveform of one row; raises ValueError when it cannot be decoded."""
        key = (path, row_group)
        if key not in self.groups:
            file = self.open(path)
            names = file.schema_arrow.names
            column = find_column(names, self.audio_columns[source], AUDIO_COLUMNS, what="audio_column", where=path)
            try:
                self.groups[key] = file.read_row_group(row_group, columns=[column]).column(0)
            except OSError as error:
                if "://" in path:
                    raise  # the network's fault, not the clip's
                raise ValueError(f"row group {row_group} is damaged ({error})") from error
            if len(self.groups) > GROUPS_IN_MEMORY:
                self.groups.popitem(last=False)
        self.groups.move_to_end(key)
        cell = self.groups[key][row].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise ValueError("holds no audio bytes")
        return decode(content, max_seconds)
