"""What a run does when something goes wrong that it could go on from: loss, disk, workers, and requests to leave."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeJob, RunCli
from tests.test_checkpoints import make_checkpoint
from whisper_train.errors import Stopped, UserError
from whisper_train.exits import parse_duration, unwinding_on_sigterm
from whisper_train.sudden_ends import BadLoss, LostWorker, clear_words, leave_word, read_word
from whisper_train.training.checkpoints import find_damage
from whisper_train.training.disk_room import SPARE, DiskRoom
from whisper_train.training.loss_watch import check_explosion, check_finite
from whisper_train.training.signals import StopRequest

STEPS = {"global_batch_size": 2, "max_steps": 6, "save_steps": 2, "eval_strategy": "no", "logging_steps": 1}
NO_BEST = {"save_strategy": "steps", "load_best_model_at_end": False}


@pytest.fixture
def write_faulty(make_job: MakeJob, make_manifest: Any, place: Path) -> Callable[..., Path]:
    """Writes a job of six steps, three an epoch, with a checkpoint every second step."""
    train, held_out = place / "train" / "list.jsonl", place / "eval" / "list.jsonl"
    evaluated = {"held-out": [{"manifest": str(make_manifest(held_out, first=50))}]}

    def write(
        name: str = "tiny",
        *,
        clips: int = 6,
        workers: int = 0,
        training: dict[str, Any] | None = None,
        **faults: Any,
    ) -> Path:
        data = {"train": [{"manifest": str(make_manifest(train, clips=clips))}], "eval": evaluated}
        machine = {"audit_workers": 1, "dataloader_num_workers": workers, "threads": 1}
        settings = {**STEPS, **NO_BEST, "learning_rate": 1e-3, **(training or {})}
        return make_job(data, name, training=settings, machine=machine, faults=faults)

    return write


def facts(name: str = "tiny") -> dict[str, Any]:
    return dict(json.loads((Path("models") / name / "run.json").read_text()))


def checkpoints(name: str = "tiny") -> list[str]:
    return sorted(path.name for path in (Path("models") / name / "checkpoints").glob("checkpoint-*"))


def weights(name: str = "tiny") -> bytes:
    return (Path("models") / name / "model.safetensors").read_bytes()


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[Any], Any]], None]:
    """Calls a function with the trainer before it computes the loss of a step; what it returns multiplies the loss."""

    def call(step: int, what: Callable[[Any], Any]) -> None:
        from whisper_train.training.trainer import WhisperTrainer

        whole = WhisperTrainer.compute_loss

        def compute_loss(self: Any, *args: Any, **options: Any) -> Any:
            factor = what(self) if self.state.global_step + 1 == step and self.model.training else None
            loss = whole(self, *args, **options)
            return loss if factor is None else loss * factor

        monkeypatch.setattr(WhisperTrainer, "compute_loss", compute_loss)

    return call


# What is refused, and what is told.


@pytest.mark.parametrize("text", ["", "5", "h", "5d", "-1h", "0m", "1.5h", "5 h", "9999999999999h"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--stop-after: .*: give a time, as 5h, 90m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("5h", 18_000), ("90m", 5_400), ("1h30m", 5_400), ("45s", 45)])
def test_times(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("faults", [{"full_disk": "pray"}, {"bad_loss": "train on"}, {"batch_timeout": 0}, {"x": 1}])
def test_a_fault_that_cannot_be_handled_so_is_refused(
    write_faulty: Callable[..., Path], run_cli: RunCli, faults: dict[str, Any]
) -> None:
    result = run_cli("check", write_faulty(**faults))
    assert result.exit_code == 2
    assert f"faults.{next(iter(faults))}" in result.output


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_is_no_loss(value: float) -> None:
    with pytest.raises(BadLoss, match=r"step 17: the loss is (nan|inf|-inf)"):
        check_finite(value, "loss", 17)
    check_finite(0.0, "loss", 17)


@pytest.mark.parametrize(
    ("loss", "before", "exploded"),
    [
        (18.0, [6.0, 2.0, 4.0], True),
        (11.0, [6.0, 2.0, 4.0], True),
        (10.0, [6.0, 2.0, 4.0], False),  # a model that guesses among 51,865 tokens has 10.86
        (12.0, [11.0, 5.0], False),  # less than three times what it was
        (30.0, [], False),  # random weights
    ],
)
def test_a_loss_explodes_when_it_is_worse_than_guessing_and_three_times_what_it_was(
    loss: float, before: list[float], exploded: bool
) -> None:
    history: list[dict[str, float]] = [*({"loss": value} for value in before), {"eval_loss": 0.001}]
    if not exploded:
        check_explosion(loss, history, 51_865, 17)
        return
    with pytest.raises(BadLoss, match=r"step 17: the loss has exploded: .*, after 2 at best"):
        check_explosion(loss, history, 51_865, 17)


def test_a_rank_leaves_its_launcher_the_kind_of_its_end(place: Path) -> None:
    for kind in (BadLoss, LostWorker):
        leave_word(place, 1, kind("step 8: is bad", 8))
        word = read_word(place)
        assert isinstance(word, kind)
        assert (str(word), word.step) == ("step 8: is bad", 8)
        clear_words(place)
    assert read_word(place) is None


# Loss.


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_and_nothing_of_it_is_saved(
    write_faulty: Callable[..., Path], run_cli: RunCli, at_step: Callable[..., None]
) -> None:
    job = write_faulty()
    at_step(4, lambda trainer: float("nan"))
    result = run_cli("train", job)
    assert result.exit_code == 1, result.output
    assert "error: step 4: the loss is nan; nothing was saved of it" in result.output
    assert "--set faults.bad_loss=rollback goes on from checkpoint-2 with half the learning rate" in result.output
    assert checkpoints() == ["checkpoint-2"]
    assert facts()["status"] == "failed"


@pytest.mark.slow
def test_a_rollback_goes_on_with_half_the_learning_rate_until_it_does_not_help(
    write_faulty: Callable[..., Path], run_cli: RunCli, at_step: Callable[..., None]
) -> None:
    """Steps that are too large at step 4 as long as they are over a third of the job's; then at none."""
    rates: list[float] = []

    def look(trainer: Any) -> float:
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        return float("nan") if rates[-1] > rates[0] / 3 else 1.0

    at_step(4, look)
    result = run_cli("train", write_faulty(bad_loss="rollback"))
    assert result.exit_code == 0, result.output
    assert "the run goes on from checkpoint-2 with 0.5 of the job's learning rate" in result.output
    assert "the run goes on from its beginning with 0.25 of the job's learning rate" in result.output
    assert rates == pytest.approx([rates[0], rates[0] / 2, rates[0] / 4])
    assert [each["step"] for each in facts()["rollbacks"]] == [4, 4]
    log = json.loads((Path("models/tiny/checkpoints/checkpoint-6") / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert all(find_damage(path) is None for path in Path("models/tiny/checkpoints").glob("checkpoint-*"))


@pytest.mark.slow
def test_a_loss_that_stays_bad_ends_the_run_after_five_rollbacks(
    write_faulty: Callable[..., Path], run_cli: RunCli, at_step: Callable[..., None]
) -> None:
    at_step(1, lambda trainer: float("inf"))
    result = run_cli("train", write_faulty(bad_loss="rollback"))
    assert result.exit_code == 1, result.output
    assert "the run has gone back 5 times, and its learning rate is 0.03125 of the job's" in result.output


# Disk.


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["wait", "stop"])
def test_a_full_disk_is_waited_for_or_left_with_everything_intact(
    write_faulty: Callable[..., Path], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    whole = DiskRoom.free
    asked: list[int] = []

    def free(self: Any) -> int:
        asked.append(1)
        return 0 if 1 < len(asked) < 4 else whole(self)  # full when the second checkpoint is due, for a while

    monkeypatch.setattr(DiskRoom, "free", free)
    result = run_cli("train", write_faulty(full_disk=policy))
    assert "disk: no room for the next checkpoint: " in result.output
    if policy == "stop":
        assert result.exit_code == 1, result.output
        assert "make room, and the same command goes on from checkpoint-2" in result.output
        assert checkpoints() == ["checkpoint-2"]
        result = run_cli("train", write_faulty(full_disk=policy))
    else:
        assert "WAITING until there is; everything up to checkpoint-2 is safe" in result.output
        assert "disk: there is room again; going on" in result.output
    assert result.exit_code == 0, result.output
    assert find_damage(Path("models/tiny/checkpoints/checkpoint-6")) is None


@pytest.mark.slow
def test_a_checkpoint_that_others_left_no_room_for_is_written_again(
    write_faulty: Callable[..., Path], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whisper_train.training.trainer import WhisperTrainer

    whole = WhisperTrainer.write_aside
    failed: list[int] = []

    def write_aside(self: Any, *args: Any) -> None:
        whole(self, *args)
        if not failed:
            failed.append(self.state.global_step)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WhisperTrainer, "write_aside", write_aside)
    monkeypatch.setattr(DiskRoom, "is_spent", lambda self: True)
    result = run_cli("train", write_faulty())
    assert result.exit_code == 0, result.output
    assert "disk: it filled up while checkpoint-2 was being written; what was written of it is removed" in result.output
    assert failed == [2]
    assert find_damage(Path("models/tiny/checkpoints/checkpoint-6")) is None


def test_room_is_that_of_the_largest_checkpoint_so_far(tmp_path: Path) -> None:
    room = DiskRoom(folder=tmp_path, first=5_000, stops=False, request=StopRequest(), say=lambda line: None)
    assert room.needed() == 5_000 + SPARE
    make_checkpoint(tmp_path, 2)  # 3,060 bytes
    assert room.needed() == pytest.approx(3_060 * 1.02 + SPARE, abs=1)


@pytest.mark.slow
def test_a_run_asked_to_leave_while_it_waits_for_room_leaves(
    write_faulty: Callable[..., Path], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))

    def free(self: Any) -> int:
        if not asking.ident:  # once: a second signal leaves without a word
            asking.start()
        return 0

    monkeypatch.setattr(DiskRoom, "free", free)
    result = run_cli("train", write_faulty())
    assert result.exit_code == 143, result.output
    assert "left while waiting for room: what was trained since the beginning is not saved" in result.output


# Processes that read the data.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "a process that reads the data has died"),
        (signal.SIGSTOP, "no batch came from the processes that read the data within 20 s"),
    ],
)
def test_a_worker_that_dies_or_hangs_ends_the_run_with_the_cause_and_the_run_goes_on(
    write_faulty: Callable[..., Path],
    run_cli: RunCli,
    at_step: Callable[..., None],
    number: signal.Signals,
    words: str,
) -> None:
    def harm(trainer: Any) -> None:
        for worker in multiprocessing.active_children():
            os.kill(int(worker.pid or 0), number)

    at_step(3, harm)
    started = time.monotonic()
    result = run_cli("train", write_faulty(clips=40, workers=1, training={"max_steps": 20}, batch_timeout=20))
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert "the same command goes on from the newest checkpoint" in result.output
    assert time.monotonic() - started < 300
    assert multiprocessing.active_children() == []
    assert "checkpoint-2" in checkpoints()


