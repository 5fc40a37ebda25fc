"""The scripts around containers, without an engine: settings, folders, cards, names of images, and the Makefile."""

import subprocess
from typing import Any

import pytest

from tests.host import NOBODY, Host, as_root, host
from whisper_train.paths import read_environment

__all__ = ["host"]  # a fixture


# Settings: bash and whisper-train must read the same .env alike, or a job would write to one place and look in another.


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("KEY=value", "value"),
        ("KEY=value\r\nOTHER=x\r\n", "value"),
        ("\ufeffKEY=value\n", "value"),
        ("export KEY=value", "value"),
        ("  KEY = value  ", "value"),
        ("KEY= value", "value"),
        ("KEY=a value with spaces", "a value with spaces"),
        ('KEY="a value"', "a value"),
        ("KEY='a value'", "a value"),
        ('KEY="  kept  "', "  kept  "),
        ("KEY=value # comment", "value"),
        ("KEY=a#b", "a#b"),
        ("KEY=#b", "#b"),
        ("KEY= # comment", None),
        ('KEY="a # b" # comment', "a # b"),
        ('KEY="a"# comment', "a"),
        ("# KEY=value", None),
        ("KEY=", None),
        ('KEY=""', None),
        ("KEY", None),
        ('KEY="no end', None),
        ("KEY=first\nKEY=second", "second"),
        ("KEY=first\nKEY=", None),
        ("KEY=a=b", "a=b"),
        ("KEY=$HOME", "$HOME"),
        ("PLACE=/data\nKEY=${PLACE}/models", "/data/models"),
        ("KEY=${NOWHERE}/models", "/models"),
        ("KEY=${NOWHERE:-/data}/models", "/data/models"),
        ("KEY=${SET_IN_SHELL}/x/${SET_IN_SHELL}", "shell/x/shell"),
        ("SET_IN_SHELL=file\nKEY=${SET_IN_SHELL}", "shell"),
        ("KEY=`touch stolen` $(touch stolen)", "`touch stolen` $(touch stolen)"),
    ],
)
def test_a_line_of_env_means_the_same_to_bash_and_to_whisper_train(
    host: Host, monkeypatch: pytest.MonkeyPatch, lines: str, expected: str | None
) -> None:
    (host.checkout / ".env").write_bytes(lines.encode())
    monkeypatch.setenv("SET_IN_SHELL", "shell")
    monkeypatch.chdir(host.checkout)

    in_bash = host.source("read_env; printf '%s' \"${KEY-nothing}\"", SET_IN_SHELL="shell")

    assert in_bash.stdout == read_environment().get("KEY", "nothing") == (expected or "nothing"), in_bash.stderr
    assert not (host.checkout / "stolen").exists()


@pytest.mark.parametrize("value", ["shell", ""])
def test_what_the_shell_says_wins_over_env_even_when_it_says_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (host.checkout / ".env").write_text("KEY=file\nKEY=again\n")
    monkeypatch.setenv("KEY", value)
    monkeypatch.chdir(host.checkout)

    assert host.source("read_env; printf '%s' \"$KEY\"", KEY=value).stdout == value == read_environment()["KEY"]


@as_root
def test_env_that_this_user_may_not_read_is_told(host: Host) -> None:
    host.has("setpriv")
    (host.checkout / ".env").write_text("HF_TOKEN=x\n")
    (host.checkout / ".env").chmod(0o600)

    done = host.run("setpriv", f"--reuid={NOBODY}", "bash", "-c", ". docker/host.sh; read_env")

    assert done.returncode == 2
    assert "error: .env: cannot be read by nobody; give it to this user" in done.stderr


