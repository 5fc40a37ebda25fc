"""What one process transcribes of an evaluation: `python -m whisper_train.evaluation.worker PLAN SHARE`.

Each process takes its share of the batches and writes its own parts; they need nothing of each other.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whisper_train.errors import RunFailed
from whisper_train.evaluation.transcription import read_keys, write_part
from whisper_train.exits import exits
from whisper_train.paths import read_json, write_json

PROGRESS_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SetTask:
    """One set to transcribe: single clips, `joined` ones (seconds each, minutes in all), or probes (no index)."""

    name: str
    file: str  # the transcription to be
    header: dict[str, Any]
    index: str | None
    columns: list[str | None]
    augment: list[dict[str, Any] | None] | None = None  # what is done to each source's clips; None: nothing to any
    at_most: int | None = None
    joined: tuple[float, float] | None = None
    language: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTask:
    """One model and the sets that it has still to transcribe."""

    label: str
    place: str
    revision: str | None
    cache: str
    decoding: dict[str, Any]
    threads: int
    processes: int
    sets: list[SetTask]


def write_task(task: ModelTask, path: Path) -> None:
    write_json(path, asdict(task))


def read_task(path: Path) -> ModelTask:
    facts = read_json(path)
    return ModelTask(**{**facts, "sets": [SetTask(**one) for one in facts["sets"]]})


def transcribe_share(task: ModelTask, share: int, say: Callable[[str], None]) -> None:
    """Transcribes this process's share of every set of `task` into its parts."""
    import torch

    from whisper_train.evaluation.transcribe import Decoding, transcribe
    from whisper_train.model import load_processor
    from whisper_train.quantization.saved import load_as_measured

    torch.set_num_threads(task.threads)
    processor = load_processor(task.place, revision=task.revision)
    model = load_as_measured(task.place, revision=task.revision)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    for one in task.sets:
        file = Path(one.file)
        done = read_keys(file)
        passages = open_passages(one, task, processor)
        batches = transcribe(
            model, processor, passages, Decoding(**task.decoding), share=(share, task.processes), done=done
        )
        total = len(passages)
        told = telling(batches, total, f"{task.label}: {one.name}", task.processes, len(done), say)
        write_part(file, share, one.header, told)


def open_passages(one: SetTask, task: ModelTask, processor: Any) -> Any:
    """The passages of a set, the same in every process."""
    from whisper_train.audio import SAMPLE_RATE
    from whisper_train.augment.augmenter import augmenter_for
    from whisper_train.augment.settings import load_settings
    from whisper_train.data.index import Index
    from whisper_train.evaluation.passages import AUGMENT_SEED, Clips, JoinedClips, Probes, choose_clips

    window_seconds = processor.feature_extractor.n_samples / SAMPLE_RATE
    if one.index is None:
        return Probes(window_seconds, one.language)
    index = Index(Path(one.index), Path(task.cache))
    augmenter = augmenter_for(load_settings(one.augment), index, one.columns, AUGMENT_SEED)
    if one.joined:
        return JoinedClips(index, one.columns, *one.joined, augmenter)
    return Clips(index, one.columns, choose_clips(index, one.at_most), augmenter, window_seconds)


def telling(
    batches: Iterator[list[dict[str, Any]]],
    total: int,
    what: str,
    processes: int,
    done: int,
    say: Callable[[str], None],
) -> Iterator[list[dict[str, Any]]]:
    """Passes `batches` on and tells now and then how far this process is, as if the others were as far."""
    told = time.monotonic()
    count = done
    for lines in batches:
        if unreadable := [line["clip"] for line in lines if line.get("unreadable")]:
            raise RunFailed(
                f"{what}: {unreadable[0]}: cannot be read any more, though it could when the data were audited;"
                " when it is back, the same command goes on"
            )
        yield lines
        count += len(lines) * processes
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"{what}: {min(count, total):,} of {total:,} transcribed")


@exits
def main(plan: Path, share: int) -> None:
    from whisper_train.run_log import print_line, quiet_libraries

    quiet_libraries(None)
    transcribe_share(read_task(plan), share, print_line if share == 0 else lambda line: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
