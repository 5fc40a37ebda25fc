"""The short form of `make torture`: a few broken sessions, of one process each."""

import os
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.tiny import call

pytestmark = pytest.mark.slow


def test_broken_sessions_end_with_the_weights_of_an_unbroken_run() -> None:
    """In a process of its own, which forks: here threads of other tests may be there."""
    words = [sys.executable, "-m", "tests.torture.torture", "--one-rank", "--cycles", "4", "--seed", "8"]
    output = call(words, dict(os.environ), expect=0, cwd=REPOSITORY, timeout=900)
    assert "4 sessions broken" in output
    assert "the same weights to the bit, the same results, nothing left running" in output
