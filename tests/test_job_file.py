"""How a job comes together: what it extends, the environment, --set, the machine profile; and what messages name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, RunCli
from whisper_train.chains.load import load_whole
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import parse_split
from whisper_train.job_file import dump_job, load_job, merge, substitute

JOBS = sorted((REPOSITORY / "jobs").glob("*.yaml"))
PROFILES = sorted((REPOSITORY / "jobs" / "machines").glob("*.yaml"))
WHOLE = """
language: german
base: openai/whisper-tiny
data:
  train: [{manifest: data/train.csv}]
  eval: {main: [{manifest: ../eval.csv}]}
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path, *overrides: str, machine: Path | None = None, **environment: str) -> Job:
    return load_job(path, machine_path=machine, overrides=overrides, environment=environment)


def problem(path: Path, *overrides: str, machine: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load(path, *overrides, machine=machine)
    return str(caught.value)


# Messages name the file that holds the mistake.


def test_a_mistake_is_named_by_the_file_it_stands_in(place: Path) -> None:
    write(place / "low.yaml", WHOLE + "gates: {wer: 5}\n")
    write(place / "high.yaml", "extends: low\ntraining: {learning_rate: fast}\n")

    text = problem(place / "high.yaml", "model.dropout=7")

    assert text.splitlines() == [
        "high.yaml: training.learning_rate: 'fast': must be a number",
        "--set model.dropout=7: model.dropout: 7: input should be less than or equal to 1",
        "low.yaml: gates.wer: 5: give a fraction between 0 and 1; 5 % is 0.05",
    ]


def test_a_key_of_an_earlier_version_is_told_its_new_place(place: Path) -> None:
    said = problem(
        write(place / "job.yaml", WHOLE),
        "model.freeze_encoder=true",
        "gates.long_form.minutes=3",
        "gates.long_form.seconds=90",
    )
    assert "model.freeze_encoder: has moved; write freeze: [encoder]" in said
    assert "gates.long_form.minutes: has moved; write it into evaluation.long_form" in said
    assert "gates.long_form.seconds: has moved; write it into evaluation.long_form" in said


def test_a_mistake_is_named_by_the_strongest_file_that_holds_it(place: Path) -> None:
    write(place / "low.yaml", WHOLE + "gates: {wer: 0.05}\n")
    write(place / "high.yaml", "extends: low\ngates: {wer: 5}\n")

    assert problem(place / "high.yaml").startswith("high.yaml: gates.wer")


def test_a_mistake_in_the_machine_profile_is_named_by_it(place: Path) -> None:
    write(place / "job.yaml", WHOLE)
    profile = write(place / "machines" / "mine.yaml", "precision: fp8\n")

    assert problem(place / "job.yaml", machine=profile).startswith("machines/mine.yaml: machine.precision: 'fp8'")


def test_contradictions_are_found_across_files(place: Path) -> None:
    write(place / "low.yaml", WHOLE + "training: {fp16: true}\n")
    write(place / "high.yaml", "extends: low\ntraining: {bf16: true}\n")

    assert "training.fp16: bf16 and fp16 are both on" in problem(place / "high.yaml")


# extends and merging.


def test_extends_builds_on_another_job(place: Path) -> None:
    write(place / "a.yaml", WHOLE + "training: {learning_rate: 1e-4, seed: 1}\ngates: {wer: 0.1}\n")
    write(place / "b.yaml", "extends: a.yaml\ntraining: {seed: 2}\n")
    write(place / "sub" / "c.yaml", "extends: ../b.yaml\nname: third\ngates: null\n")

    job = load(place / "sub" / "c.yaml")

    assert (job.name, job.language, job.gates.wer) == ("third", "de", None)
    assert (job.training["learning_rate"], job.training["seed"]) == (1e-4, 2)


def test_the_name_is_the_files_own_unless_it_gives_one(place: Path) -> None:
    write(place / "a.yaml", WHOLE + "name: first\n")
    write(place / "b.yaml", "extends: a\n")

    assert load(place / "a.yaml").name == "first"
    assert load(place / "b.yaml").name == "b"


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({}, {"a": None}, {"a": None}),
    ],
)
def test_mappings_merge_lists_replace_null_removes(below: Any, above: Any, merged: Any) -> None:
    assert merge(below, above) == merged


