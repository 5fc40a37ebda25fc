"""Random job files, manifests and audio: `python -m tests.fuzzing 20000`, or a few of them in tests/test_fuzzing.py.

A case fails on an exception that is no UserError, on more than 10 s, on a command that is run, and on a file opened for
writing anywhere but in the folder of the case.
"""

import faulthandler
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import soundfile
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.test_bad_input import GOOD_JOB
from whisper_train.audio import decode
from whisper_train.cli import main
from whisper_train.data.audit import DropLog, Limits, Readers, audit_set, drop_repeats
from whisper_train.data.bounds import folders_of
from whisper_train.data.sources import read_source
from whisper_train.errors import UserError
from whisper_train.job import Job
from whisper_train.job_data import Data, Source
from whisper_train.training_settings import KNOWN_KEYS

CPU_SECONDS, WALL_SECONDS = 10.0, 120.0  # of one case; the second is for what waits, on a machine that is busy too
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
COMMANDS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn", "socket.connect")


class Watch:
    """Sees what the program opens for writing, changes or runs while a case goes on."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.wrong: list[str] = []
        sys.addaudithook(self.look)

    def look(self, event: str, given: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, mode, flags = given
            written = flags & WRITES if isinstance(flags, int) else set(str(mode)) & set("wax+")
            if written and isinstance(path, str | bytes) and not self.within(os.fsdecode(path)):
                self.wrong.append(f"opened {path!r} for writing")
        elif (event in COMMANDS and given[0] != "nvidia-smi") or (
            event in CHANGES and not self.within(os.fsdecode(given[event == "os.symlink"]))
        ):
            self.wrong.append(f"{event} {given!r}")

    def within(self, path: str) -> bool:
        return path == os.devnull or os.path.realpath(path).startswith(f"{self.folder}/")


class Hang(Exception):
    """A case took too long."""


@contextmanager
def case(watch: Watch) -> Iterator[Path]:
    """An empty working directory, watched, with a limit of time."""
    cpu, wall = time.process_time(), time.monotonic()

    def look_at_clock(number: int, frame: FrameType | None) -> None:
        if time.process_time() - cpu > CPU_SECONDS or time.monotonic() - wall > WALL_SECONDS:
            raise Hang(f"{time.process_time() - cpu:.1f} s of processor time, {time.monotonic() - wall:.1f} s in all")

    with tempfile.TemporaryDirectory() as name:
        folder, before, handler = Path(name).resolve(), Path.cwd(), signal.signal(signal.SIGALRM, look_at_clock)
        os.chdir(folder)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        faulthandler.dump_traceback_later(2 * WALL_SECONDS, exit=True)  # where C code never comes back
        watch.folder, watch.wrong = str(folder), []
        try:
            yield folder
        finally:
            watch.folder = None
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            os.chdir(before)
    assert not watch.wrong, watch.wrong


# Text and numbers that have broken readers before.
PIECES: tuple[str, ...] = (
    "&a ",
    "*a",
    "<<: *a\n",
    "!!python/object/apply:os.system [touch x]",
    "!!binary x",
    "!!set {a}",
)
PIECES += ("\x00", "\x1b[2J", "\t", "\r", "\ufeff", "\u2028", "[" * 60, "{" * 60, "? ", "- ", "|\n", ">\n", "---\n")
PIECES += ("${HF_TOKEN}", "${X}", "${X:-y}", "~root/", "~nobody/", "../" * 9, "/dev/zero", "job:job", "9" * 5000)
PIECES += (
    "1:" * 50 + "1",
    "0x" + "f" * 50,
    "1e999",
    ".nan",
    ".inf",
    "2001-99-99",
    "x" * 5000,
    "é" * 300,
    "🎉",
    "%YAML",
)
PIECES += ('"', '""', '"\n', ",", "\n", "\\ud800", "\\u0000", "NaN", "null", "<|endoftext|>", "'", "}", "]", ": ", "#")
TEXT = st.one_of(st.sampled_from(PIECES), st.text(max_size=20))
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63, -(2**63), 2**200, 0, -1, 1e308]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
KEYS = st.one_of(
    st.sampled_from([*Job.model_fields, *Data.model_fields, *Source.model_fields, *KNOWN_KEYS, "extends"]), TEXT
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested mappings and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_in(item, (*path, key))


@st.composite
def job_files(draw: st.DrawFn) -> bytes:
    """A good job with some values replaced, some keys added, and some text put in between."""
    job = json.loads(json.dumps(GOOD_JOB))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = job
        path = draw(st.sampled_from(list(places_in(job))))
        for key in path[:-1]:
            place = place[key]
        added = draw(KEYS)
        here = place[path[-1]] if path else place
        if isinstance(here, dict) and draw(st.booleans()):
            here[added] = draw(VALUES)
        elif path:
            place[path[-1]] = draw(VALUES)
    text = yaml.safe_dump(job, allow_unicode=True, default_flow_style=draw(st.booleans())).encode("utf-8", "replace")
    return draw(spoiled(text)) if draw(st.booleans()) else text


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with pieces put in, bytes changed, or its end cut off."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["insert", "change", "cut", "repeat"])):
            case "insert":
                content = content[:at] + draw(TEXT).encode("utf-8", "surrogatepass") + content[at:]
            case "change":
                content = content[:at] + draw(st.binary(max_size=4)) + content[at + 4 :]
            case "cut":
                content = content[:at]
            case "repeat":
                content = content[:at] + content[at : at + 40] * draw(st.integers(0, 50)) + content[at:]
    return content


ROW = st.dictionaries(
    st.one_of(st.sampled_from(["audio", "text", "speaker", "split", "accent"]), TEXT), VALUES, max_size=5
)
FILES = st.sampled_from(["a.wav", "b.wav", "pipe.wav", "zero.wav", "../a.wav", "/etc/passwd", "broken.wav", "gone.wav"])
GOOD_ROW = st.fixed_dictionaries({"audio": FILES, "text": TEXT})


@st.composite
def manifests(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix = draw(st.sampled_from([".jsonl", ".csv", ".tsv"]))
    rows = draw(st.lists(GOOD_ROW if draw(st.booleans()) else st.one_of(GOOD_ROW, ROW), min_size=1, max_size=5))
    if suffix == ".jsonl":
        text = "".join(json.dumps(row, default=str, ensure_ascii=draw(st.booleans())) + "\n" for row in rows)
    else:
        mark = "\t" if suffix == ".tsv" else ","
        lines = [
            ["audio", "text", "speaker"],
            *([str(row.get(key, "")) for key in ("audio", "text", "x")] for row in rows),
        ]
        text = "".join(mark.join(line) + "\n" for line in lines)
    content = text.encode("utf-8", "surrogatepass")
    return suffix, draw(spoiled(content)) if draw(st.booleans()) else content


@cache
def recordings() -> tuple[bytes, ...]:
    """A short tone in every format and kind of sample."""
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(1_600) / 16_000)
    kinds = [("WAV", one) for one in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")]
    kinds += [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
    kinds += [("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("AU", "FLOAT")]
    made = []
    for kind, sample in kinds:
        for channels in (1, 2):
            file = io.BytesIO()
            soundfile.write(file, np.tile(tone[:, None], (1, channels)), 16_000, format=kind, subtype=sample)
            made.append(file.getvalue())
    return tuple(made)


@st.composite
def audio_files(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=400))
    content = draw(st.sampled_from(recordings()))
    for _ in range(draw(st.integers(0, 3))):  # numbers of the header: lengths, rates, channels
        at, size = draw(st.integers(0, 120)), draw(st.sampled_from([1, 2, 4, 8]))
        number = draw(st.sampled_from([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1]))
        content = content[:at] + (number % 2 ** (8 * size)).to_bytes(size, "little") + content[at + size :]
    return draw(spoiled(content))


def try_job(watch: Watch, content: bytes) -> str:
    with case(watch) as folder:
        (folder / "job.yaml").write_bytes(content)
        result = CliRunner().invoke(main, ["check", "job.yaml"], catch_exceptions=False)
        assert result.exit_code in (0, 2), result.output
        assert "Traceback" not in result.output
        assert (result.exit_code == 2) == result.stderr.startswith("error: "), result.output
        assert sorted(os.listdir(folder)) == ["job.yaml"]
        return "taken" if result.exit_code == 0 else "refused"


def try_manifest(watch: Watch, manifest: tuple[str, bytes]) -> str:
    """What the audit does with a table of clips, apart from the processes it reads them in."""
    with case(watch) as folder:
        suffix, content = manifest
        data = folder / "data"
        data.mkdir()
        for name, content_of_it in (("a.wav", recordings()[0]), ("b.wav", recordings()[2]), ("broken.wav", b"RIFF")):
            (data / name).write_bytes(content_of_it)
        os.mkfifo(data / "pipe.wav")
        (data / "zero.wav").symlink_to("/dev/zero")
        (data / f"x{suffix}").write_bytes(content)
        source = Source(manifest=str(data / f"x{suffix}"))
        index, log = folder / "train.arrow", DropLog(folder / "dropped.jsonl")
        try:
            with ThreadPoolExecutor(1) as pool:
                tally = audit_set(
                    read_source(source, 0, language="de", cache=folder / "cache"),
                    index,
                    columns=[None],
                    streamed=[False],
                    folders=[folders_of(source)],
                    limits=Limits(30.0, len, 448),
                    readers=Readers(pool, 4),  # type: ignore[arg-type]
                    cache=folder / "cache",
                    drop=log.in_set("train"),
                )
            drop_repeats(index, tally, np.empty(0, np.uint64), 1, log.in_set("train"))
        except UserError:
            return "refused"
        finally:
            log.close()
        assert tally.kept + tally.dropped.total() == tally.clips
        return "taken" if tally.kept else "all dropped"


def try_audio(watch: Watch, content: bytes) -> str:
    printed = io.StringIO()
    with case(watch) as folder, redirect_stderr(printed):
        (folder / "a.wav").write_bytes(content)
        outcomes = set()
        for source in (folder / "a.wav", content):
            try:
                waveform = decode(source, 31.0)
            except ValueError:
                outcomes.add("refused")
                continue
            assert waveform.dtype == np.float32
            assert waveform.ndim == 1
            assert len(waveform)
            assert np.isfinite(waveform).all()
            outcomes.add("taken")
        assert "Traceback" not in printed.getvalue(), printed.getvalue()
        return " and ".join(sorted(outcomes))


KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Watch, Any], str]]] = {
    "job files": (job_files(), try_job),
    "manifests": (manifests(), try_manifest),
    "audio": (audio_files(), try_audio),
}


def fuzz(kind: str, cases: int, start: int = 0) -> Counter[str]:
    """Tries so many cases of a kind; returns how they ended. Raises what the smallest failing one raises."""
    strategy, attempt = KINDS[kind]
    watch, ended = Watch(), Counter[str]()

    @seed(start)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(strategy)
    def each(one: Any) -> None:
        ended[attempt(watch, one)] += 1

    each()
    return ended


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "MACHINE": "cpu"}
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for name in KINDS:
        begun, cpu = time.monotonic(), time.process_time()
        found = fuzz(name, -(-wanted // len(KINDS)), start=int(os.environ.get("FUZZ_SEED", "0")))
        spent = f"{time.monotonic() - begun:.0f} s, {time.process_time() - cpu:.0f} s of them on the processor"
        print(f"{name}: {found.total():,} cases ({dict(found)}), nothing wrong, {spent}", flush=True)
