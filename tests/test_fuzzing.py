"""A few hundred random job files, manifests and recordings; `make fuzz` tries 20,000."""

import os
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from tests.fuzzing import KINDS, Watch, case, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_random_ends_in_a_traceback_a_hang_or_a_file_elsewhere(kind: str) -> None:
    assert fuzz(kind, 120).total() >= 120


def test_the_fuzzer_sees_what_is_written_elsewhere_and_run(place: Path) -> None:
    elsewhere = place / "elsewhere"
    for misdeed in (lambda: elsewhere.write_text("x"), elsewhere.touch, elsewhere.mkdir, lambda: os.system("true")):
        with pytest.raises(AssertionError, match=r"elsewhere|os\.system"), case(Watch()):
            misdeed()
        if elsewhere.is_file():
            elsewhere.unlink()
