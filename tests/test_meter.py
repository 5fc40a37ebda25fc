"""What the figures of throughput say: of the training steps alone, of all ranks, and of all sessions."""

import time

import pytest
import torch

from whisper_train.data.dataset import Counts
from whisper_train.training.meter import Meter, Work

BATCH = Counts(windows=2, clips=3, audio_seconds=15.0, tokens=30, width=20, labels=24)
CPU = torch.device("cpu")


def alone(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def make_meter(earlier: Work | None = None) -> Meter:
    meter = Meter(earlier or Work(), window_seconds=lambda batch: 30.0, flops=lambda batch: 1e9 * batch.windows)
    meter.start(rate=1e12)
    return meter


def test_a_batch_counts_its_clips_audio_padding_and_operations() -> None:
    meter = make_meter()
    meter.count(BATCH)
    meter.settle(alone, 1, CPU)
    work = meter.total
    assert (work.clips, work.audio_seconds, work.window_seconds) == (3, 15.0, 60.0)
    assert (work.label_tokens, work.label_positions, work.flops) == (30, 40, 2e9)
    assert work.possible_flops == pytest.approx(1e12 * work.seconds)


def test_shares_and_rates_follow_from_the_sums() -> None:
    work = Work(clips=50, audio_seconds=200.0, window_seconds=800.0, label_tokens=90, label_positions=100)
    work += Work(flops=3e9, possible_flops=1e10, seconds=10.0, waiting_seconds=1.0)
    assert work.figures() == {
        "clips_per_second": 5.0,
        "audio_hours_per_hour": 20.0,
        "padding_share": 0.75,
        "label_padding_share": 0.1,
        "data_wait_share": 0.1,
        "model_flops_utilization": 0.3,
    }


def test_no_work_has_figures_too() -> None:
    assert all(value >= 0 for value in Work().figures().values())


def test_evaluations_and_checkpoints_are_left_out_and_waiting_is_seen() -> None:
    meter = make_meter()
    with meter.paused():
        time.sleep(0.2)

    def slow() -> object:
        time.sleep(0.05)
        return BATCH

    assert list(meter.waiting(iter([BATCH, BATCH]))) == [BATCH, BATCH]
    assert next(meter.waiting(iter(slow, None))) is BATCH
    meter.settle(alone, 1, CPU)
    work = meter.total
    assert 0.05 <= work.waiting_seconds <= work.seconds < 0.2


def test_a_report_is_of_what_came_since_the_last_one_and_the_total_goes_on() -> None:
    meter = make_meter(earlier=Work(clips=100, seconds=50.0))
    meter.count(BATCH)
    meter.settle(alone, 1, CPU)
    meter.count(BATCH)
    meter.settle(alone, 1, CPU)
    assert meter.report()["padding_share"] == 0.75
    assert meter.report()["clips_per_second"] == 0
    assert meter.total.clips == 106
    assert meter.total.seconds >= 50.0
    again = Work(**meter.total.report()["totals"])
    assert again == meter.total, "what run.json holds is all that a resumed run needs"


def test_ranks_are_summed_and_their_times_are_not() -> None:
    meter = make_meter()
    meter.count(BATCH)
    time.sleep(0.01)
    meter.settle(lambda tensor: 2 * tensor, 2, CPU)
    work = meter.total
    assert work.clips == 6
    assert work.possible_flops == pytest.approx(2e12 * work.seconds)
    assert work.clips / work.seconds == pytest.approx(work.figures()["clips_per_second"], rel=1e-3)
