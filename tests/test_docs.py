"""The documentation names everything there is, and nothing that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from whisper_train.cli import main
from whisper_train.flat import FLAT_KEYS
from whisper_train.job import Job
from whisper_train.job_errors import inner_model
from whisper_train.training_keys import OWNED, RENAMED
from whisper_train.training_settings import DEFAULTS, OWN_KEYS

REPOSITORY = Path(__file__).parent.parent
GUIDE = REPOSITORY / "docs" / "training.md"
PAGES = sorted(page for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")] if page.is_file())
JOBS = {path.stem for path in (REPOSITORY / "jobs").glob("*.yaml")}


@pytest.fixture(scope="module")
def guide() -> str:
    return GUIDE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def documentation() -> str:
    """Every page of docs/: what is not about training has a page of its own."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name == "docs")


def commands_below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """`command` and every command of its group, with what one types for it."""
    yield name, command
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from commands_below(f"{name} {word}", inner)


def models_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """`model` and every model in its fields."""
    yield model
    for field in model.model_fields.values():
        inner: Any = inner_model(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from models_below(inner)


def named(word: str, text: str) -> bool:
    """Whether `word` stands in `text` as a whole key: in backquotes, alone or after a dot."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", " ".join(code_of(text))) is not None


def code_of(text: str) -> list[str]:
    return re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of `page` may say after #, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("model", list(dict.fromkeys(models_below(Job))))
def test_every_key_of_a_job_is_in_the_guide(model: type[BaseModel], guide: str) -> None:
    assert [key for key in model.model_fields if not named(key, guide)] == []


def test_every_default_of_training_is_in_the_guide(guide: str) -> None:
    section = guide.partition("\n### Training keys\n")[2].partition("\n### ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    for key in DEFAULTS.keys() | OWN_KEYS.keys():
        assert key in table, f"{key}: no row in the guide"
    for key, default in DEFAULTS.items():
        if isinstance(default, bool | str) and key != "save_strategy":
            assert table[key].strip() == str(default).lower(), key
        elif isinstance(default, int | float) and key != "save_steps":
            assert float(table[key]) == default, key


def test_every_key_of_the_program_itself_is_in_the_guide_with_its_advice(guide: str) -> None:
    assert [key for key, advice in OWNED.items() if f"| `{key}` | {advice} |" not in guide] == []
    assert [key for key in RENAMED if not named(key, guide)] == []


def test_every_flat_key_is_in_the_guide(guide: str) -> None:
    assert [key for key in FLAT_KEYS if not named(key, guide)] == []


def test_every_command_and_flag_is_documented(documentation: str) -> None:
    commands = dict(commands_below("whisper-train", main))
    assert [name for name in commands if not named(name, documentation)] == []
    flags = [
        flag
        for command in commands.values()
        for parameter in command.get_params(click.Context(command))
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    ]
    assert [flag for flag in flags if not named(flag, documentation)] == []


def test_every_setting_of_env_is_documented(documentation: str) -> None:
    settings = re.findall(r"^(\w+)=", (REPOSITORY / ".env.template").read_text(encoding="utf-8"), re.MULTILINE)
    assert settings
    assert [setting for setting in settings if not named(setting, documentation)] == []


def test_every_machine_profile_is_in_the_guide(guide: str) -> None:
    profiles = [path.stem for path in (REPOSITORY / "jobs" / "machines").glob("*.yaml")]
    assert [profile for profile in profiles if not named(profile, guide)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), f"{page.name}: {target}: no such file"
        assert not anchor or anchor in anchors(place), f"{page.name}: {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_make_targets_exist(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    used = {
        target
        for code in code_of(page.read_text(encoding="utf-8"))
        for target in re.findall(r"(?:^|[\s`])make ([a-z][a-z-]*)", code)
    }
    assert used - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_jobs_exist(page: Path) -> None:
    """Every job that a command names; `my-…` and `<…>` stand for the reader's own."""
    text = page.read_text(encoding="utf-8")
    used = set(re.findall(r"EXP=([A-Za-z0-9][\w.-]*)", text))
    used |= set(re.findall(r"jobs/([\w.-]+)\.yaml", text))
    used |= set(re.findall(r"job:([A-Za-z0-9][\w.-]*)", text))
    assert {job for job in used if not job.startswith("my-")} - JOBS == set()


def test_jobs_are_all_in_the_guide(guide: str) -> None:
    assert [job for job in JOBS if not named(job, guide)] == []


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_job_begins_with_a_line_that_says_what_it_is(job: str) -> None:
    first = (REPOSITORY / "jobs" / f"{job}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# \S.{10,}", first), "make jobs shows this line"
