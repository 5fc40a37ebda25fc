"""Real recordings to verify a conversion with: from the sets that the job of a model is evaluated on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_train.errors import UserError
from whisper_train.export.clips import Opened, choose_sets
from whisper_train.export.sounds import Clip, features_of, make_clips
from whisper_train.export.source import Source
from whisper_train.paths import Directories
from whisper_train.plan import load_resolved

CLIPS = 12  # of all sets together: every one is written four times


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a conversion is verified on; texts are compared under `normalizer`."""

    clips: list[Clip]
    normalizer: str
    language: str | None  # of clips that do not tell their own


def recordings_for(
    source: Source,
    files: Sequence[Path],
    at_most: int,
    language: str | None,
    directories: Directories,
    say: Callable[[str], None],
) -> Heard:
    """`files` where there are any, else clips of the sets of the model's job, else sounds that are made."""
    extractor = source.processor.feature_extractor
    given = None if files else clips_of_job(source, at_most, directories, say)
    return given or Heard(clips=make_clips(extractor, files), normalizer="whisper-basic", language=language)


def clips_of_job(source: Source, at_most: int, directories: Directories, say: Callable[[str], None]) -> Heard | None:
    """Up to `at_most` clips that fit the model's window, spread over all sets; None for a model without a job."""
    folder = source.folder
    if folder is None or not (folder / "job.yaml").is_file():
        return None
    job, extractor = load_resolved(folder / "job.yaml"), source.processor.feature_extractor
    seconds = extractor.n_samples / extractor.sampling_rate
    try:
        sets = choose_sets(
            job,
            list(job.data.eval),
            -(-at_most // len(job.data.eval)),
            trained=folder / "data",
            own=folder / "evaluation" / "data",
            cache=directories.cache,
            window_seconds=seconds,
            say=say,
        )
    except UserError as error:
        raise UserError(f"{error}; or name recordings to verify the conversion with (--audio)") from error
    opened = Opened(sets, directories.cache, seconds)
    clips = []
    for one in sets:
        for position in one.positions:
            item = opened.read(one.name, position)
            name = f"{one.name}: {item['line']['clip']}"
            features = features_of(extractor, item["waveform"])
            clips.append(Clip(name=name, features=features, language=item["language"], text=item["line"]["reference"]))
    return Heard(clips=clips[:at_most], normalizer=job.evaluation.normalizer, language=job.language) if clips else None