# Requests to leave.


def test_a_signal_is_not_taken_for_a_fault_of_a_library() -> None:
    """Libraries try imports and readers within `except Exception`: a request to leave must pass through there."""

    def swallow() -> None:
        with contextlib.suppress(Exception):  # as transformers does around an import
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(Stopped), unwinding_on_sigterm():
        swallow()


@pytest.mark.slow
def test_a_run_that_is_over_its_time_saves_leaves_with_143_and_goes_on(
    write_faulty: Callable[..., Path], run_cli: RunCli, at_step: Callable[..., None]
) -> None:
    """The clock runs out within step 3, or on a very slow machine before: the timer is waited for there."""
    waited: list[float] = []

    def wait(trainer: Any) -> None:
        while not waited and not trainer.stop.request.asked:
            time.sleep(0.01)
        waited.append(time.monotonic())

    at_step(3, wait)
    result = run_cli("train", write_faulty(), "--stop-after", "20s")
    assert result.exit_code == 143, result.output
    if waited:
        assert "stopped: saved checkpoint-3 " in result.output
        assert "s after it was asked to; the same command goes on from there" in result.output
    waited.append(0.0)
    assert run_cli("train", write_faulty()).exit_code == 0


@pytest.mark.slow
def test_an_evaluation_is_left_and_done_first_by_the_next_session(
    write_faulty: Callable[..., Path], run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation may take an hour: a rented machine that goes in a minute must not lose the steps before it."""
    from whisper_train.evaluation.transcribe import transcribe as whole
    from whisper_train.training.checkpoints import MANIFEST

    training = {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True, "save_steps": 6}
    assert run_cli("train", write_faulty("whole", training=training)).exit_code == 0
    heard = []

    def transcribe(*args: Any, **options: Any) -> Any:
        for batch in whole(*args, **options):
            heard.append(len(batch))
            os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    job = write_faulty(training=training)
    with monkeypatch.context() as patched:
        patched.setattr("whisper_train.training.evaluate.transcribe", transcribe)
        result = run_cli("train", job)
        assert result.exit_code == 143, result.output
        assert "stopped: saved checkpoint-3" in result.output
        owed = Path("models/tiny/checkpoints/checkpoint-3") / MANIFEST
        assert json.loads(owed.read_text())["owes_evaluation"] is True
        result = run_cli("train", job)  # asked to leave again, before it has trained a step
        assert result.exit_code == 143, result.output
        assert checkpoints() == ["checkpoint-3"]
    result = run_cli("train", job)
    assert result.exit_code == 0, result.output
    assert result.output.index("step 3: evaluated") < result.output.index("step 4/6")
    assert result.output.count("evaluated") == 2
    assert weights() == weights("whole")
    assert facts()["best_step"] == facts("whole")["best_step"]


@pytest.mark.slow
def test_a_run_killed_after_its_last_checkpoint_takes_no_step_more(
    write_faulty: Callable[..., Path], run_cli: RunCli
) -> None:
    """Five steps end in the middle of an epoch of three."""
    job = write_faulty(training={"max_steps": 5})
    assert run_cli("train", job).exit_code == 0
    before = weights()
    folder = Path("models/tiny")
    run = {**facts(), "status": "running", "kept": None}
    (folder / "run.json").write_text(json.dumps(run))
    result = run_cli("train", job)
    assert "resuming from checkpoint-5" in result.output
    assert "step 6" not in result.output
    assert checkpoints()[-1] == "checkpoint-5"
    assert weights() == before
