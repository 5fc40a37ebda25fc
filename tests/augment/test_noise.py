"""Noise: from where it comes, that a folder is looked at before training starts, and what a babble is made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.augment.signals import augmenter, band_power, decibels, read
from tests.conftest import MakeJob, MakeWav, RunCli
from tests.evaluation.listening import write_clips
from whisper_train.audio import SAMPLE_RATE
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import mean_power
from whisper_train.augment.noise import add_noise, babble, pink_noise, read_crop, white_noise
from whisper_train.augment.voices import Voices, block_starts
from whisper_train.data.clip import Clip
from whisper_train.data.index import Index, write_index
from whisper_train.data.read import AudioReader
from whisper_train.errors import UserError


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Wrong input.


@pytest.mark.parametrize("where", ["data.augment", "data.train.0.augment", "data.eval.eval.0.augment"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such folder; its path is relative to the job file"),
        ({}, "holds no recording of noise"),
        ({"notes.txt": b"street"}, "holds no recording of noise"),
        ({"street.wav": b"no sound"}, "cannot be read"),
    ],
)
def test_a_folder_without_noise_is_told_before_anything_is_read(
    where: str, content: dict[str, bytes] | None, says: str, tmp_path: Path, make_job: MakeJob, run_cli: RunCli
) -> None:
    if content is not None:
        (tmp_path / "noise").mkdir()
        for name, held in content.items():
            (tmp_path / "noise" / name).write_bytes(held)
    (tmp_path / "clips.jsonl").write_text("")
    effects = {"augment": {"noise": {"folder": "noise"}}}
    source: dict[str, Any] = {"manifest": "clips.jsonl"}
    data: dict[str, Any] = {"train": [source], "eval": [source]}
    if where == "data.augment":
        data |= effects
    else:
        data[where.split(".")[1]] = [source | effects]
    result = run_cli("train", make_job(data))
    assert result.exit_code == 2
    assert f"{where}.noise.folder: {tmp_path / 'noise'}" in result.output
    assert says in result.output


def test_an_empty_recording_is_told_too(tmp_path: Path) -> None:
    from whisper_train.augment.noise import check_recordings

    soundfile.write(tmp_path / "empty.wav", np.zeros(0), SAMPLE_RATE)
    with pytest.raises(UserError, match=r"augment\.noise\.folder: .*empty\.wav: holds no samples"):
        check_recordings(str(tmp_path), "augment.noise.folder")


def test_check_warns_of_a_missing_folder(tmp_path: Path, make_job: MakeJob, run_cli: RunCli) -> None:
    data = {"augment": {"noise": {"folder": "noise"}}, "train": [{"folder": "a"}], "eval": [{"folder": "b"}]}
    result = run_cli("check", make_job(data))
    assert f"# warning: data.augment.noise.folder: {tmp_path / 'noise'}: no such folder" in result.output
    assert result.exit_code == 0


def test_a_set_of_one_clip_has_no_babble(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="babble is made of other clips, and clips holds 1; take babble out"):
        augmenter(write_clips(tmp_path, [1.0]), noise={"kinds": ["babble"]})


# The kinds.


def test_white_noise_is_as_loud_in_every_band_and_pink_loses_3_db_an_octave() -> None:
    white, pink = white_noise(2**18, chance()), pink_noise(2**18, chance())
    octaves = [(125.0 * 2**number, 250.0 * 2**number) for number in range(6)]
    in_white = [decibels(band_power(white, *octave), band_power(white, 125, 250)) for octave in octaves]
    in_pink = [decibels(band_power(pink, *octave), band_power(pink, 125, 250)) for octave in octaves]
    assert in_white == pytest.approx([3.01 * number for number in range(6)], abs=0.7), "twice as wide, twice as much"
    assert in_pink == pytest.approx([0.0] * 6, abs=0.7)


@pytest.mark.parametrize("samples", [1, 160, 20_001])
def test_noise_is_as_long_as_its_clip(samples: int, tmp_path: Path, make_wav: MakeWav) -> None:
    short = make_wav(tmp_path / "a.wav", seconds=0.3, rate=44_100, channels=2)
    assert len(white_noise(samples, chance())) == len(pink_noise(samples, chance())) == samples
    assert len(read_crop(short, samples, chance())) == samples
    assert len(babble([np.ones(400, np.float32), np.ones(50_000, np.float32)], samples, chance())) == samples


def test_a_recording_is_cropped_at_any_place_and_a_short_one_is_looped(tmp_path: Path) -> None:
    steps = np.repeat(np.arange(10) / 20 + 0.1, SAMPLE_RATE)
    soundfile.write(tmp_path / "steps.wav", steps, SAMPLE_RATE)
    found = {round(float(np.median(read_crop(tmp_path / "steps.wav", 4_000, chance(seed)))), 2) for seed in range(60)}
    assert len(found) >= 9
    assert np.abs(read_crop(tmp_path / "steps.wav", 400_000, chance())).min() > 0.05, "no silence after its end"


def test_voices_of_a_babble_are_equally_loud() -> None:
    loud, quiet = chance(1).standard_normal(16_000), 0.001 * chance(2).standard_normal(16_000)
    mixed = babble([loud.astype(np.float32), quiet.astype(np.float32)], 16_000, chance())
    assert mean_power(mixed) == pytest.approx(2.0, rel=0.1)
    assert not babble([], 100, chance()).any()
    assert not babble([np.zeros(100, np.float32)], 100, chance()).any()


def test_silence_stays_silent_and_silent_noise_changes_nothing() -> None:
    silence, hiss = np.zeros(1_600, np.float32), white_noise(1_600, chance())
    for speech, noise in ((silence, hiss), (hiss, silence)):
        assert np.array_equal(add_noise(speech, noise, (5.0, 5.0), Draws(chance()), lambda wave: wave), speech)


# Whose voices.


def test_a_babble_holds_other_clips_and_other_speakers_first(tmp_path: Path) -> None:
    speakers = ["anna"] * 3 + ["bert"] * 3
    index = write_clips(tmp_path, [0.5] * 6, speaker=speakers)
    voices = Voices(index, AudioReader([None]))
    own = [read(index, position) for position in range(6)]
    heard = [voice for seed in range(40) for voice in voices.read(0, 1, chance(seed))]
    names = [next(at for at, wave in enumerate(own) if np.array_equal(wave, voice)) for voice in heard]
    assert 0 not in names
    assert set(names) >= {3, 4, 5}
    assert np.mean([name >= 3 for name in names]) > 0.75, "the other speaker, where one was drawn"


def test_a_clip_that_vanished_is_missing_from_the_babble(tmp_path: Path) -> None:
    index = write_clips(tmp_path, [0.5] * 3)
    (tmp_path / "1.wav").unlink()
    voices = Voices(index, AudioReader([None]))
    assert {len(voices.read(0, 4, chance(seed))) for seed in range(20)} == {1}


def test_nobody_is_heard_twice_in_a_babble(tmp_path: Path) -> None:
    voices = Voices(write_clips(tmp_path, [0.5] * 4), AudioReader([None]))
    for seed in range(20):
        heard = [voice.tobytes() for voice in voices.read(1, 5, chance(seed))]
        assert len(set(heard)) == len(heard) > 0


def test_of_parquet_voices_come_from_the_same_row_group(tmp_path: Path, make_wav: MakeWav) -> None:
    """A voice from elsewhere would cost reading its whole group."""
    rows = []
    for number in range(12):
        wav = make_wav(tmp_path / f"{number}.wav", pitch=200.0 + 20 * number)
        rows.append({"audio": {"bytes": wav.read_bytes(), "path": wav.name}, "text": str(number)})
    for name, part in (("a", rows[:8]), ("b", rows[8:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{name}.parquet", row_group_size=4)
    clips = [
        Clip(
            str(number),
            str(tmp_path / ("a.parquet" if number < 8 else "b.parquet")),
            "",
            "de",
            number // 4 % 2,
            number % 4,
        )
        for number in range(12)
    ]
    write_index(
        tmp_path / "clips.arrow",
        [
            {"id": one.id, "audio": one.audio, "text": "", "language": "de", "speaker": "", "source": 0}
            | {"row_group": one.row_group, "row": one.row, "seconds": 0.5, "audio_hash": number}
            for number, one in enumerate(clips)
        ],
    )
    voices = Voices(Index(tmp_path / "clips.arrow", cache=None), AudioReader(["audio"]))
    assert block_starts(voices.index).tolist() == [0, 4, 8, 12]
    assert [voices.neighbours(position) for position in (0, 3, 4, 7, 8, 11)] == [(0, 4)] * 2 + [(4, 8)] * 2 + [
        (8, 12)
    ] * 2
    assert len(voices.read(5, 3, chance())) == 3
