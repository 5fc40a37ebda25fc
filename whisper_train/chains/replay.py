"""What a job replays of the jobs that it builds on: `data.replay.earlier` turned into sources."""

from collections.abc import Iterator, Sequence

from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_augment import Augment
from whisper_train.job_data import Replay, Source


def with_earlier(job: Job, bases: Sequence[Job]) -> Job:
    """`job` with the training data of `bases` among the sources that it replays.

    The nearest of `bases` is the last of them, and the first whose data is taken. A source that the job or a nearer
    base names already comes once. The result says `earlier: false`, so it is the same job wherever it is loaded.
    Raises UserError when there is nothing to replay.
    """
    replay = job.data.replay
    assert replay is not None
    sources = list(replay.sources)
    for base in reversed(bases):
        if base.task != job.task:
            raise UserError(
                f"{job.name}: data.replay.earlier: true: {base.name} has the task {base.task}, this job {job.task}, and"
                " one model learns one of them; write earlier: false and name what to replay in data.replay.sources"
            )
        known = [like(source, job.language) for source in sources]
        sources += [source for source in as_trained(base, job.language) if like(source, job.language) not in known]
    if not sources:
        raise UserError(
            f"{job.name}: data.replay.earlier: true: the jobs before have no training data; write earlier: false and"
            " name what to replay in data.replay.sources, or leave replay out"
        )
    resolved = Replay(share=replay.share, earlier=False, sources=sources)
    return job.model_copy(update={"data": job.data.model_copy(update={"replay": resolved})})


def as_trained(base: Job, language: str) -> Iterator[Source]:
    """The training sources of `base`, each with the augmentation and the language that it had there."""
    for source in base.data.train:
        augment = source.augment if source.augment is not None else base.data.augment
        spoken = source.language or (base.language if base.language != language else None)
        yield source.model_copy(update={"augment": augment or Augment(), "language": spoken})


def like(source: Source, language: str) -> Source:
    """`source` of a job in `language` as it is compared with others: how often it is shown makes no other of it."""
    return source.model_copy(update={"weight": 1.0, "language": source.language or language})