def test_the_sets_of_the_upper_job_come_first(place: Path) -> None:
    """The first set picks the best model, so the job's own must stand before those it inherits."""
    write(place / "a.yaml", WHOLE.replace("main:", "old:"))
    write(place / "b.yaml", "extends: a\ndata: {eval: {new: [{manifest: n.csv}]}}\n")

    assert list(load(place / "b.yaml").data.eval) == ["new", "old"]


def test_relative_paths_are_relative_to_the_file_they_stand_in(place: Path) -> None:
    write(place / "low" / "a.yaml", WHOLE.replace("openai/whisper-tiny", "./tiny"))
    write(place / "high" / "b.yaml", "extends: ../low/a.yaml\ndata: {eval: {own: [{folder: clips}]}}\n")

    job = load(place / "high" / "b.yaml", 'data.eval.third=[{"parquet": "x/*.parquet"}]')

    assert job.data.train[0].manifest == str(place / "low" / "data" / "train.csv")
    assert job.data.eval["main"][0].manifest == str(place / "eval.csv")
    assert job.data.eval["own"][0].folder == str(place / "high" / "clips")
    assert job.data.eval["third"][0].parquet == str(place / "x" / "*.parquet")
    assert job.base == str(place / "low" / "tiny")


def test_a_hub_id_stays_what_it_is_unless_such_a_folder_is_there(place: Path) -> None:
    path = write(place / "job.yaml", WHOLE.replace("manifest: data/train.csv", "hub: me/speech"))
    assert load(path).data.train[0].hub == "me/speech"

    (place / "me" / "speech").mkdir(parents=True)

    assert load(path).data.train[0].hub == str(place / "me" / "speech")


# The environment.


def test_the_environment_fills_in_where_a_file_asks(place: Path) -> None:
    path = write(place / "job.yaml", WHOLE.replace("data/train.csv", "'${CORPUS}/${PART:-train}.csv'"))

    assert load(path, CORPUS="/data").data.train[0].manifest == "/data/train.csv"
    assert load(path, CORPUS="/data", PART="all").data.train[0].manifest == "/data/all.csv"


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "API_KEY", "apikey", "AWS_CREDENTIALS"])
def test_secrets_are_not_filled_in(name: str) -> None:
    with pytest.raises(UserError, match="looks like a secret") as caught:
        substitute({"hub": f"x-${{{name}:-}}"}, {name: "sesame"}, "job.yaml")
    assert "sesame" not in str(caught.value)


def test_an_empty_variable_counts_as_unset() -> None:
    assert substitute("${A:-b}", {"A": ""}, "job.yaml") == "b"
    with pytest.raises(UserError, match=r"\$\{A\} is not set"):
        substitute({"x": ["${A}"]}, {"A": ""}, "job.yaml")


# --set, defaults and numbers.


def test_set_lies_over_everything(place: Path) -> None:
    write(place / "a.yaml", WHOLE + "training: {seed: 1}\nmachine: {threads: 2}\n")
    profile = write(place / "mine.yaml", "threads: 1\nprecision: bf16\n")

    job = load(place / "a.yaml", "training.seed=3", "name=other", "gates.wer=0.5", machine=profile)

    assert (job.training["seed"], job.name, job.machine.threads, job.machine.precision) == (3, "other", 2, "bf16")
    assert job.machine.name == "mine"
    assert job.gates.wer == 0.5


@pytest.mark.parametrize("name", ["de", "German", "deutsch"])
def test_a_language_may_be_called_by_its_own_name(place: Path, name: str) -> None:
    assert load(write(place / "a.yaml", WHOLE.replace("german", name))).language == "de"