# The three folders.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "{checkout}/cache {checkout}/models {checkout}/logs"),
        ({"BASE_DIR": "runs"}, "{checkout}/runs/cache {checkout}/runs/models {checkout}/runs/logs"),
        ({"BASE_DIR": "./runs"}, "{checkout}/runs/cache {checkout}/runs/models {checkout}/runs/logs"),
        ({"BASE_DIR": "~"}, "{home}/cache {home}/models {home}/logs"),
        ({"BASE_DIR": "~/runs", "LOG_DIR": "logs"}, "{home}/runs/cache {home}/runs/models {checkout}/logs"),
        ({"BASE_DIR": "{home}", "MODEL_DIR": "{home}/my models"}, "{home}/cache {home}/my models {home}/logs"),
    ],
)
def test_the_folders_are_absolute_by_default_under_base_dir_and_created(
    host: Host, settings: dict[str, str], expected: str
) -> None:
    places = {"checkout": host.checkout, "home": host.home}
    variables = {key: value.format(**places) for key, value in settings.items()}

    done = host.source('find_settings; make_directories; printf %s "$CACHE_DIR $MODEL_DIR $LOG_DIR"', **variables)

    assert done.stdout == expected.format(**places), done.stderr
    assert host.source('find_settings; [ -d "$CACHE_DIR" ] && [ -d "$MODEL_DIR" ]', **variables).returncode == 0


def test_a_folder_that_cannot_be_made_names_its_setting(host: Host) -> None:
    (host.checkout / "file").write_text("")

    done = host.source("find_settings; make_directories", MODEL_DIR="file/models")

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: MODEL_DIR: {host.checkout}/file/models: cannot be created; name another")


@as_root
def test_a_folder_of_another_user_is_refused_with_the_command_that_helps(host: Host) -> None:
    host.has("setpriv")
    (host.home / "models").mkdir()
    host.home.chmod(0o777)
    command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

    made = host.run(*command, "bash", "-c", ". docker/host.sh; find_settings; make_directories", BASE_DIR="~")
    doctor = host.run(*command, "bash", "docker/doctor.sh", BASE_DIR="~")

    models = host.home / "models"
    assert made.returncode == doctor.returncode == 2
    assert f"error: MODEL_DIR: {models}: cannot be written to by nobody" in made.stderr
    assert f"(sudo chown -R {NOBODY}:{NOBODY} {models})" in made.stderr
    assert f"WRONG  MODEL_DIR    {models} cannot be written to by nobody" in doctor.stdout


@as_root
def test_a_full_disk_is_refused(host: Host) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(host.home)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is forbidden here")
    try:
        made = host.source("find_settings; make_directories", CACHE_DIR="~/cache")
        doctor = host.doctor(CACHE_DIR="~/cache")
    finally:
        subprocess.run(["umount", host.home], check=True)

    assert made.returncode == doctor.returncode == 2
    assert f"error: CACHE_DIR: {host.home}/cache: the disk is full (4 MiB free); make room" in made.stderr
    assert f"WRONG  CACHE_DIR    {host.home}/cache: the disk is full" in doctor.stdout


# Cards.


@pytest.mark.parametrize("wanted", ["", "all", "0", "1", "0,1", "0, 1"])
def test_cards_that_are_there_are_accepted(host: Host, wanted: str) -> None:
    host.has_cards("NVIDIA A100, 81559, 8.0", "NVIDIA A100, 81559, 8.0")

    assert host.source("check_gpus", GPUS=wanted).returncode == 0


def test_cards_that_are_not_there_are_refused(host: Host) -> None:
    without = host.source("check_gpus", GPUS="0")
    host.has_cards("NVIDIA A100, 81559, 8.0", "NVIDIA A100, 81559, 8.0")
    other = host.source("check_gpus", GPUS="0,2")

    assert without.returncode == other.returncode == 2
    assert "error: GPUS: 0: this machine shows no NVIDIA GPU; see make doctor" in without.stderr
    assert "error: GPUS: 2: this machine has no such card; there are: 0 1" in other.stderr


def test_no_card_is_needed_when_none_is_asked_for(host: Host) -> None:
    assert host.source("check_gpus").returncode == 0


# Images.


