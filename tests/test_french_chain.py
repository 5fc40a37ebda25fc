"""The French jobs as a chain: what a stage learns, what it is measured on, and what it must not lose."""

import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.french import STAGES, write_miniature
from tests.tiny import call, environment
from whisper_train.chains.load import load_chain
from whisper_train.chains.measure import all_sets
from whisper_train.job import Job
from whisper_train.job_augment import Augment
from whisper_train.job_data import Source, parse_split
from whisper_train.paths import read_json

OTHER_LANGUAGES = {"english": "en_us", "german": "de_de", "spanish": "es_419", "italian": "it_it"}


@pytest.fixture(scope="module")
def chain() -> list[Job]:
    environment = {"CONFIG_DIR": str(REPOSITORY / "jobs")}
    return load_chain("french-accents", machine_path=None, overrides=(), environment=environment)


def own_sets(chain: list[Job], stage: int) -> set[str]:
    """The sets that a stage adds to those of the one before it."""
    before = chain[stage - 1].data.eval.keys() if stage else set()
    return {name for name in chain[stage].data.eval if name not in before}


def share(source: Source) -> tuple[int, int]:
    """Which part of its split a source takes, in percent; numbers of clips count as all of it."""
    _, first, last = parse_split(str(source.split))
    bounds = [bound if bound and bound.endswith("%") else None for bound in (first, last)]
    return int((bounds[0] or "0%")[:-1]), int((bounds[1] or "100%")[:-1])


def overlap(one: Source, other: Source) -> bool:
    """Whether two sources may hold the same clips."""
    place = [
        (source.kind, getattr(source, source.kind), source.config, parse_split(str(source.split))[0])
        for source in (one, other)
    ]
    (first, last), (other_first, other_last) = share(one), share(other)
    return place[0] == place[1] and first < other_last and other_first < last


def test_each_stage_starts_from_the_one_before_it(chain: list[Job]) -> None:
    assert tuple(job.name for job in chain) == STAGES
    assert [job.base for job in chain] == ["openai/whisper-large-v3", *(f"job:{name}" for name in STAGES[:-1])]


def test_all_can_stand_in_one_table(chain: list[Job]) -> None:
    assert {*OTHER_LANGUAGES, "read", "meetings", "telephone", "accents"} <= all_sets(chain).keys()


def test_a_stage_is_measured_on_its_own_condition_first(chain: list[Job]) -> None:
    assert [next(iter(job.data.eval)) for job in chain] == ["held-out", "meetings", "telephone", "accents"]
    for stage, job in enumerate(chain):
        assert next(iter(job.data.eval)) in own_sets(chain, stage)
        assert job.gates.significant


def test_no_stage_may_lose_four_languages_of_fleurs_or_what_came_before(chain: list[Job]) -> None:
    for stage, job in enumerate(chain):
        assert job.gates.retention
        guarded = set(job.gates.retention.sets or [])
        for name, config in OTHER_LANGUAGES.items():
            (source,) = job.data.eval[name]
            assert (source.hub, source.config, source.split) == ("google/fleurs", config, "test")
        inherited = job.data.eval.keys() - own_sets(chain, stage)
        assert OTHER_LANGUAGES.keys() | inherited <= guarded | {"calls"}, "calls has too few clips to be judged by"


def test_nothing_that_is_measured_on_is_trained_on(chain: list[Job]) -> None:
    learned = [source for job in chain for source in (*job.data.train, *replayed(job))]
    measured = [source for sources in all_sets(chain).values() for source in sources]
    assert [(one.label, other.label) for one in learned for other in measured if overlap(one, other)] == []


def test_what_was_learned_before_is_replayed_and_other_languages_clean(chain: list[Job]) -> None:
    for stage, job in enumerate(chain):
        learned = {source.label for earlier in chain[:stage] for source in earlier.data.train}
        assert job.data.replay
        assert job.data.replay.earlier or learned <= {source.label for source in replayed(job)}
        others = [source for source in replayed(job) if source.hub == "google/fleurs"]
        assert {source.language for source in others} == {"en", "de", "es", "it"}
        assert {source.augment for source in others} == {Augment()}


def replayed(job: Job) -> list[Source]:
    return job.data.replay.sources if job.data.replay else []


def test_every_condition_has_its_effects(chain: list[Job]) -> None:
    effects = [set((job.data.augment or Augment()).model_dump(exclude_none=True)) for job in chain]
    assert effects[0] == set()
    assert effects[1] == {"room", "noise"}
    assert {"noise", "telephone", "codec", "dropouts"} <= effects[2]
    assert {"noise", "telephone"} <= effects[3]


def test_all_are_taught_and_judged_on_long_recordings(chain: list[Job]) -> None:
    for job in chain:
        assert job.data.windows
        assert job.evaluation.long_form
        assert job.evaluation.long_form.set == "read", "the same recordings for every stage, to be compared"
        assert job.gates.long_form


@pytest.mark.slow
def test_the_jobs_run_on_a_miniature_of_their_data(place: Path) -> None:
    """Every source is found with its columns, every effect, part and measure is taken, and a table comes out."""
    variables = environment(place / "runs", **write_miniature(place / "small"))
    last = str(place / "small" / "french-accents.yaml")

    output = call([sys.executable, "-m", "whisper_train", "chain", last, "--machine", "cpu"], variables, expect=0)

    for stage in STAGES:
        run = read_json(place / "runs" / "models" / stage / "run.json")
        assert run["status"] == "done"
        assert run["averaging"]["chosen"] in (0.5, 1.0)
    assert output.count("long recordings of read") == len(STAGES)
