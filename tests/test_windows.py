"""Windows of several clips: which are joined, how they sound, and what the decoder is to write for them."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.conftest import MakeWav
from tests.test_dataset import END, GERMAN, NO_TIMESTAMPS, START, TRANSCRIBE, make_index
from whisper_train.data.dataset import IGNORED, ClipDataset, Collator
from whisper_train.data.index import Index
from whisper_train.data.joining import join_clips
from whisper_train.data.order import FILLER, ClipOrder, Draw, block_numbers
from whisper_train.data.windows import NO_CLIP, Grouping, group_clips
from whisper_train.job_data import Windows
from whisper_train.labels import Labels, Segment

START_OF_PROMPT, FIRST_TIMESTAMP = 50361, 50364
EXACT = Windows(pause_seconds=(0.5, 0.5))


@pytest.fixture
def tokenizer(processor_dir: Path) -> Any:
    from transformers import WhisperProcessor

    return WhisperProcessor.from_pretrained(processor_dir).tokenizer


@pytest.fixture
def labels(tokenizer: Any) -> Labels:
    return Labels(tokenizer, "transcribe", multilingual=True)


def windows_of(index: Index, settings: Windows = EXACT, seconds: float = 4.5, tokens: int = 448) -> list[list[int]]:
    """The windows with their clips, as a list."""
    return contents(group_clips(index, block_numbers(index), settings, seconds, tokens, seed=1))


def contents(grouping: Grouping) -> list[list[int]]:
    return [part.tolist() for part in np.split(grouping.clips, grouping.starts[1:-1])]


# Which clips make a window.


def test_clips_of_one_speaker_fill_windows_in_their_order(tmp_path: Path) -> None:
    """Each lasts a second; three and two pauses of half a second make four seconds."""
    index = make_index(tmp_path / "index.arrow", [0] * 10, speaker=["anna", "bert"] * 5)
    assert windows_of(index) == [[0, 2, 4], [6, 8], [1, 3, 5], [7, 9]]
    assert windows_of(index, seconds=1.0) == [[number] for number in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, "neither speaker nor recording is known"),
        ({"speaker": ["a", "b", "c", "d"]}, "each has another speaker"),
        ({"recording": ["a", "b", "c", "d"]}, "each is of another recording"),
        ({"speaker": ["a"] * 4, "language": ["de", "fr", "en", "es"]}, "each is in another language"),
        ({"speaker": ["a"] * 4, "source": [0, 1, 2, 3]}, "sources may call two speakers the same"),
        ({"speaker": ["a"] * 4, "seconds": [float("nan")] * 4}, "their lengths are not known beforehand"),
        ({"speaker": ["a"] * 4, "row_group": [0, 1, 2, 3]}, "each lies in another row group"),
        ({"speaker": ["a"] * 4, "tokens": [300] * 4}, "the decoder has no room for two texts"),
    ],
)
def test_what_does_not_belong_together_is_not_joined(tmp_path: Path, columns: dict[str, Any], why: str) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 4, **columns)
    assert sorted(windows_of(index)) == [[0], [1], [2], [3]], why


def test_clips_of_one_recording_are_joined_where_the_speaker_is_not_known(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 4, recording=["a", "a", "b", "b"], speaker=["", "", "", "x"])
    assert sorted(windows_of(index)) == [[0, 1], [2], [3]]


def test_a_window_knows_the_clips_around_it_of_the_same_speaker_alone(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 8, speaker=["anna"] * 5 + ["bert"] * 3)
    grouping = group_clips(index, None, EXACT, 3.0, 448, seed=1)
    assert contents(grouping) == [[0, 1], [2, 3], [4], [5, 6], [7]]
    assert grouping.before.tolist() == [NO_CLIP, 1, 3, NO_CLIP, 6]
    assert grouping.behind.tolist() == [2, 4, NO_CLIP, 7, NO_CLIP]


def test_a_share_of_the_clips_stays_by_itself(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 2_000, speaker=["anna"] * 2_000)
    grouping = group_clips(index, None, Windows(joined=0.7), 4.0, 448, seed=1)
    joined = sum(len(window) for window in contents(grouping) if len(window) > 1)
    assert joined / 2_000 == pytest.approx(0.7, abs=0.05)
    assert sorted(grouping.clips.tolist()) == list(range(2_000))
    assert not group_clips(index, None, Windows(joined=0.0), 4.0, 448, seed=1).in_recording.any()


def test_a_clip_without_room_for_time_stamps_is_learned_by_itself(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 3, speaker=["anna"] * 3, tokens=[58, 59, 64])
    grouping = group_clips(index, None, EXACT, 4.5, 64, seed=1)
    assert contents(grouping) == [[0], [1], [2]]
    assert grouping.in_recording.tolist() == [True, False, False]


@pytest.mark.slow
def test_a_million_clips_are_grouped_in_seconds(tmp_path: Path) -> None:
    count = 1_000_000
    index = make_index(tmp_path / "index.arrow", [0] * count, speaker=[f"speaker {n % 5_000}" for n in range(count)])
    started = time.monotonic()
    grouping = group_clips(index, None, Windows(), 30.0, 448, seed=1)
    assert time.monotonic() - started < 10
    assert len(grouping) < count / 10


# What an epoch shows.


def test_every_epoch_has_the_same_windows_in_another_order_with_other_draws(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 200, speaker=["anna", "bert"] * 100)
    order = ClipOrder(index, [1.0], 8, seed=1, windows=Windows(), window_seconds=4.5)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert len(first) == len(second) == len(order)
    assert sorted(draw.positions for draw in first) == sorted(draw.positions for draw in second)
    assert [draw.positions for draw in first] != [draw.positions for draw in second]
    assert {draw.epoch for draw in second if draw != FILLER} == {1}
    timestamps = [{draw.positions: draw.timestamps for draw in epoch} for epoch in (first, second)]
    assert timestamps[0] != timestamps[1]
    order.set_epoch(0)
    assert list(order) == first, "a resumed run sees the same"


def test_shares_of_the_windows_get_timestamps_and_prompts(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 6_000, speaker=["anna"] * 6_000)
    settings = Windows(timestamps=0.5, prompts=0.2)
    draws = [
        draw for draw in ClipOrder(index, [1.0], 8, seed=1, windows=settings, window_seconds=4.5) if draw != FILLER
    ]
    assert np.mean([draw.timestamps for draw in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([draw.prompt != NO_CLIP for draw in draws]) == pytest.approx(0.2, abs=0.05)
    assert all(draw.prompt == draw.positions[0] - 1 for draw in draws if draw.prompt != NO_CLIP)
    assert all(draw.timestamps and draw.cut == draw.positions[-1] + 1 for draw in draws if draw.cut != NO_CLIP)
    assert any(draw.timestamps and draw.cut == NO_CLIP for draw in draws), "some windows end in silence"
    assert all(draw.timestamps and draw.tail == draw.positions[0] - 1 for draw in draws if draw.tail != NO_CLIP)
    assert np.mean([draw.tail != NO_CLIP for draw in draws]) == pytest.approx(0.4, abs=0.05)


def test_a_weight_counts_windows_and_each_time_is_told_from_the_others(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index.arrow", [0] * 9 + [1] * 20, speaker=["anna"] * 9 + [""] * 20)
    order = ClipOrder(index, [2.0, 0.5], 4, seed=1, windows=EXACT, window_seconds=4.5)
    draws = [draw for draw in order if draw != FILLER]
    assert len(draws) == order.windows == 2 * 3 + 10
    assert sorted(draw.repeat for draw in draws if draw.positions == (0, 1, 2)) == [0, 1]


def test_windows_of_parquet_rows_stay_near_others_of_their_row_group(tmp_path: Path) -> None:
    groups = [number // 100 for number in range(5_000)]
    columns: dict[str, list[Any]] = {
        "row_group": groups,
        "audio": ["shard.parquet"] * 5_000,
        "speaker": ["anna"] * 5_000,
    }
    index = make_index(tmp_path / "index.arrow", [0] * 5_000, **columns)
    order = ClipOrder(index, [1.0], 8, seed=1, windows=EXACT, window_seconds=4.5)
    shown = [position for draw in order for position in draw.positions]
    assert sorted(shown) == list(range(5_000))
    assert len({groups[position] for position in shown[:1_000]}) <= 12, "what a reader keeps in memory"


# How they sound.


def tone(seconds: float, level: float) -> np.ndarray:
    return np.full(round(16_000 * seconds), level, np.float32)


def test_clips_stand_where_their_times_say_with_silence_between() -> None:
    joined = join_clips([tone(1, 0.1), tone(2, 0.2)], None, 6.0, (0.5, 0.5), np.random.default_rng(0), lead=False)
    assert joined.spans == [(0.0, 1.0), (1.5, 3.5)]
    assert joined.cut_at is None
    assert len(joined.waveform) == 3.5 * 16_000, "what follows is padding"
    assert not joined.waveform[16_000:24_000].any()
    assert (joined.waveform[24_000:] == np.float32(0.2)).all()


def test_pauses_are_drawn_and_shorter_where_the_window_is_full() -> None:
    chance = np.random.default_rng(0)
    pauses = []
    for _ in range(200):
        (_, first), (second, end) = join_clips([tone(1, 0.1)] * 2, None, 2.6, (0.2, 1.0), chance, lead=False).spans
        assert end <= 2.6
        pauses.append(second - first)
    assert 0.2 <= min(pauses) < 0.3
    assert max(pauses) == pytest.approx(0.6, abs=1e-3)


def test_most_windows_begin_with_a_pause_as_decoding_goes_on_in_a_recording() -> None:
    chance = np.random.default_rng(0)
    starts = [join_clips([tone(1, 0.1)], None, 6.0, (0.5, 3.0), chance, lead=True).spans[0][0] for _ in range(100)]
    assert 10 < sum(start == 0 for start in starts) < 30
    assert max(starts) == 1.0, "OpenAI's decoding begins within a second"


def test_some_windows_begin_in_the_end_of_the_clip_before_as_where_its_time_stamp_is_too_early() -> None:
    chance, ahead = np.random.default_rng(0), tone(2, 0.2)
    tails = []
    for _ in range(100):
        joined = join_clips([tone(1, 0.1)], None, 6.0, (0.3, 0.8), chance, lead=True, ahead=ahead)
        start = round(joined.spans[0][0] * 16_000)
        tail = int(np.flatnonzero(np.append(1, joined.waveform[:start]))[-1])
        assert start <= 16_000, "the first time stamp that decoding may write is at most a second"
        assert np.array_equal(joined.waveform[:tail], ahead[len(ahead) - tail :])
        assert tail == 0 or start - tail >= 0.2 * 16_000, "then comes a pause, a little shorter where room is short"
        tails.append(tail)
    assert 10 <= tails.count(0) <= 30, "the others begin with their clip"
    assert max(tails) <= 0.5 * 16_000
    unheard = join_clips([tone(1, 0.1)], None, 6.0, (0.3, 0.8), chance, lead=False, ahead=ahead)
    assert unheard.spans[0][0] == 0


def test_the_clip_behind_is_cut_at_the_end_of_the_window() -> None:
    joined = join_clips([tone(1, 0.1)], tone(3, 0.3), 3.0, (0.5, 0.5), np.random.default_rng(0), lead=False)
    assert (joined.cut_at, len(joined.waveform)) == (1.5, 48_000)
    assert (joined.waveform[24_000:] == np.float32(0.3)).all()


@pytest.mark.parametrize(("seconds", "why"), [(1.0, "it fits: its text would be missing"), (3.0, "nothing of it")])
def test_a_clip_that_would_not_be_cut_is_left_out(seconds: float, why: str) -> None:
    window = 3.0 if seconds == 1.0 else 1.4
    joined = join_clips([tone(1, 0.1)], tone(seconds, 0.3), window, (0.5, 0.5), np.random.default_rng(0), lead=False)
    assert (joined.cut_at, len(joined.waveform)) == (None, 16_000), why


# What the decoder is to write.


def test_without_timestamps_texts_are_joined_by_spaces(labels: Labels, tokenizer: Any) -> None:
    segments = [Segment(0.0, 1.0, "guten Morgen"), Segment(1.5, 2.0, "ja")]
    tokens, unlearned = labels.window(segments, "de")
    assert tokens[:4] == [START, GERMAN, TRANSCRIBE, NO_TIMESTAMPS]
    assert (tokenizer.decode(tokens[4:-1]), tokens[-1], unlearned) == ("guten Morgen ja", END, 0)
    assert labels.window(segments[:1], "de") == (labels("guten Morgen", "de"), 0), "one clip is as ever"


def test_timestamps_stand_around_each_clip_and_at_the_start_of_one_that_is_cut(labels: Labels, tokenizer: Any) -> None:
    segments = [Segment(0.0, 1.0, "guten Morgen"), Segment(1.5, 2.02, "ja")]
    tokens, _ = labels.window(segments, "de", timestamps=True, cut_at=2.5)
    assert tokens[:3] == [START, GERMAN, TRANSCRIBE]
    shown = tokenizer.decode(tokens[3:-1], decode_with_timestamps=True)
    assert shown == "<|0.00|> guten Morgen<|1.00|><|1.50|> ja<|2.02|><|2.50|>"


def test_a_timestamp_is_worth_two_frames_whatever_their_length(tokenizer: Any) -> None:
    """Transformers goes on by frames: at twice the hop the same token stands for twice the time."""
    labels = Labels(tokenizer, "transcribe", multilingual=True, hop_length=320)
    tokens, _ = labels.window([Segment(0.0, 4.0, "ja")], "de", timestamps=True)
    assert tokens[-2] == FIRST_TIMESTAMP + 100


def test_a_prompt_is_fed_and_not_learned(labels: Labels, tokenizer: Any) -> None:
    tokens, unlearned = labels.window([Segment(0.0, 1.0, "ja")], "de", prompt="guten Morgen")
    assert tokens[0] == START_OF_PROMPT
    assert tokenizer.decode(tokens[1:unlearned]) == " guten Morgen"
    assert tokens[unlearned] == START
    item = {
        "waveform": np.ones(160, np.float32),
        "tokens": tokens,
        "unlearned": unlearned,
        "clips": 1,
        "audio_seconds": 0.01,
    }
    batch = Collator(END)([item])
    assert batch["decoder_input_ids"][0].tolist() == tokens[:-1]
    learned = [int(label) for label in batch["labels"][0] if label != IGNORED]
    assert learned == tokens[unlearned + 1 :], "nothing of the prompt, nor the start that stands behind it"


def test_a_prompt_takes_half_of_the_decoder_at_most_and_leaves_room_for_the_text(tokenizer: Any) -> None:
    labels = Labels(tokenizer, "transcribe", multilingual=True, max_tokens=32)
    long = " ".join(["Wort"] * 100)
    tokens, unlearned = labels.window([Segment(0.0, 1.0, "ja")], "de", prompt=long)
    assert (tokens[0], unlearned) == (START_OF_PROMPT, 16)
    full = " ".join(["ja"] * 24)
    tokens, _ = labels.window([Segment(0.0, 1.0, full)], "de", prompt=long)
    assert len(tokens) <= 32
    assert labels.window([Segment(0.0, 1.0, " ".join(["ja"] * 27))], "de", prompt=long)[1] == 0


# All of it.


def test_a_drawn_window_has_the_sound_and_the_label_of_its_clips(
    tmp_path: Path, make_wav: MakeWav, labels: Labels, tokenizer: Any
) -> None:
    paths = [str(make_wav(tmp_path / f"{number}.wav", seconds=1.0)) for number in range(4)]
    index = make_index(tmp_path / "index.arrow", [0] * 4, audio=paths, speaker=["anna"] * 4)
    clips = ClipDataset(index, [None], labels, 3.9, pause_seconds=(0.5, 0.5), seed=1)
    item = clips[Draw((1, 2), prompt=0)]
    assert (len(item["waveform"]), item["clips"]) == (2.5 * 16_000, 2)
    sound, _ = soundfile.read(paths[2], dtype="float32")
    np.testing.assert_array_equal(item["waveform"][24_000:], sound)
    shown = tokenizer.decode(item["tokens"])
    assert (
        shown
        == "<|startofprev|> text 0<|startoftranscript|><|de|><|transcribe|><|notimestamps|>text 1 text 2<|endoftext|>"
    )
    again, other = clips[Draw((0, 1), timestamps=True, cut=2)], clips[Draw((0, 1), epoch=1, timestamps=True, cut=2)]
    assert again["tokens"] == clips[Draw((0, 1), timestamps=True, cut=2)]["tokens"], "the same in a resumed run"
    assert len(again["waveform"]) == len(other["waveform"]) == 62_400, "up to the end of the window"


def test_an_unreadable_clip_of_a_window_is_named_and_the_others_are_learned(
    tmp_path: Path, make_wav: MakeWav, labels: Labels, tokenizer: Any
) -> None:
    paths = [str(make_wav(tmp_path / f"{number}.wav", seconds=1.0)) for number in range(3)]
    Path(paths[1]).unlink()
    index = make_index(tmp_path / "index.arrow", [0] * 3, audio=paths, speaker=["anna"] * 3)
    clips = ClipDataset(index, [None], labels, 6.0, pause_seconds=(0.5, 0.5), seed=1)
    item = clips[Draw((0, 1, 2))]
    assert (item["dropped"], item["clips"]) == ([("clip 1", "no such file")], 2)
    assert tokenizer.decode(item["tokens"], skip_special_tokens=True) == "text 0 text 2"
    assert len(item["waveform"]) == 2.5 * 16_000
    assert "dropped" not in clips[Draw((0,), timestamps=True, cut=1)], "the clip that is only cut has its own turn"


def test_clips_that_augmentation_made_longer_still_fit(tmp_path: Path, make_wav: MakeWav, labels: Labels) -> None:
    from whisper_train.augment.augmenter import augmenter_for
    from whisper_train.job_augment import Augment

    paths = [str(make_wav(tmp_path / f"{number}.wav", seconds=1.0)) for number in range(3)]
    index = make_index(tmp_path / "index.arrow", [0] * 3, audio=paths, speaker=["anna"] * 3)
    slower = augmenter_for([Augment.model_validate({"speed": {"factor": [0.5, 0.5]}})], index, [None], 1)
    clips = ClipDataset(index, [None], labels, 4.0, augmenter=slower, pause_seconds=(0.2, 0.5), seed=1)
    assert len(clips[Draw((0, 1, 2))]["waveform"]) <= 4 * 16_000
    assert len(clips[Draw((0,))]["waveform"]) == pytest.approx(2 * 16_000, abs=100)