@pytest.fixture
def repository(host: Host) -> Host:
    """The host's copy of the checkout as a repository with one commit."""
    host.has("git")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        done = host.run("git", "-c", "user.name=x", "-c", "user.email=x@localhost", *command)
        assert done.returncode == 0, done.stderr
    return host


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        ("push trian", {"REGISTRY": "r"}, "error: IMAGE: trian: no such image; there are eval, train, qat"),
        ("tidy", {}, "error: images.sh: tidy: no such command; there are build, push, pull, name"),
        ("", {}, "there are build, push, pull, name"),
        ("build", {}, "error: docker: not found; install Docker Engine, or run without containers: RUN=local"),
    ],
)
def test_a_wrong_image_command_says_what_there_is(
    repository: Host, command: str, variables: dict[str, str], message: str
) -> None:
    done = repository.run("bash", "docker/images.sh", *command.split(), **variables)

    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("command", ["push", "pull"])
def test_images_need_a_registry_to_go_to(repository: Host, command: str) -> None:
    repository.has_engine()

    done = repository.run("bash", "docker/images.sh", command)

    assert done.returncode == 2
    assert f"REGISTRY: is not set; say where the images go, as in: make {command} REGISTRY=" in done.stderr


def test_sources_that_no_commit_holds_are_not_pushed(repository: Host) -> None:
    repository.has_engine()
    (repository.checkout / "compose.yaml").open("a").write("# changed\n")

    done = repository.run("bash", "docker/images.sh", "push", REGISTRY="localhost:1/x")

    assert done.returncode == 2
    assert "the working tree has changes that no commit holds" in done.stderr
    assert "building" not in done.stdout


def test_an_image_is_named_after_registry_target_and_tag(repository: Host) -> None:
    def name(target: str, **variables: str) -> str:
        return repository.run("bash", "docker/images.sh", "name", target, **variables).stdout.strip()

    commit = repository.run("git", "rev-parse", "HEAD").stdout[:10]
    assert name("train") == f"whisper-train:train-0.1.0-{commit}"
    assert name("qat", REGISTRY="docker.io/me") == f"docker.io/me/whisper-train:qat-0.1.0-{commit}"
    assert name("eval", IMAGE_TAG="a") == "whisper-train:eval-a"
    assert name("eval", IMAGE_TAG="a", TAG="b") == "whisper-train:eval-b"


def test_the_commit_of_an_image_is_a_commit_even_where_a_release_is_tagged(repository: Host) -> None:
    repository.run("git", "-c", "user.name=x", "-c", "user.email=x@localhost", "tag", "-a", "v0.1.0", "-m", "x")
    commit = repository.run("git", "rev-parse", "HEAD").stdout.strip()

    assert repository.source("commit").stdout.strip() == commit
    (repository.checkout / "compose.yaml").open("a").write("# changed\n")
    assert repository.source("commit").stdout.strip() == f"{commit}+"


# Jobs in containers, on an engine that starts nothing but a container which ends at once.


@pytest.fixture
def engine(host: Host) -> Host:
    """What the container prints and ends with is in the files `logs` and `status`; `done` holds what was done."""
    host.has("seq", "sleep", "touch", "rm")
    (host.checkout / "jobs" / "machines").mkdir(parents=True)
    (host.checkout / "jobs" / "demo.yaml").touch()
    (host.checkout / "jobs" / "machines" / "cpu.yaml").touch()
    host.write_tool(
        "docker",
        """case "$*" in
          "compose version"* | info* | "image inspect"*) ;;
          "container inspect"*Status*) [ -f started ] && echo exited ;;
          "container inspect"*) ;;
          compose*run*) touch started; echo "PASTE=$WHISPER_TRAIN_VOLUMES JOB=$WHISPER_TRAIN_JOB $*" >>done ;;
          logs*) cat logs ;;
          ps*) printf 'demo\\t0123456789ab\\tExited (143) About a minute ago\\tx\\n' ;;
          wait*) cat status ;;
          rm*) rm -f started; echo removed >>done ;;
          *) echo "docker $*" >&2; exit 1 ;; esac""",
    )
    return host


