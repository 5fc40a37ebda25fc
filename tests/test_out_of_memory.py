"""Out of memory: what it looks like, what is said of it, and which smaller batches a run goes on with."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import tiny_job
from whisper_train.errors import RunFailed
from whisper_train.job import Job
from whisper_train.machine import Layout, with_device_batch
from whisper_train.out_of_memory import OutOfMemory, evaluating, is_out_of_memory
from whisper_train.plan import RunPlan
from whisper_train.recovery import halved, known_to_fit
from whisper_train.run_folder import RunFolder
from whisper_train.sudden_ends import clear_words, leave_word, read_word
from whisper_train.training.last_step import StepWatch, save_last_step

FULL_CARD = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.2 GiB is free."
    " Of the allocated memory 14.00 GiB is allocated by PyTorch. If reserved memory is large try setting"
)


def make_plan(place: Path, *, per_device: int, accumulation: int, **machine: Any) -> RunPlan:
    """The plan of a run that has saved nothing yet."""
    values = tiny_job()
    job = Job.model_validate({**values, "name": "tiny", "machine": {**values["machine"], **machine}})
    layout = Layout(ranks=1, ranks_per_host=1, per_device=per_device, accumulation=accumulation, threads=1)
    folder = RunFolder(place / "run", place / "logs")
    folder.path.mkdir(exist_ok=True)
    return RunPlan(job=job, folder=folder, cache=place, base="", layout=layout, deepspeed=None, checkpoint=None)


def no_room() -> BaseException:
    """What torch itself raises."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


# What is out of memory, and what is not.


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL_CARD),
        MemoryError(),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("NCCL error in: …, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
    ],
)
def test_every_allocator_is_understood(error: BaseException) -> None:
    assert is_out_of_memory(error)


def test_torchs_own_error_on_this_machine_is_understood() -> None:
    assert is_out_of_memory(no_room())


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert"), ValueError("out of memory")])
def test_another_error_is_none(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_an_evaluation_that_does_not_fit_names_its_key_and_what_the_card_had() -> None:
    with pytest.raises(OutOfMemory, match=r"machine.per_device_eval_batch_size=8\b") as caught, evaluating(16):
        raise torch.OutOfMemoryError(FULL_CARD)
    assert "15.77 GiB" in str(caught.value)
    assert "try setting" not in str(caught.value)
    with pytest.raises(OutOfMemory, match="one clip is too much"), evaluating(1):
        raise MemoryError
    with pytest.raises(RuntimeError, match="assert"), evaluating(16):
        raise RuntimeError("CUDA error: device-side assert")


def test_ranks_that_fail_together_leave_one_word_to_their_launcher(place: Path) -> None:
    assert read_word(place) is None
    for rank in (1, 0):
        leave_word(place, rank, OutOfMemory(f"step 8 ran out of memory on {rank}", 8))
    word = read_word(place)
    assert word is not None
    assert (str(word), word.step) == ("step 8 ran out of memory on 0", 8)
    clear_words(place)
    assert read_word(place) is None


# Smaller batches.


@pytest.mark.parametrize(("share", "sizes"), [(8, [8, 4, 2, 1]), (6, [6, 3, 1]), (12, [6, 3, 1]), (9, [9, 3, 1])])
def test_the_device_batch_halves_to_sizes_that_keep_the_global_batch(place: Path, share: int, sizes: list[int]) -> None:
    plan = make_plan(place, per_device=sizes[0], accumulation=share // sizes[0])
    found = [plan.layout]
    while found[-1].per_device > 1:
        plan = halved(plan, 3, lambda line: None)
        found.append(plan.layout)
    assert [layout.per_device for layout in found] == sizes
    assert {layout.global_batch for layout in found} == {share}


def test_one_clip_that_does_not_fit_ends_the_run_with_what_helps(place: Path) -> None:
    plan = make_plan(place, per_device=1, accumulation=8, deepspeed="zero2")
    plan = replace(plan, deepspeed={"zero_optimization": {"stage": 2}})
    with pytest.raises(RunFailed, match="step 1,003 does not fit into memory with one clip at a time") as caught:
        halved(plan, 1003, lambda line: None)
    for way_out in ("gradient_checkpointing=true", "deepspeed=zero2-offload", "model.lora", "data.window_seconds"):
        assert way_out in str(caught.value)
    with_both = make_plan(place, per_device=1, accumulation=8, gradient_checkpointing=True)
    with pytest.raises(RunFailed) as caught:
        halved(with_both, 3, lambda line: None)
    assert "machine." not in str(caught.value)


def test_the_size_that_fitted_holds_for_its_machine_alone(place: Path) -> None:
    plan = make_plan(place, per_device=8, accumulation=1)
    said: list[str] = []
    assert known_to_fit(plan.layout, plan.job, plan.folder, said.append) == plan.layout
    halved(plan, 3, lambda line: None)
    smaller = known_to_fit(plan.layout, plan.job, plan.folder, said.append)
    assert smaller == with_device_batch(plan.layout, 4)
    assert said == ["4 clips × 2 accumulation instead of 8 clips × 1 accumulation, which ran out of memory before"]
    for changed in ({"gradient_checkpointing": True}, {"per_device_train_batch_size": 4}):
        other = make_plan(place, per_device=8, accumulation=1, **changed)
        assert known_to_fit(other.layout, other.job, plan.folder, said.append) == other.layout
    two_ranks = replace(plan.layout, ranks=2)
    assert known_to_fit(two_ranks, plan.job, plan.folder, said.append) == two_ranks


def test_a_step_is_saved_with_the_random_state_it_ended_with(place: Path) -> None:
    """And where there is no memory for that either, it is said, and the checkpoint before it is what there is."""
    watch = StepWatch()
    watch.on_step_end(None, None, None)
    expected = (random.random(), float(np.random.random()), float(torch.rand(1)))
    found: list[tuple[float, float, float]] = []

    def save(model: Any, trial: Any) -> None:
        found.append((random.random(), float(np.random.random()), float(torch.rand(1))))
        raise MemoryError

    trainer = SimpleNamespace(model=None, _save_checkpoint=save)
    trainer.state, trainer.args = SimpleNamespace(global_step=7), SimpleNamespace(output_dir=str(place))
    said: list[str] = []
    save_last_step(trainer, watch, said.append)
    assert found == [expected]
    assert said == ["step 7 cannot be saved for lack of memory: MemoryError"]
