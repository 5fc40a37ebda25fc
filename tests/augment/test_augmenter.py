"""Who gets what: the same clip in the same epoch always sounds the same, in any process, and nothing else is drawn."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.augment.signals import augmenter, read
from tests.evaluation.listening import make_whisper, write_clips
from whisper_train.augment.augmenter import augmenter_for
from whisper_train.augment.settings import dump_settings, load_settings, recordings_digest, training_settings
from whisper_train.data.dataset import ClipDataset
from whisper_train.data.index import Index
from whisper_train.data.order import Draw
from whisper_train.data.workers import shielded
from whisper_train.job_augment import Augment
from whisper_train.job_data import Data
from whisper_train.labels import Labels

EVERYTHING: dict[str, Any] = {name: {"probability": 0.7} for name in Augment.model_fields}
LENGTHS = [0.5, 0.7, 1.0, 0.9, 1.3, 0.4]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return write_clips(tmp_path, LENGTHS, source=[0, 0, 0, 1, 1, 1])


def test_the_same_clip_sounds_the_same_in_the_same_epoch(index: Index) -> None:
    one, other = (augmenter_for([Augment.model_validate(EVERYTHING)] * 2, index, [None] * 2, 7) for _ in range(2))
    assert one
    assert other
    places: list[tuple[int, dict[str, int]]] = [(2, {}), (2, {"epoch": 1}), (2, {"repeat": 1}), (3, {})]
    clips = [read(index, position) for position, _ in places]
    first = [one(clip, 0, position, **when) for clip, (position, when) in zip(clips, places, strict=True)]
    again = [
        other(clip, 0, position, **when)
        for clip, (position, when) in reversed(list(zip(clips, places, strict=True)))  # in whatever order
    ]
    assert all(np.array_equal(*pair) for pair in zip(first, reversed(again), strict=True))
    assert len({wave.tobytes() for wave in first}) == 4, "each epoch, repeat and clip draws for itself"
    seeded = augmenter(index, 8, **EVERYTHING)
    assert not np.array_equal(seeded(clips[0], 0, 2), first[0])


def test_a_loading_process_draws_what_this_one_would(index: Index) -> None:
    settings = [Augment.model_validate(EVERYTHING)] * 2
    labels = Labels(make_whisper()[1].tokenizer, "transcribe", multilingual=True)
    change = augmenter_for(settings, index, [None] * 2, 1)
    clips = ClipDataset(index, [None] * 2, labels, 2.0, augmenter=change)
    draws = [Draw((position,), epoch) for position in range(len(LENGTHS)) for epoch in (0, 1)]
    loader: Any = DataLoader(clips, None, sampler=draws, num_workers=2, multiprocessing_context=shielded(2))
    heard: list[torch.Tensor] = [item["waveform"] for item in loader]
    for draw, theirs in zip(draws, heard, strict=True):
        assert np.array_equal(clips[draw]["waveform"], theirs.numpy())
    assert len({wave.numpy().tobytes() for wave in heard}) == len(draws), "every epoch anew"


def test_nobody_elses_chance_is_touched(index: Index) -> None:
    clip, change = read(index, 0), augmenter(index, **{**EVERYTHING, "room": {}, "noise": {}})
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = states_of_chance()
    heard = [change(clip, 0, 0, epoch=epoch) for epoch in range(5)]
    assert states_of_chance() == before
    np.random.seed(2)
    assert all(np.array_equal(change(clip, 0, 0, epoch=epoch), heard[epoch]) for epoch in range(5)), "nor used"


def states_of_chance() -> tuple[Any, ...]:
    """Of the generators that a whole process shares."""
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()


def test_a_probability_is_the_share_of_clips_that_get_the_effect(index: Index) -> None:
    change = augmenter(index, gain={"probability": 0.3}, dropouts={"probability": 0.0})
    clip = read(index, 0)
    applied = [change.apply(clip, 0, 0, epoch=epoch)[1] for epoch in range(1_000)]
    assert {one.effect for each in applied for one in each} == {"gain"}
    assert 0.25 < np.mean([bool(each) for each in applied]) < 0.35
    untouched = next(epoch for epoch, each in enumerate(applied) if not each)
    assert change(clip, 0, 0, epoch=untouched) is clip


def test_a_value_is_drawn_from_its_whole_range(index: Index) -> None:
    change = augmenter(index, gain={"decibels": (-9.0, -3.0)})
    drawn = [float(change.apply(read(index, 0), 0, 0, epoch=epoch)[1][0].values["decibels"]) for epoch in range(300)]
    assert -9 <= min(drawn) < -8.8
    assert -3.2 < max(drawn) <= -3


def test_effects_come_in_the_order_in_which_sound_meets_them(index: Index) -> None:
    backwards: dict[str, Any] = {name: {} for name in reversed(EVERYTHING)}
    applied = augmenter(index, **backwards).apply(read(index, 0), 0, 0)[1]
    assert [one.effect for one in applied] == list(Augment.model_fields)
    assert list(Augment.model_fields) == [
        *("speed", "pitch", "room", "noise", "gain", "clipping", "telephone", "codec", "dropouts")
    ]


def test_all_effects_together_leave_sound_within_full_scale(index: Index) -> None:
    change = augmenter(index, **{name: {} for name in EVERYTHING} | {"noise": {"snr_db": [-20, 60]}})
    for epoch in range(30):
        heard = change(read(index, 2), 0, 2, epoch=epoch, max_seconds=1.0)
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert 0 < np.abs(heard).max() <= 1.0
        assert len(heard) <= 16_000


def test_noise_that_drowns_the_speech_is_not_clipped(index: Index) -> None:
    """Speech at full scale under white noise of -20 dB: all of it is turned down together."""
    change = augmenter(index, noise={"kinds": ["white"], "snr_db": (-20.0, -20.0)})
    heard = change(read(index, 0), 0, 0)
    assert np.abs(heard).max() == pytest.approx(1.0)
    assert (np.abs(heard) > 0.999).sum() == 1


# Which source gets what.


def test_a_source_gets_its_own_effects_else_those_of_all(index: Index) -> None:
    gain: dict[str, Any] = {"gain": {"decibels": [-6, -6]}}
    telephone: dict[str, Any] = {"telephone": {}}
    sources = [{"folder": "a"}, {"folder": "b", "augment": telephone}, {"folder": "c", "augment": {}}]
    data = Data.model_validate({"augment": gain, "train": sources, "eval": [{"folder": "d"}]})
    settings = training_settings(data)
    assert [None if one is None else one.model_dump(exclude_none=True).keys() for one in settings] == [
        {"gain"},
        {"telephone"},
        set(),
    ]
    change = augmenter_for([settings[0], settings[2]], index, [None] * 2, 1)
    assert change
    clip = read(index, 3)
    assert np.abs(change(clip, 0, 0)).max() == pytest.approx(10**-0.3 * np.abs(clip).max(), rel=1e-3)
    assert change(clip, 1, 3) is clip


@pytest.mark.parametrize("settings", [[None, None], [Augment(), None], []])
def test_where_nothing_is_asked_for_nothing_is_made(settings: list[Augment | None], index: Index) -> None:
    assert augmenter_for(settings, index, [None] * 2, 1) is None
    assert dump_settings(settings) is None
    assert recordings_digest(settings) is None


def test_settings_come_back_from_json_as_they_were() -> None:
    settings = [Augment.model_validate(EVERYTHING), None, Augment.model_validate({"noise": {"kinds": ["pink"]}})]
    dumped = dump_settings(settings)
    assert load_settings(dumped) == settings
    assert dumped
    assert dumped[2] == {"noise": {"probability": 1.0, "kinds": ["pink"], "snr_db": [5.0, 25.0], "voices": [3, 6]}}
    assert load_settings(None) == []


def test_other_recordings_of_noise_are_another_question(tmp_path: Path) -> None:
    settings = [Augment.model_validate({"noise": {"folder": str(tmp_path)}})]
    (tmp_path / "a.wav").write_bytes(b"a")
    one = recordings_digest(settings)
    (tmp_path / "notes.txt").write_text("no sound")
    assert recordings_digest(settings) == one
    (tmp_path / "b.wav").write_bytes(b"b")
    assert recordings_digest(settings) != one
