"""`whisper-train hear`: training clips before and after augmentation, as files and as a page to listen to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import nan
from pathlib import Path

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.augmenter import Applied, Augmenter, augmenter_for
from whisper_train.augment.settings import check_noise, has_effect, training_settings
from whisper_train.data.bounds import folders_of, is_within
from whisper_train.data.index import Index, shorten, write_index
from whisper_train.data.prepare import find_audited, set_fingerprint
from whisper_train.data.read import AudioReader
from whisper_train.data.sources import read_source
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.paths import Directories, make_directory, write_text, written_whole
from whisper_train.printable import UNPRINTABLE
from whisper_train.report.render import render
from whisper_train.run_folder import run_folder
from whisper_train.tasks import check_of_speech

EXAMPLES = 20
READ_AT_MOST = 100  # clips of each source, where no audit has listed them yet
WORDS: Mapping[str, str] = {  # how a drawn value is told
    "factor": "{:.2f} times as fast",
    "semitones": "{:+.1f} semitones",
    "reverberation_seconds": "{:.2f} s of echo",
    "distance_meters": "{:.1f} m away",
    "voices": "{:.0f} voices",
    "snr_db": "speech {:+.1f} dB over it",
    "decibels": "{:+.1f} dB",
    "kilobits": "{:.0f} kbit/s",
    "share": "{:.1%} lost",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One clip on the page; `before` and `after` are the names of its files."""

    name: str
    source: str
    text: str
    language: str
    seconds: float
    applied: list[str]
    before: str
    after: str


def hear(job: Job, directories: Directories, say: Callable[[str], None]) -> Path:
    """Writes examples of what training on `job` hears in its first epoch to the job's log folder; returns the page.

    Raises UserError when the job changes no audio, or none of its clips can be read.
    """
    check_of_speech(job, "hear")
    settings = training_settings(job.data)
    if not any(map(has_effect, settings)):
        raise UserError(f"{job.name}: data.augment: is missing: training hears the clips as they are; name an effect")
    check_noise(job.data)
    folder = make_directory(directories.logs / job.name / "hear", named_by="LOG_DIR")
    index = find_clips(job, directories, folder, say)
    columns = [source.audio_column for source in job.data.training_sources]
    augmenter = augmenter_for(settings, index, columns, job.training.get("seed", 42))
    assert augmenter
    changed = [number for number, one in enumerate(settings) if has_effect(one)]
    examples: list[Example] = []
    for position in spread(index.column("source"), changed):
        if len(examples) == EXAMPLES:
            break
        try:
            examples.append(make_example(job, index, position, augmenter, AudioReader(columns), folder, len(examples)))
        except ValueError as error:
            say(f"{index[position]['id']}: {error}; left out")
    if not examples:
        raise UserError(f"{job.name}: data.train: none of its clips can be read; look at the source and its columns")
    page = folder / "index.html"
    write_text(page, render("hear.html", job=job.name, examples=examples))
    return page


def find_clips(job: Job, directories: Directories, folder: Path, say: Callable[[str], None]) -> Index:
    """The training clips as the audit of the job's run left them; before it, the first ones of each source."""
    wanted = {"train": set_fingerprint(job, job.data.training_sources)}
    audited = find_audited(wanted, run_folder(job, directories).data, job, directories.cache)
    if audited:
        return Index(audited["train"].index, directories.cache)
    say(f"no audit of these data yet: taken are the first {READ_AT_MOST} clips of each source")
    path = folder / "clips.arrow"
    rows = (
        {**asdict(clip), "audio": shorten(clip.audio, directories.cache), "seconds": nan, "audio_hash": 0}
        for number, source in enumerate(job.data.training_sources)
        for clip in islice(read_source(source, number, language=job.language, cache=directories.cache), READ_AT_MOST)
        if is_within(clip, folders_of(source)) and not UNPRINTABLE.search(clip.audio + clip.text)
    )
    with written_whole(path) as temporary:
        write_index(temporary, rows)
    return Index(path, directories.cache)


def spread(sources: np.ndarray, wanted: Sequence[int]) -> list[int]:
    """Positions of clips (of which `sources` says the source), evenly over each of the `wanted` sources, in turns."""
    columns = []
    for source in wanted:
        members = np.flatnonzero(sources == source)
        steps = np.linspace(0, len(members) - 1, min(len(members), 2 * EXAMPLES)).round().astype(int)
        even = members[steps]
        columns.append([int(one) for one in (*even[::2], *even[1::2])])  # the second half stands in for unreadable ones
    longest = max(map(len, columns), default=0)
    return [column[turn] for turn in range(longest) for column in columns if turn < len(column)]


def make_example(
    job: Job, index: Index, position: int, augmenter: Augmenter, reader: AudioReader, folder: Path, number: int
) -> Example:
    """Writes one clip as it is and as training hears it; raises ValueError for one that training would drop."""
    row, longest = index[position], job.data.max_seconds
    before = reader.read(row["audio"], row["row_group"], row["row"], row["source"], longest + 1)
    if len(before) > longest * SAMPLE_RATE:
        raise ValueError(f"over {longest:g} s")
    after, applied = augmenter.apply(before, row["source"], position, max_seconds=longest)
    names = [f"{number + 1:02}-{when}.flac" for when in ("before", "after")]
    for name, waveform in zip(names, (before, after), strict=True):
        write_flac(folder / name, waveform)
    return Example(
        name=row["id"],
        source=job.data.training_sources[row["source"]].label,
        text=row["text"],
        language=row["language"],
        seconds=len(before) / SAMPLE_RATE,
        applied=[describe(one) for one in applied],
        before=names[0],
        after=names[1],
    )


def write_flac(path: Path, waveform: Waveform) -> None:
    import soundfile

    with written_whole(path) as temporary:
        soundfile.write(temporary, waveform, SAMPLE_RATE, format="FLAC")


def describe(applied: Applied) -> str:
    """One effect with what was drawn for it: room: 0.47 s of echo, 0.8 m away."""
    values = [WORDS.get(name, "{}").format(value) for name, value in applied.values.items()]
    return f"{applied.effect}: {', '.join(values)}"
