"""What a job's training data comes to: windows, steps and label lengths, as far as anything here tells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Source, parse_split
from whisper_train.labels import PROMPT_AND_END
from whisper_train.paths import Directories
from whisper_train.planning.bases import Dimensions


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How much there is to train on; None where nothing tells."""

    clips: int | None
    windows: int | None  # what an epoch shows
    hours: float | None  # of audio in it
    steps: int | None  # of the whole training
    seconds: float  # of the longest window
    tokens: int  # of the longest label, less the one that nothing follows
    why: str  # where this is from, or what to do about what is missing


def count_data(job: Job, directories: Directories, dimensions: Dimensions, global_batch: int) -> Amount:
    """The amount of `job`: from its run folder's audit where there is one, else from the sources themselves."""
    from whisper_train.data.prepare import index_path
    from whisper_train.run_folder import run_folder

    data = run_folder(job, directories).data
    path = index_path(data, "train")
    if path.is_file() and (data / "audit.json").is_file():
        return audited(job, path, directories.cache, dimensions, global_batch)
    clips, problem = count_sources(job, directories.cache)
    windows = shown(job, clips)
    if job.data.windows and windows is not None:
        problem, windows = f"{clips:,} clips; the audit tells how many windows they make", None
    fixed = job.training.get("max_steps")
    return Amount(
        clips=clips,
        windows=windows,
        hours=None,
        steps=fixed or (None if windows is None else steps_of(job, windows, global_batch)),
        seconds=window_of(job, dimensions)
        if job.data.windows
        else min(window_of(job, dimensions), job.data.max_seconds),
        tokens=dimensions.tokens - 1,
        why=problem or "clips as the sources list them, before the audit; labels taken as long as they can be",
    )


def window_of(job: Job, dimensions: Dimensions) -> float:
    """Seconds that the encoder sees at once while it is trained."""
    return job.data.window_seconds or dimensions.window_seconds


def audited(job: Job, path: Path, cache: Path, dimensions: Dimensions, global_batch: int) -> Amount:
    """The amount from the index of an audit: real lengths, and windows as training will join them."""
    from whisper_train.augment.settings import longest_stretch
    from whisper_train.data.index import Index
    from whisper_train.data.order import ClipOrder
    from whisper_train.data.weights import epoch_weights

    index = Index(path, cache)
    order = ClipOrder(
        index,
        epoch_weights(job.data, index),
        global_batch,
        job.training.get("seed", 42),
        windows=job.data.windows,
        window_seconds=window_of(job, dimensions),
        max_tokens=dimensions.tokens,
    )
    starts, clips = order.grouping.starts[:-1], order.grouping.clips
    known = index.column("seconds").astype(float)
    seconds = np.add.reduceat(np.nan_to_num(known[clips]), starts)
    joined, window = job.data.windows, window_of(job, dimensions)
    full = bool(joined) or bool(np.isnan(known).any())  # a clip of unknown length may be as long
    longest = dimensions.tokens if joined and joined.prompts else longest_label(index.column("tokens")[clips], starts)
    return Amount(
        clips=len(index),
        windows=order.windows,
        hours=float(seconds.mean()) * order.windows / 3600,
        steps=job.training.get("max_steps") or steps_of(job, order.windows, global_batch),
        seconds=window if full else min(float(seconds.max()) * longest_stretch(job.data), window),
        tokens=max(2, min(longest, dimensions.tokens) - 1),
        why="the audit in the run folder",
    )


def longest_label(tokens: np.ndarray, starts: np.ndarray) -> int:
    """The longest label of windows without a prompt, where each clip has two time stamps, and one is cut."""
    sizes = np.diff(np.append(starts, len(tokens)))
    alone = np.add.reduceat(tokens, starts) - (sizes - 1) * PROMPT_AND_END
    return int(np.where(sizes > 1, alone + 2 * sizes + 1, alone).max())


def steps_of(job: Job, windows: int, global_batch: int) -> int:
    return int(np.ceil(job.training.get("num_train_epochs", 1.0) * -(-windows // global_batch)))


def shown(job: Job, clips: int | None) -> int | None:
    """Clips of an epoch with its replay; `clips` are those to learn, as often as their weights say."""
    if clips is None:
        return None
    return round(clips / (1 - job.data.replay.share)) if job.data.replay else clips


def count_sources(job: Job, cache: Path) -> tuple[int | None, str | None]:
    """Clips that an epoch shows of data.train by the sources' own lists, or None and why that is not known."""
    total = 0.0
    for position, source in enumerate(job.data.train):
        try:
            clips = count_clips(source, position, job.language, cache)
        except UserError as error:
            return None, f"{error}"
        if clips is None:
            return None, f"{source.label}: was not read yet; the first run audits it, and a plan then knows all"
        total += clips * source.weight
    return round(total), None


def count_clips(source: Source, position: int, language: str, cache: Path) -> int | None:
    """The clips of a source, without reading audio; None for one on the hub, which is not asked."""
    from whisper_train.data.parquet import count_rows, find_local_files
    from whisper_train.data.sources import bounds, read_clips

    if source.hub:
        return None
    if source.synthetic or source.parquet:
        name, start, stop = parse_split(source.split) if source.split else (None, None, None)
        made = source.synthetic.clips if source.synthetic else None
        total = count_rows(find_local_files(source, name), source) if made is None else made
        first, last = bounds(start, stop, lambda: total, source.label)
        return max(0, min(total, total if last is None else last) - first)
    return sum(1 for _ in read_clips(source, position, language, cache))


def earlier_rate(job: Job, facts: Mapping[str, Any]) -> float | None:
    """Steps an hour of the run that left `facts` (run.json), on the same profile and with the same batch; or None.

    Its evaluations during training count, since the training that is planned has them too.
    """
    seconds, steps = facts.get("timings", {}).get("training"), facts.get("steps")
    sessions = facts.get("sessions") or [{}]
    same = all(session.get("machine", {}).get("name") == job.machine.name for session in sessions)
    return steps / seconds * 3600 if seconds and steps and same else None
