"""The pages in a real browser, as wide as a phone and as a desktop."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.report.fixtures import (
    clip_line,
    find_transcriptions,
    make_audit,
    make_evaluation,
    make_history,
    make_run,
    write_transcription,
)
from whisper_train.hear import Example
from whisper_train.report.leaderboard import write_leaderboard
from whisper_train.report.page import write_report
from whisper_train.report.render import render

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS: tuple[str, ...] = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr")
FLAGS += ("--disable-features=NetworkTimeServiceQuerying", "--virtual-time-budget=2000", "--dump-dom")
BROWSER = "not an origin"  # whom the network log names for what no page asked
LOCAL = ("file:", "data:", "blob:", "chrome:", "about:")
POLICY = re.compile("<meta http-equiv[^>]*>")
MEASURE = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script></body>"
# A window of Chromium's is never narrower than 500 pixels, a frame may be.
FRAME = """<!doctype html>
<script>onmessage = event => document.body.dataset.measured = JSON.stringify(event.data)</script>
<body><iframe src="measured.html" width="{width}" height="900" style="border: 0"></iframe></body>"""
FOREIGN = '<img src="http://elsewhere.invalid/pixel.png" alt=""></body>'

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")]


def browse(page: Path) -> tuple[str, bool, set[str]]:
    """Opens `page`; returns its document as it was in the end, whether the console said something, and addresses asked.

    Files and data URIs are not among the addresses, nor what Chromium asks on its own account.
    """
    log, profile = page.with_suffix(".network"), page.with_suffix(".profile")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={log}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = {str(event["url"]) for event in events if event.get("initiator", BROWSER) != BROWSER}
    return done.stdout, "CONSOLE" in done.stderr, {url for url in asked if not url.startswith(LOCAL)}


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Path]:
    models, cache = tmp_path / "models", tmp_path / "cache"
    folder = models / "demo" / "evaluation"
    results = make_evaluation(folder, cache, clips=20)
    long = "Donaudampfschifffahrtsgesellschaft" * 20
    write_transcription(folder, "tuned", "hard", [clip_line(0, long, reference="kurz", clip=long, speaker=long)])
    report = write_report(
        folder,
        results,
        transcriptions=find_transcriptions(folder),
        cache=cache,
        run=make_run(),
        audit=make_audit(),
        history=make_history(),
    )
    return {"report": report, "leaderboard": write_leaderboard(models), "hear": write_hear(tmp_path, long)}


def write_hear(folder: Path, long: str) -> Path:
    """The page of `whisper-train hear`, the only one whose audio lies beside it: its players load it at once."""
    soundfile.write(folder / "a.flac", np.zeros(1_600), 16_000)
    known: dict[str, Any] = {"name": long, "source": f"hub: {long}", "text": long, "language": "de", "seconds": 0.1}
    example = Example(**known, applied=[f"noise: {long}"], before="a.flac", after="a.flac")
    page = folder / "hear.html"
    page.write_text(render("hear.html", job="demo", examples=[example]).replace('preload="none"', 'preload="auto"'))
    return page


@pytest.mark.parametrize("name", ["report", "leaderboard", "hear"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_with_everything_unfolded(
    pages: dict[str, Path], name: str, width: int, tmp_path: Path
) -> None:
    unfolded = POLICY.sub("", pages[name].read_text()).replace("<details>", "<details open>")
    (tmp_path / "measured.html").write_text(unfolded.replace("</body>", MEASURE))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    document, _, _ = browse(frame)
    found = re.search(r'data-measured="\[(\d+),(\d+)\]"', document)
    assert found
    window, content = int(found[1]), int(found[2])
    assert content <= window
    assert width - 20 <= window <= width  # less a scroll bar


@pytest.mark.parametrize("name", ["report", "leaderboard", "hear"])
def test_the_browser_asks_for_nothing_and_complains_of_nothing(pages: dict[str, Path], name: str) -> None:
    _, complained, asked = browse(pages[name])
    assert not complained
    assert not asked


def test_a_page_that_asked_for_something_would_be_noticed_and_kept_from_it(pages: dict[str, Path]) -> None:
    page = pages["leaderboard"]
    kept = page.read_text().replace("</body>", FOREIGN)
    page.write_text(kept)
    _, complained, asked = browse(page)
    assert complained
    assert not asked
    page.write_text(POLICY.sub("", kept))
    assert "http://elsewhere.invalid/pixel.png" in browse(page)[2]
