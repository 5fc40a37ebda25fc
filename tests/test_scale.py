"""The benchmark of scale runs as it is documented, at a small size."""

import pytest

from benchmarks.scale import main


@pytest.mark.slow
def test_it_compares_manifests_and_starts_and_prints_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    main(clips=800, steps=4, rounds=1)
    printed = capsys.readouterr().out
    assert "clips/s with 8 clips: " in printed
    assert "clips/s with 800 clips: " in printed
    assert "ratio, round by round: " in printed
    assert "seconds to step 801, resumed: " in printed
    assert "seconds later at step 800, round by round: " in printed
