"""Sources: every kind of data set, read as one stream of clips. Nothing is held in memory."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from whisper_train.data.clip import Clip
from whisper_train.data.parquet import count_rows, find_hub_files, find_local_files, read_parquet
from whisper_train.data.tables import find_common_voice, find_folder_table, read_sidecars, read_table
from whisper_train.errors import UserError
from whisper_train.job_data import Source, parse_split


def read_source(source: Source, position: int, *, language: str, cache: Path) -> Iterator[Clip]:
    """Yields the clips of `source`, number `position` of its set; raises UserError when it has none."""
    clips = read_clips(source, position, source.language or language, cache)
    first = next(clips, None)
    if first is None:
        raise UserError(f"{source.label}: holds no clip; check the source and its split")
    yield first
    yield from clips


def read_clips(source: Source, position: int, language: str, cache: Path) -> Iterator[Clip]:
    name, start, stop = parse_split(source.split) if source.split else (None, None, None)
    match source.kind:
        case "hub" | "parquet":
            files = find_hub_files(source, name, cache, language) if source.hub else find_local_files(source, name)
            first, last = bounds(start, stop, lambda: count_rows(files, source), source.label)
            yield from read_parquet(files, source, position, language, first, last)
        case "folder" if find_folder_table(source, name) is None:
            yield from sliced(lambda: read_sidecars(source, position, language), start, stop, source.label)
        case _:
            path, split = find_table(source, name, cache, language)
            yield from sliced(lambda: read_table(path, source, position, language, split), start, stop, source.label)


def find_table(source: Source, name: str | None, cache: Path, language: str) -> tuple[Path, str | None]:
    """The table of a source that has one, and the value its `split` column must have."""
    if source.synthetic:
        from whisper_train.data.synthetic import synthesize

        if name:
            raise UserError(f"{source.label}: split: {name}: synthetic speech has no splits; use synthetic.part")
        return synthesize(source.synthetic, cache, language), None
    if source.common_voice:
        return find_common_voice(source, name), None
    if source.folder:
        table = find_folder_table(source, name)
        assert table is not None, "a folder without a table is read by its sidecar files"
        return table, name
    return Path(str(source.manifest)), name


def sliced(read: Callable[[], Iterator[Clip]], start: str | None, stop: str | None, label: str) -> Iterator[Clip]:
    """What `read()` yields, cut to a slice; counts it first only when a bound is a percentage or negative."""
    if start is None and stop is None:
        yield from read()
        return
    first, last = bounds(start, stop, lambda: sum(1 for _ in read()), label)
    yield from islice(read(), first, last)


def bounds(start: str | None, stop: str | None, count: Callable[[], int], label: str) -> tuple[int, int | None]:
    """Clip numbers of a slice: from the first, up to but without the second (None: to the end)."""
    if start is None and stop is None:
        return 0, None
    relative = any(bound is not None and (bound.endswith("%") or bound.startswith("-")) for bound in (start, stop))
    total = count() if relative else 0

    def place(bound: str) -> int:
        number = round(int(bound[:-1]) * total / 100) if bound.endswith("%") else int(bound)
        return max(0, number + total) if number < 0 else number

    first, last = place(start or "0"), place(stop) if stop else None
    if last is not None and last <= first:
        raise UserError(f"{label}: split: [{start or ''}:{stop}] holds no clip of {total or 'this set'}; widen it")
    return first, last