def start(host: Host, logs: str, status: int, *words: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, what the terminal shows, and what the engine was asked to do."""
    (host.checkout / "logs").write_text(logs)
    (host.checkout / "status").write_text(str(status))
    folder = host.home / "runs"
    given = {"IMAGE_TAG": "x", "BASE_DIR": str(folder), **variables}
    ended = host.run("bash", "docker/job.sh", "train", "demo", *words, **given)
    done = host.checkout / "done"
    return ended.returncode, ended.stdout + ended.stderr, done.read_text() if done.is_file() else ""


@pytest.mark.parametrize("detach", ["", "1"])
@pytest.mark.parametrize(
    ("logs", "status", "removed"),
    [
        ("error: demo: is running already as container x", 2, True),
        ("demo: new -> models/demo; follow it with: make tensorboard\nerror: demo: no usable clip", 2, False),
        ("Traceback", 1, False),
    ],
)
def test_a_container_that_was_refused_at_once_is_removed(
    engine: Host, detach: str, logs: str, status: int, removed: bool
) -> None:
    ended, shown, done = start(engine, logs, status, DETACH=detach)

    assert ended == status
    assert logs in shown
    assert ("removed" in done) == removed


def test_the_line_to_paste_sees_the_recordings_too(engine: Host) -> None:
    recordings = engine.home / "my recordings"
    recordings.mkdir()

    _, _, done = start(engine, "", 0, DATA_DIR=str(recordings))

    quoted = str(recordings).replace(" ", "\\ ")
    assert f"PASTE=--volume={quoted}:{quoted}:ro  JOB=demo " in done
    assert f"--volume={recordings}:{recordings}:ro train train demo" in done


@pytest.mark.parametrize("given", [{"words": ("--machine", "h20")}, {"MACHINE": "h20"}])
def test_a_machine_that_is_not_there_starts_no_container(engine: Host, given: dict[str, Any]) -> None:
    words = given.pop("words", ())

    ended, shown, done = start(engine, "", 0, *words, **given)

    assert (ended, done) == (2, "")
    assert "error: MACHINE: h20: no such profile in jobs/machines; there are: cpu" in shown
    assert start(engine, "", 0, "--machine", "cpu")[0] == 0


def test_the_list_shows_what_a_container_said_last_and_no_command_to_paste(engine: Host) -> None:
    engine.has("tail")
    (engine.checkout / "logs").write_text("done in 1s; report: r\nnext, hear what it hears:\n  python -c x\n\n")

    heading, line = engine.run("bash", "docker/job.sh", "ps").stdout.splitlines()

    assert line[heading.index("LAST LINE") :] == "done in 1s; report: r"


# The Makefile.


@pytest.fixture
def make(host: Host) -> Host:
    host.has("make")
    return host


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train RUN=local", "EXP: name a job, as in: make train EXP=demo"),
        ("logs RUN=docker", "EXP: name a job, as in: make logs EXP=demo"),
        ("train EXP=demo RUN=podman", "error: RUN: podman: is docker or local"),
        ("ps RUN=podman", "error: RUN: podman: is docker or local"),
    ],
)
def test_make_refuses_what_is_missing_or_wrong(make: Host, words: str, message: str) -> None:
    done = make.run("make", f"SHELL={make.bin}/bash", *words.split())

    assert done.returncode == 2
    assert message in done.stderr


def test_make_passes_on_what_it_is_given(make: Host) -> None:
    def would(*words: str) -> str:
        return make.run("make", "-n", f"SHELL={make.bin}/bash", "train", "EXP=demo", *words).stdout

    assert "where=local;" in would()  # no docker here
    assert '.venv/bin/whisper-train train "demo" --detach' in " ".join(would("DETACH=1", "RUN=local").split())
    assert "--detach" not in would("RUN=local")
    assert 'docker/job.sh train "demo" --machine h200 --set a=1' in " ".join(
        would("RUN=docker", "MACHINE=h200", "ARGS=--set a=1").split()
    )
    (make.checkout / ".env").write_text("RUN=docker\n")
    assert "where=docker;" in would()
    assert "where=local;" in would("RUN=local")
