"""Measures what batches gain: the evaluation's own transcription against a loop that takes one clip at a time.

    python -m benchmarks.evaluation JOB [--model FOLDER] [--sets NAME …] [--clips 240] [--rounds 5] [--threads 2]

JOB has been evaluated before: its clips are those of its sets as they were audited, its model is its own or that of
--model. BASE_DIR and the like say where both are, as they do for `whisper-train eval`. Nothing is written.

Both ways take the same clips through the same functions with the same decoding, in one process after another: each
round runs one and then the other, so that what else the machine does falls on both. Reading the audio counts. The
loop takes the clips in the order of the set, without padding and without a loading process, as a loop of few lines
does; texts are compared clip by clip.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whisper_train.data.index import Index
from whisper_train.data.prepare import index_path
from whisper_train.errors import UserError
from whisper_train.evaluation.passages import Clips, choose_clips
from whisper_train.evaluation.transcribe import Decoding, make_decoding, transcribe, transcribe_batch
from whisper_train.job import Job
from whisper_train.machine import plan_layout
from whisper_train.model import load_model, load_processor
from whisper_train.paths import Directories, find_directories, read_environment
from whisper_train.run_folder import RunFolder, run_folder
from whisper_train.run_log import quiet_libraries
from whisper_train.runner import resolve

Texts = dict[tuple[int, int], str]  # number of the set and of the clip -> what was heard
WARM_UP_CLIPS = 8


def open_clips(job: Job, folder: RunFolder, names: list[str], at_most: int, directories: Directories) -> list[Clips]:
    """Up to `at_most` clips of each set, as the job's training or evaluation audited them."""
    sets = []
    for name in names:
        places = [index_path(place, f"eval.{name}") for place in (folder.data, folder.evaluation / "data")]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise UserError(f"{job.name}: {name}: has not been evaluated yet (whisper-train eval {job.name})")
        index = Index(path, directories.cache)
        columns = [source.audio_column for source in job.data.eval[name]]
        sets.append(Clips(index, columns, choose_clips(index, at_most)))
    return sets


def in_batches(model: Any, processor: Any, sets: Iterable[Clips], decoding: Decoding) -> Texts:
    return {
        (number, line["position"]): line["hypothesis"]
        for number, clips in enumerate(sets)
        for lines in transcribe(model, processor, clips, decoding)
        for line in lines
    }


@torch.inference_mode()
def one_at_a_time(model: Any, processor: Any, sets: Iterable[Clips], decoding: Decoding) -> Texts:
    texts = {}
    for number, clips in enumerate(sets):
        for position, key in enumerate(clips.keys):
            texts[number, key] = transcribe_batch(model, processor, [clips[position]], decoding)[0]
    return texts


def timed(way: Callable[..., Texts], *arguments: Any) -> tuple[float, Texts]:
    """Clips per second, and the texts."""
    started = time.perf_counter()
    texts = way(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return len(texts) / (time.perf_counter() - started), texts


def measure(model: Any, processor: Any, sets: list[Clips], decoding: Decoding, rounds: int) -> None:
    few = [Clips(clips.index, clips.reader.audio_columns, clips.keys[:WARM_UP_CLIPS]) for clips in sets]
    for way in (in_batches, one_at_a_time):
        way(model, processor, few, decoding)
    speeds = []
    for number in range(1, rounds + 1):
        batched, heard = timed(in_batches, model, processor, sets, decoding)
        single, heard_singly = timed(one_at_a_time, model, processor, sets, decoding)
        other = sum(heard[key] != heard_singly[key] for key in heard_singly)
        speeds.append((batched, single, batched / single))
        print(
            f"round {number}: in batches {batched:.1f} clips/s, one at a time {single:.1f} clips/s,"
            f" {batched / single:.2f} times as fast; other words: {other} of {len(heard_singly)} clips",
            flush=True,
        )
    batched, single, ratio = np.median(speeds, axis=0)
    ratios = [ratio for _, _, ratio in speeds]
    print(f"median: in batches {batched:.1f} clips/s, one at a time {single:.1f} clips/s")
    print(f"{ratio:.2f} times as fast (rounds: {min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Batched transcription against one clip at a time.")
    parser.add_argument("job")
    parser.add_argument("--model", type=Path, help="folder of another model than the job's own")
    parser.add_argument("--machine")
    parser.add_argument("--sets", nargs="+", help="default: all of the job")
    parser.add_argument("--clips", type=int, default=240, help="of each set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    environment = read_environment()
    job, _ = resolve(given.job, given.machine, (), environment)
    directories = find_directories(environment)
    folder = run_folder(job, directories)
    sets = open_clips(job, folder, given.sets or list(job.data.eval), given.clips, directories)
    quiet_libraries(None)
    threads = given.threads or plan_layout(job, gpus=0).threads
    torch.set_num_threads(threads)
    place = str(given.model or folder.path)
    device = "cuda" if torch.cuda.is_available() and job.machine.device != "cpu" else "cpu"
    model, processor = load_model(place).to(device).eval(), load_processor(place)
    decoding = make_decoding(job, workers=job.machine.dataloader_num_workers)
    clips, hours = sum(map(len, sets)), sum(sum(each.seconds) for each in sets) / 3600
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{place}: {parameters:.1f} M parameters on {device}, {threads} thread(s), torch {torch.__version__}")
    print(f"{clips:,} clips, {hours:.2f} h; batches of {decoding.batch_size}, {decoding.workers} loading process(es)")
    measure(model, processor, sets, decoding, given.rounds)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
