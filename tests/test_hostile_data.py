"""Recordings, transcripts and tables by strangers: a counted drop or one message, never a hang or all of the memory."""

import io
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.conftest import MakeWav
from tests.test_audit import Audited, make_job, make_manifest
from whisper_train.audio import BLOCK_VALUES, SAMPLE_RATE, decode
from whisper_train.data.sources import read_source
from whisper_train.data.tables import MAX_CHARACTERS
from whisper_train.errors import UserError
from whisper_train.job_data import Source
from whisper_train.paths import open_regular

TEN_GIGABYTES = 10 * 10**9


def header(rate: int, channels: int, size: int, *, bits: int = 16, kind: int = 1) -> bytes:
    """What stands before `size` bytes of samples in a WAV file."""
    frame = channels * bits // 8
    facts = struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + facts + b"data" + struct.pack("<I", size)


def sparse(path: Path, start: bytes, size: int = TEN_GIGABYTES) -> Path:
    """A file that begins with `start` and is `size` bytes of nothing, which take no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def texts(place: Path, **source: Any) -> list[str]:
    return [clip.text for clip in read_source(Source(**source), 0, language="de", cache=place / "cache")]


def audited(place: Path, clips: list[tuple[str, str]]) -> Audited:
    """The audit of `clips` to train on; one other clip is evaluated."""
    train = make_manifest(place / "train.jsonl", clips)
    evaluated = make_manifest(place / "eval.jsonl", [("evaluated.wav", "one")])
    soundfile.write(place / "evaluated.wav", 0.3 * np.sin(np.arange(8_000)), 16_000)
    return Audited(make_job([train], [evaluated], max_dropped_fraction=1), place / "data")


# Recordings.


def test_a_pipe_or_a_device_is_never_waited_for(place: Path) -> None:
    os.mkfifo(place / "pipe.wav")
    (place / "zero.wav").symlink_to("/dev/zero")
    for path in (place / "pipe.wav", place / "zero.wav", Path("/dev/zero"), place):
        with pytest.raises(ValueError, match="no regular file"):
            decode(path)
        with pytest.raises(OSError, match="no regular file"):
            open_regular(path)


def test_the_name_of_a_file_says_nothing_of_its_format(place: Path, make_wav: MakeWav) -> None:
    """A name that ends in .raw or .sd2 is no reason to fail, or to read the file beside it."""
    expected = decode(make_wav(place / "a.flac"))
    for name in ("a.raw", "a.sd2", "a.mp3", "a.wav", "a"):
        (place / name).write_bytes((place / "a.flac").read_bytes())
        np.testing.assert_array_equal(decode(place / name), expected)


def test_nothing_left_after_resampling_is_told(place: Path) -> None:
    """A thousand samples at 2 GHz are less than one at 16 kHz."""
    (place / "a.wav").write_bytes(header(2**31 - 1, 1, 2_000) + b"\1\2" * 1_000)
    with pytest.raises(ValueError, match="holds no samples"):
        decode(place / "a.wav")
    for rate in (48_000, 96_000):
        (place / "a.wav").write_bytes(header(rate, 1, 2) + b"\1\2")
        assert usable(place / "a.wav")


def usable(path: Path) -> bool:
    """Whether decoding gives samples or says that there are none."""
    try:
        return len(decode(path)) > 0
    except ValueError as error:
        return str(error) == "holds no samples"


def test_bytes_that_are_cut_off_print_no_traceback(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Audio out of Parquet comes as bytes: for an AIFF that is cut off soundfile printed one for each clip."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1_600), 16_000, format="AIFF")
    with pytest.raises(ValueError, match=r"cannot be decoded|holds no samples"):
        decode(file.getvalue()[:44])
    assert capsys.readouterr() == ("", "")


def test_samples_louder_than_any_sound_are_refused(place: Path) -> None:
    """Their power would be infinite and every feature of the clip no number."""
    for loud, good in ((1e30, False), (32_768.0, True)):
        soundfile.write(place / "a.wav", np.full(1_000, loud), 16_000, subtype="FLOAT")
        if good:
            assert decode(place / "a.wav").max() == loud
        else:
            with pytest.raises(ValueError, match="louder than any sound"):
                decode(place / "a.wav")


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_blocks_change_no_sample(place: Path, rate: int) -> None:
    """Read piece by piece, a long recording of many channels is what it was when read at once."""
    import soxr

    chance, channels = np.random.default_rng(0), 6
    samples = chance.normal(0, 0.1, (BLOCK_VALUES // channels * 2 + 77, channels)).astype(np.float32)
    soundfile.write(place / "a.wav", samples, rate, subtype="FLOAT")

    expected = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)

    np.testing.assert_array_equal(decode(place / "a.wav"), expected)


def peak_megabytes(code: str, *arguments: object) -> int:
    """By how much the memory of a process of its own grows while it runs the function `work` of `code`."""
    program = (
        "import resource, sys\nmeter = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        f"{code}\nbefore = meter()\nwork()\nprint(meter() - before)"
    )
    words = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600)
    return int(done.stdout.split()[-1])


DECODE = """
import soxr, soundfile
from pathlib import Path
from whisper_train.audio import decode
work = lambda: decode(Path(sys.argv[1]), float(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_decompression_bomb_takes_the_memory_of_what_is_kept(place: Path) -> None:
    """Ten minutes of 8 channels at 96 kHz are 1.8 GB as numbers, in 2 MB of FLAC; 38 MB of them are kept."""
    with soundfile.SoundFile(place / "bomb.flac", "w", 96_000, 8) as file:
        for _ in range(60):
            file.write(np.zeros((960_000, 8), np.int16))
    assert (place / "bomb.flac").stat().st_size < 2**22
    assert peak_megabytes(DECODE, place / "bomb.flac", 4 * 3600) < 150
    assert peak_megabytes(DECODE, place / "bomb.flac", 31) < 50


@pytest.mark.slow
def test_a_header_that_lies_takes_no_memory(place: Path) -> None:
    sparse(place / "four.wav", header(96_000, 8, 4 * 10**9, bits=32, kind=3), 4 * 10**9)
    assert peak_megabytes(DECODE, place / "four.wav", 31) < 60


def test_a_file_outside_the_data_folder_is_dropped(
    place: Path, make_wav: MakeWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By .., by an absolute path or by a link: whose recording it is, is not the table's to say."""
    data = place / "data-set"
    make_wav(place / "private.wav")
    make_wav(data / "good.wav", pitch=300)
    make_wav(place / "data-set-2" / "near.wav", pitch=310)
    (data / "link.wav").symlink_to(place / "private.wav")
    (data / "within.wav").symlink_to("good.wav")
    outside = ["../private.wav", str(place / "private.wav"), "link.wav", "../data-set-2/near.wav"]

    names = [*outside, "good.wav", "within.wav", str(data / "good.wav")]
    result = audited(data, [(name, f"text {number}") for number, name in enumerate(names)])

    assert result.dropped("train") == {"outside the data folder": 4, "duplicate": 2}
    assert {line["clip"] for line in result.named if line["reason"].startswith("outside")} == set(outside)
    monkeypatch.setenv("DATA_DIR", str(place))
    assert audited(data, [(name, "text") for name in outside]).kept("train") == [outside[0], outside[3]]


def test_only_files_outside_end_with_the_way_out(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "private.wav")
    (place / "set").mkdir()
    with pytest.raises(UserError, match=r"1 outside the data folder; DATA_DIR=<folder> in \.env allows another"):
        audited(place / "set", [("../private.wav", "a")])


# Transcripts.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\x00b", "control characters"),
        ("\x1b[2J\x1b]0;title\x07", "control characters"),
        ("half a pair \ud83d", "control characters"),
        ("one <|endoftext|> two", "special tokens in the text"),
        ("<|0.00|> one<|2.40|>", "special tokens in the text"),
        ("word " * 20_000, "too many tokens"),
        ("汉" * 100_000, None),  # one word to the counter of this test
        ("Straße, naïve Ελλάδα русский עברית العربية हिन्दी 日本語 🎉👩‍👩‍👧 e\u0301", None),
        ("<b>bold</b> & [noise] <unk>", None),
        ("tab\tand\r\nlines", None),
    ],
)
def test_what_no_model_should_learn_is_dropped_and_named(
    place: Path, make_wav: MakeWav, text: str, reason: str | None
) -> None:
    make_wav(place / "a.wav", pitch=300)
    make_wav(place / "b.wav", pitch=310)

    result = audited(place, [("a.wav", text), ("b.wav", "good")])

    assert result.dropped("train") == ({reason: 1} if reason else {})
    assert len(result.named) == (1 if reason else 0)


def test_names_that_are_no_text_are_dropped_and_spelled_out(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "good.wav", pitch=300)
    result = audited(place, [("a\ud800.wav", "a"), ("b\x1b[2J.wav", "b"), ("c\x00.wav", "c"), ("good.wav", "d")])

    assert result.dropped("train") == {"unreadable": 3}
    assert [line["clip"] for line in result.named] == ["a\\ud800.wav", "b\\x1b[2J.wav", "c\\x00.wav"]


def test_a_file_whose_name_is_not_utf_8_is_dropped(place: Path, make_wav: MakeWav) -> None:
    folder = place / "clips"
    make_wav(folder / "good.wav").with_suffix(".txt").write_text("good")
    make_wav(folder / "bad.wav").rename(os.fsdecode(bytes(folder) + b"/\xff.wav"))

    job = make_job([], [make_manifest(place / "eval.jsonl", [(make_wav(place / "e.wav", pitch=400).name, "e")])])
    sources = {"train": [Source(folder=str(folder))]}
    job = job.model_copy(update={"data": job.data.model_copy(update={**sources, "max_dropped_fraction": 1.0})})

    assert Audited(job, place / "data").dropped("train") == {"unreadable": 1}


# Tables.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"audio": "a.wav", "audio": "b.wav", "text": "x"}\n', "x.jsonl:1: key 'audio' is given twice"),
        ("x.csv", b"audio,text,text\na.wav,b,c\n", "x.csv:1: column text is given twice; rename one"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl:1: not JSON"),
        ("x.jsonl", b'{"n": ' + b"9" * 5_000 + b"}", "x.jsonl:1: not JSON"),
        ("x.csv", "audio,text\na,b\n".encode("utf-16"), "x.csv: is not UTF-8 text"),
    ],
)
def test_tables_that_say_two_things_are_refused(place: Path, name: str, content: bytes, message: str) -> None:
    (place / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        texts(place, manifest=str(place / name))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tsv"])
def test_ten_gigabytes_without_a_line_are_refused_at_once(place: Path, name: str) -> None:
    starts = {"x.jsonl": '{"audio": "a", "text": "b"}\n', "x.csv": "audio,text\na,b\n", "x.tsv": "audio\ttext\na\tb\n"}
    sparse(place / name, starts[name].encode())
    started = time.process_time()

    with pytest.raises(UserError, match=rf"{name}:\d: a row has more than {MAX_CHARACTERS:,} characters"):
        texts(place, manifest=str(place / name))

    assert time.process_time() - started < 5


@pytest.mark.parametrize("field", ["open\n", 'a","b\n'])
def test_a_quotation_mark_that_is_never_closed_takes_no_memory(place: Path, field: str) -> None:
    (place / "x.csv").write_text('audio,text\na.wav,"' + field * (MAX_CHARACTERS // len(field) + 1))
    with pytest.raises(UserError, match=r"x\.csv:\d+: "):
        texts(place, manifest=str(place / "x.csv"))


READ = """
from pathlib import Path
from whisper_train.data.sources import read_source
from whisper_train.job_data import Source
import whisper_train.data.tables
def work():
    clips = read_source(Source(manifest=sys.argv[1]), 0, language="de", cache=Path("cache"))
    assert sum(1 for _ in clips) == int(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_memory_stays_flat_however_large_a_table_is(place: Path, name: str) -> None:
    """10 GB are read as 200 MB are: line by line."""
    line = json.dumps({"audio": "a.wav", "text": "w" * 1_000}) if name == "x.jsonl" else f"a.wav,{'w' * 1_000}"
    with (place / name).open("w") as file:
        file.write("audio,text\n" if name == "x.csv" else "")
        for _ in range(200):
            file.write(f"{line}\n" * 1_000)

    assert peak_megabytes(READ, place / name, 200_000) < 20


def test_a_table_or_a_transcript_that_is_a_pipe_or_a_device_is_refused(place: Path) -> None:
    os.mkfifo(place / "pipe.jsonl")
    (place / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.csv"):
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            texts(place, manifest=str(place / name))
    makers: dict[str, Callable[[Path], None]] = {"pipe": os.mkfifo, "folder": Path.mkdir}
    makers["zero"] = lambda path: path.symlink_to("/dev/zero")
    for kind, make in makers.items():
        folder = place / kind
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"")
        make(folder / "a.txt")
        with pytest.raises(UserError, match=r"a\.txt: cannot be read: is no regular file"):
            texts(place, folder=str(folder))
    os.mkfifo(place / "x.parquet")
    for pattern in ("*.parquet", "x.parquet", "[***.parquet"):
        with pytest.raises(UserError, match=r"no such Parquet file|no pattern"):
            texts(place, parquet=str(place / pattern))


def test_sound_and_text_of_every_odd_kind_are_each_counted(place: Path, make_wav: MakeWav) -> None:
    """The kinds that the issue names, in one audit: what can be heard is kept, the rest is dropped by name."""
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    for name, pitch, how in (
        ("24-bit.wav", 200, {"subtype": "PCM_24"}),
        ("8-khz.wav", 210, {"rate": 8_000}),
        ("96-khz.wav", 220, {"rate": 96_000}),
        ("6-channels.wav", 230, {"channels": 6}),
    ):
        make_wav(place / name, pitch=pitch, **how)
    make_wav(place / "wrong.flac", pitch=240).rename(place / "wrong-extension.mp3")
    make_wav(place / "whole.flac", pitch=250)
    (place / "truncated.flac").write_bytes((place / "whole.flac").read_bytes()[:-500])
    (place / "nothing.wav").write_bytes(b"")
    make_wav(place / "no-samples.wav", seconds=0)
    soundfile.write(place / "nan.wav", np.where(np.arange(16_000) == 5, np.nan, tone), 16_000, subtype="FLOAT")
    sparse(place / "three-hours.wav", header(16_000, 1, 3 * 3600 * 32_000), 44 + 3 * 3600 * 32_000)
    os.mkfifo(place / "pipe.wav")
    (place / "device.wav").symlink_to("/dev/zero")
    names = [path.name for path in sorted(place.iterdir()) if path.name != "whole.flac"]

    result = audited(place, [(name, "text") for name in names])

    kept = {"24-bit.wav", "8-khz.wav", "96-khz.wav", "6-channels.wav", "wrong-extension.mp3"}
    assert set(result.kept("train")) == kept
    reasons = {line["clip"]: line["reason"] for line in result.named}
    assert reasons.pop("three-hours.wav") == "too long"
    assert reasons.pop("device.wav") == "outside the data folder"
    assert reasons == dict.fromkeys(
        ("truncated.flac", "nothing.wav", "no-samples.wav", "nan.wav", "pipe.wav"), "unreadable"
    )


def test_reading_leaves_no_file_open(place: Path, make_wav: MakeWav) -> None:
    make_wav(place / "a.wav")
    (place / "broken.wav").write_bytes(b"RIFF")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        decode(place / "a.wav")
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode(place / "broken.wav")
    assert len(os.listdir("/proc/self/fd")) == before
