"""Transcription: the same text for the same sound, whatever it is batched with; long recordings whole; none lost."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.listening import WINDOW_SECONDS, Sounds, listen, make_whisper, tone, tones, write_clips
from whisper_train.data.index import Index
from whisper_train.evaluation.passages import Clips
from whisper_train.evaluation.transcribe import Decoding, drop_made_up, make_batches, transcribe

SHORT = (0.5, 1.9, 0.3, 1.2, 2.0, 0.8, 1.5)
LONG = (4.5, 2.5)


@pytest.fixture(scope="module")
def whisper() -> Iterator[tuple[Any, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for so small a model more of them only wait for each other
    yield make_whisper()
    torch.set_num_threads(before)


def texts(lines: dict[int, dict[str, Any]]) -> list[str]:
    return [lines[position]["hypothesis"] for position in sorted(lines)]


# What cannot be heard.


def test_a_clip_that_vanished_counts_as_not_recognized_and_the_others_as_ever(
    whisper: tuple[Any, Any], tmp_path: Path
) -> None:
    index = write_clips(tmp_path / "clips", SHORT)
    clips = Clips(index, [None], range(len(index)))
    before = texts(listen(whisper, clips, 3))
    (tmp_path / "clips" / "3.wav").unlink()
    (tmp_path / "clips" / "5.wav").write_bytes(b"no sound")
    with pytest.warns(UserWarning, match=r"3\.wav: no such file; counted as not recognized"):
        lines = listen(whisper, clips, 3)
    assert texts(lines) == [text if number not in (3, 5) else "" for number, text in enumerate(before)]
    assert lines[3]["compute_seconds"] == 0


def test_a_batch_of_nothing_but_unreadable_clips_is_transcribed_as_nothing(whisper: tuple[Any, Any]) -> None:
    assert texts(listen(whisper, Sounds([None, None]), 2)) == ["", ""]


def test_nothing_to_transcribe_is_no_batch(whisper: tuple[Any, Any]) -> None:
    assert listen(whisper, Sounds([]), 4) == {}
    assert make_batches([], WINDOW_SECONDS, 4) == []


# Batches.


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_passage_is_in_one_batch_longest_first(batch_size: int) -> None:
    batches = make_batches(SHORT, WINDOW_SECONDS, batch_size)
    lengths = [SHORT[number] for batch in batches for number in batch]
    assert lengths == sorted(SHORT, reverse=True)
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(SHORT) // batch_size)


def test_passages_of_equal_length_keep_their_order() -> None:
    assert make_batches([1.0] * 5, WINDOW_SECONDS, 2) == [[0, 1], [2, 3], [4]]


def test_long_and_short_ones_do_not_mix_and_long_ones_count_as_their_windows() -> None:
    seconds = [2.0, 2.1, 4.0, 0.5, 7.9, 8.1, 100.0]
    batches = make_batches(seconds, WINDOW_SECONDS, 8)
    assert batches == [[6], [5], [4, 2], [1], [0, 3]], "50, 5, 4 and 2, 2 windows of at most 8 at a time"


def test_processes_share_the_batches_and_none_is_done_twice(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(*SHORT, *LONG))
    whole = listen(whisper, sounds, 3)
    shares = [listen(whisper, sounds, 3, share=(number, 3)) for number in range(3)]
    assert sorted(position for share in shares for position in share) == sorted(whole)
    assert texts(shares[0] | shares[1] | shares[2]) == texts(whole)


def test_what_is_done_is_left_out_and_changes_nothing_of_the_rest(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(*SHORT))
    whole = listen(whisper, sounds, 2)
    first = [
        line["position"] for line in next(iter(transcribe(*whisper, sounds, Decoding(task="transcribe", batch_size=2))))
    ]
    rest = listen(whisper, sounds, 2, done=set(first))
    assert not rest.keys() & set(first)
    assert texts(rest) == [whole[position]["hypothesis"] for position in sorted(rest)]


# Texts.


def test_a_batch_gives_the_texts_that_one_at_a_time_gives(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(*SHORT))
    alone = texts(listen(whisper, sounds, 1))
    assert len(set(alone)) >= len(SHORT) - 1, "or this would prove nothing"
    assert texts(listen(whisper, sounds, 4)) == alone
    assert texts(listen(whisper, sounds, 100)) == alone


def test_data_loading_processes_change_nothing(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(*SHORT))
    alone = texts(listen(whisper, sounds, 3))
    batches = transcribe(*whisper, sounds, Decoding(task="transcribe", batch_size=3, workers=1))
    assert texts({line["position"]: line for batch in batches for line in batch}) == alone


def test_each_clip_of_a_batch_is_heard_in_its_own_language(whisper: tuple[Any, Any]) -> None:
    waveforms = [tone(1.0, 300), tone(1.0, 300), tone(1.5, 500), tone(1.5, 500)]
    mixed = texts(listen(whisper, Sounds(waveforms, ["de", "fr", "fr", "de"]), 4))
    assert mixed[0] != mixed[1], "or the language would not matter"
    assert mixed == [
        *texts(listen(whisper, Sounds(waveforms[:2], ["de", "fr"]), 1)),
        *texts(listen(whisper, Sounds(waveforms[2:], ["fr", "de"]), 1)),
    ]


def test_an_english_only_model_is_asked_for_no_language(whisper: tuple[Any, Any]) -> None:
    """generate() refuses a language where the model knows but one."""
    model, processor = copy.deepcopy(whisper[0]), whisper[1]
    model.generation_config.is_multilingual = False
    for name in ("lang_to_id", "task_to_id"):
        delattr(model.generation_config, name)
    sounds = Sounds(tones(1.0, 0.5, 5.0), ["en"] * 3)
    assert len(texts(listen((model, processor), sounds, 2))) == 3


def test_beams_and_length_are_those_that_are_asked_for(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(1.0, 1.5))
    short = transcribe(*whisper, sounds, Decoding(task="transcribe", batch_size=2, max_length=6))
    beams = transcribe(*whisper, sounds, Decoding(task="transcribe", batch_size=2, beams=3))
    plain = texts(listen(whisper, sounds, 2))
    assert all(len(line["hypothesis"]) < len(text) for line, text in zip(next(short), plain[::-1], strict=True))
    assert [line["hypothesis"] for line in next(beams)] != plain[::-1]


def test_a_model_that_writes_time_stamps_unasked_hears_a_short_clip_once(whisper: tuple[Any, Any]) -> None:
    """generate() would go on after the last pair of stamps: with other clips than were encoded, or for ever after 0."""
    model, processor = copy.deepcopy(whisper[0]), whisper[1]
    first_stamp = model.generation_config.no_timestamps_token_id + 1
    stamps = [*range(first_stamp, first_stamp + 20, 4), model.generation_config.eos_token_id]
    model.generation_config.suppress_tokens = sorted({*range(model.config.vocab_size)} - {*stamps, 40, 50, 60})
    sounds = Sounds(tones(*(0.2 + 0.1 * number for number in range(12))))
    alone = texts(listen((model, processor), sounds, 1))
    assert texts(listen((model, processor), sounds, 12)) == alone
    assert len(set(alone)) > 1, "or this would prove nothing"


# Long recordings.


def test_long_recordings_are_decoded_window_after_window(whisper: tuple[Any, Any]) -> None:
    """A text of the whole of it: the first window alone has another one."""
    heard: list[int] = []
    model = whisper[0]
    hook = model.model.encoder.register_forward_hook(lambda *call: heard.append(call[2].last_hidden_state.shape[0]))
    try:
        listen(whisper, Sounds([tone(7.5, 300)]), 4)
    finally:
        hook.remove()
    assert len(heard) >= 4, "7.5 s are no fewer than four windows of 2 s"


def test_long_recordings_give_the_same_text_again_though_their_decoding_draws(whisper: tuple[Any, Any]) -> None:
    sounds = Sounds(tones(*LONG))
    torch.manual_seed(1)
    first, drawn = texts(listen(whisper, sounds, 8)), torch.rand(1)
    torch.manual_seed(2)
    assert texts(listen(whisper, sounds, 8)) == first
    torch.manual_seed(1)
    assert torch.rand(1) == drawn, "what others draw afterwards is what they would have drawn"


def test_long_ones_leave_the_short_ones_as_they_are(whisper: tuple[Any, Any]) -> None:
    both = listen(whisper, Sounds(tones(*SHORT, *LONG)), 8)
    alone = listen(whisper, Sounds(tones(*SHORT)), 8)
    assert texts(both)[: len(SHORT)] == texts(alone)


# Lines.


def test_the_time_of_a_batch_is_shared_by_the_audio_of_its_clips(whisper: tuple[Any, Any]) -> None:
    lines = listen(whisper, Sounds([tone(1.5, 300), None, tone(0.5, 400)]), 3)
    assert lines[0]["compute_seconds"] == pytest.approx(3 * lines[2]["compute_seconds"], abs=2e-4)
    assert lines[0]["compute_seconds"] > 0


def test_a_line_says_all_that_is_known_of_its_clip(whisper: tuple[Any, Any], tmp_path: Path) -> None:
    columns: dict[str, Any] = {"speaker": ["anna", ""], "recording": ["r1", ""], "tags": [{"accent": "bavarian"}, {}]}
    index = write_clips(tmp_path / "cache" / "clips", [1.0, 0.5], **columns)
    index = Index(index.path, cache=tmp_path / "cache")
    line = listen(whisper, Clips(index, [None], [0, 1]), 2)[0]
    assert line.pop("compute_seconds") > 0
    assert isinstance(line.pop("hypothesis"), str)
    assert line == {
        "clip": "0.wav",
        "position": 0,
        "reference": "text 0",
        "language": "de",
        "speaker": "anna",
        "recording": "r1",
        "tags": {"accent": "bavarian"},
        "source": 0,
        "seconds": 1.0,
        "audio": "cache:clips/0.wav",
        "row_group": -1,
        "row": -1,
        "audio_hash": 1,
    }


@pytest.mark.parametrize(
    ("hop_length", "frames"),
    [(160, 1_000), (320, 500)],  # ten seconds each; transformers takes every frame for a hundredth of a second
)
def test_what_is_written_about_the_last_tenth_of_a_second_is_dropped(hop_length: int, frames: int) -> None:
    at = hop_length / 160  # seconds of sound that stand behind a second in what generate() returns
    segments = [{"start": start / at, "tokens": []} for start in (0.0, 9.88, 9.92, 10.0)]
    assert drop_made_up(segments, frames, hop_length) == segments[:2]