@pytest.mark.parametrize("number", ["1e-5", "1.0e-5", "0.00001", "'1e-5'", "1E-5"])
def test_numbers_are_read_as_people_write_them(place: Path, number: str) -> None:
    """YAML 1.1 reads 1e-5 as text, which would reach the optimizer as such."""
    path = write(place / "job.yaml", WHOLE + f"training: {{learning_rate: {number}}}\n")

    assert load(path).training["learning_rate"] == 1e-5
    assert load(path, f"training.learning_rate={number}").training["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("{}", {"global_batch_size": 32, "num_train_epochs": 1.0, "metric_for_best_model": "wer"}),
        ("{max_steps: 10}", {"max_steps": 10, "num_train_epochs": None}),
        ("{per_device_train_batch_size: 4}", {"global_batch_size": None}),
        ("{eval_steps: 50}", {"eval_steps": 50, "save_steps": 50}),
        ("{eval_strategy: no}", {"eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "steps"}),
        ("{eval_strategy: epoch}", {"eval_strategy": "epoch", "save_strategy": "epoch"}),
        ("{predict_with_generate: false}", {"metric_for_best_model": "loss"}),
    ],
)
def test_defaults_give_way_to_what_a_job_says(place: Path, training: str, expected: dict[str, Any]) -> None:
    job = load(write(place / "job.yaml", WHOLE + f"training: {training}\n"))

    assert {key: job.training.get(key) for key in expected} == expected


def test_defaults_give_way_to_overrides_too(place: Path) -> None:
    job = load(write(place / "job.yaml", WHOLE), "training.max_steps=5", "training.eval_steps=5")

    assert "num_train_epochs" not in job.training
    assert job.training["save_steps"] == 5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train", ("train", None, None)),
        ("train[:95%]", ("train", None, "95%")),
        ("[10:20]", (None, "10", "20")),
        ("a.b-c[-5:]", ("a.b-c", "-5", None)),
    ],
)
def test_splits(text: str, parts: tuple[str | None, ...]) -> None:
    assert parse_split(text) == parts


@pytest.mark.parametrize("text", ["", "train[", "train[5]", "a b", "train[:x]", "train[1:2:3]", "[5%%:]"])
def test_bad_splits(text: str) -> None:
    with pytest.raises(ValueError, match="write a split as"):
        parse_split(text)


# The resolved job, and the jobs that are shipped.


def test_the_resolved_job_loads_again_to_the_same(place: Path) -> None:
    write(place / "a.yaml", WHOLE + "training: {fp16: true, report_to: none}\ngates: {wer: 0.05}\n")
    job = load(place / "a.yaml", "model.lora.rank=8")

    again = load(write(place / "again.yaml", dump_job(job)))

    assert again == job
    assert Job.model_validate(yaml.safe_load(dump_job(job))) == job


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_shipped_job_passes_on_every_machine(
    job: Path, profile: Path, place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COMMON_VOICE", "COMMON_VOICE_DIR"):
        monkeypatch.setenv(name, "/data/cv")

    result = run_cli("check", job, "--machine", profile.stem)

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"# machine profile {profile.stem}\n# global batch ")
    resolved = write(place / "resolved.yaml", result.output)
    environment = {"COMMON_VOICE": "/data/cv"}
    assert load(resolved) == load_whole(str(job), machine_path=profile, overrides=(), environment=environment)


def test_there_are_jobs_and_profiles() -> None:
    assert {"demo", "demo-base"} <= {path.stem for path in JOBS}
    assert {"cpu", "2x16gb", "h200"} <= {path.stem for path in PROFILES}


def test_a_list_of_eval_sources_is_one_set(place: Path) -> None:
    write(place / "a.yaml", WHOLE)
    write(place / "b.yaml", "extends: a\ndata: {eval: [{manifest: own.csv}]}\n")

    assert list(load(place / "b.yaml").data.eval) == ["eval"]
