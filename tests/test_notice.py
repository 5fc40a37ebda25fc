"""A run that takes longer to leave than a rented machine gives it says so before it is asked to."""

import time
from types import SimpleNamespace

import pytest

from whisper_train.training.callbacks import NoticeCallback


def saved(notice: NoticeCallback, *, step: float, evaluation: float = 0.0, checkpoint: float) -> None:
    """One step with what follows it, each so many seconds long."""
    arguments = (SimpleNamespace(save_steps=500), None, None)
    notice.on_step_begin(*arguments)
    time.sleep(step)
    notice.on_step_end(*arguments)
    time.sleep(evaluation)
    if evaluation:
        notice.on_evaluate(*arguments)
    time.sleep(checkpoint)
    notice.on_save(*arguments)


@pytest.mark.parametrize(("step", "checkpoint"), [(0.3, 0.0), (0.0, 0.3), (0.15, 0.15)])
def test_step_and_checkpoint_together_are_told_once(step: float, checkpoint: float) -> None:
    told: list[str] = []
    notice = NoticeCallback(told.append, notice=0.2)
    for _ in range(2):
        saved(notice, step=step, checkpoint=checkpoint)
    assert len(told) == 1
    assert told[0].startswith("WARNING: leaving takes about ")
    assert "training.save_steps (now 500)" in told[0]


def test_an_evaluation_between_them_does_not_count_since_it_is_left() -> None:
    told: list[str] = []
    saved(NoticeCallback(told.append, notice=0.2), step=0.01, evaluation=0.4, checkpoint=0.01)
    assert not told
