"""Long recordings, window after window, by what a model writes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from whisper_train.export.rules import Rules, make_rules
from whisper_train.export.search import Written
from whisper_train.export.sounds import babble, features_of
from whisper_train.export.transcribe import in_runtime, open_processor
from whisper_train.export.windows import compression, split, write_windows

CONFIG = {"vocab_size": 2000, "decoder_start_token_id": 1, "eos_token_id": 300, "max_target_positions": 64}
RULES: Rules = make_rules(CONFIG, {"no_timestamps_token_id": 399, "is_multilingual": False})
CONFIGS = ("config", "generation_config")
T0 = 400  # <|0.00|>


def at(frames: int) -> int:
    return T0 + frames // 2


def test_segments_end_where_two_time_stamps_meet() -> None:
    tokens = [T0, 5, 6, at(100), at(100), 7, at(160), at(160)]
    segments, advance = split(tokens, 200, RULES)
    assert [(first, last) for first, last, _ in segments] == [(0, 100), (100, 160)]
    assert advance == 160  # what was said after it is heard again


def test_a_single_time_stamp_at_the_end_says_that_nothing_follows() -> None:
    segments, advance = split([T0, 5, at(80), at(80), 6, at(120)], 200, RULES)
    assert [(first, last) for first, last, _ in segments] == [(0, 80), (80, 120)]
    assert advance == 200


def test_without_time_stamps_the_window_is_one_segment() -> None:
    assert split([5, 6], 200, RULES) == ([(0, 200, [5, 6])], 200)
    assert split([], 200, RULES) == ([], 200)


def test_every_part_of_a_recording_is_heard_and_times_go_on() -> None:
    heard: list[int] = []

    def write(part: NDArray[np.float32], temperature: float) -> Written:
        heard.append(int(part[0, 0]))
        return Written([T0, 5, at(100), at(100)], -0.1, 0.0)

    features = np.tile(np.arange(650, dtype=np.float32), (2, 1))
    segments = write_windows(features, 450, 200, 160, RULES, write)
    assert heard == [0, 100, 200, 300, 400]
    assert [segment.start for segment in segments] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert segments[-1].end == 4.5  # the end of the recording


class Listener:
    """A runtime that writes nothing, and keeps what it hears."""

    def __init__(self, folder: Path) -> None:
        self.rules = make_rules(*(json.loads((folder / f"{name}.json").read_text()) for name in CONFIGS))
        self.heard: list[NDArray[np.float32]] = []

    def write(self, features: NDArray[np.float32], prompts: Any, **how: Any) -> list[Written]:
        self.heard.append(features[0])
        return [Written([5], -0.1, 0.0)]


@pytest.mark.parametrize("seconds", [0.8, 4.5])
def test_behind_the_end_a_window_holds_silence_as_the_evaluation_hears_it(base: Path, seconds: float) -> None:
    """Zeros are no silence: a small Whisper wrote other sentences with them, 93 % of its words wrong."""
    listener, processor = Listener(base), open_processor(base)
    extractor = processor.feature_extractor
    sound = babble(0, 2 * seconds)[: int(seconds * 16_000)]
    heard = in_runtime(listener, processor, 1)(sound, "de", True)
    assert heard.language == "de"
    last = sound[(len(listener.heard) - 1) * extractor.n_samples :]
    assert listener.heard[-1].shape[-1] == extractor.nb_max_frames
    alone = features_of(extractor, last)
    silent = len(last) // extractor.hop_length + 5  # frames that hear nothing but silence
    assert np.ptp(listener.heard[-1][:, silent:-5]) == 0
    assert np.ptp(alone[:, silent:-5]) == 0
    if len(listener.heard) == 1:
        np.testing.assert_allclose(listener.heard[0][:, :-5], alone[:, :-5], atol=1e-4)
    else:  # the loudest moment of the whole recording says what silence is
        loudest = max(float(part.max()) for part in listener.heard)
        assert listener.heard[-1][0, -10] == pytest.approx(
            loudest - 2, abs=1e-4
        )  # 8 powers of ten, as Whisper scales it


def test_a_window_that_repeats_itself_is_written_again_warmer() -> None:
    tried: list[float] = []

    def write(part: NDArray[np.float32], temperature: float) -> Written:
        tried.append(temperature)
        return Written([7] * 60 if temperature < 0.4 else [3, 99, 250, 17], -0.2, 0.0)

    assert compression([7] * 60, 2000) > 1.35
    segments = write_windows(np.zeros((2, 400), np.float32), 200, 200, 160, RULES, write)
    assert tried == [0.0, 0.2, 0.4]
    assert segments[0].tokens == [3, 99, 250, 17]


def test_silence_is_skipped() -> None:
    def write(part: NDArray[np.float32], temperature: float) -> Written:
        return Written([5], -2.0, 0.9)

    assert write_windows(np.zeros((2, 600), np.float32), 400, 200, 160, RULES, write) == []


def test_time_stamps_are_ordered_as_transformers_orders_them() -> None:
    import torch
    from transformers import GenerationConfig
    from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

    config = GenerationConfig(eos_token_id=300, bos_token_id=300, max_initial_timestamp_index=20)
    config.no_timestamps_token_id = 399
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=1)
    rules = replace(RULES, timestamps=True, first_timestamp_at_most=20)
    chance = np.random.default_rng(0)
    for written in ([], [T0], [T0, 5], [T0, 5, at(40)], [T0, 5, at(40), at(40)], [T0, 5, at(40), at(40), 9, 9]):
        scores = chance.standard_normal((1, 2000)).astype(np.float32)
        wanted = theirs(torch.tensor([[1, *written]]), torch.from_numpy(scores.copy())).numpy()
        ours = rules.apply(scores.copy(), [written])
        assert np.array_equal(np.isfinite(wanted), np.isfinite(ours)), written
