"""Axes that people can read, and drawings that hold what they were given."""

import pytest

from whisper_train.report.charts import Dots, Series, dot_chart, line_chart, linear_ticks, logarithmic_ticks, thin_out


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 0.0137, [0, 0.005, 0.01, 0.015]),
        (0.0, 0.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 12_345.0, [0, 2500, 5000, 7500, 10_000, 12_500]),
    ],
)
def test_linear_ticks_are_round_and_cover_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.05, 4.0, [0.05, 0.1, 0.2, 0.5, 1, 2, 5]), (1.0, 5000.0, [1, 10, 100, 1000, 10_000]), (0.3, 0.3, [0.2, 0.5])],
)
def test_logarithmic_ticks_are_round_and_cover_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert logarithmic_ticks(low, high) == pytest.approx(ticks)


def test_a_long_log_becomes_means_of_its_parts() -> None:
    points = [(float(step), 1.0 if step % 2 else 3.0) for step in range(100_000)]
    thinned = thin_out(points)
    assert len(thinned) == 300
    assert all(abs(value - 2.0) < 0.01 for _, value in thinned)
    assert thin_out(points[:5]) == points[:5]


def test_one_point_is_a_chart_too() -> None:
    drawing = line_chart([Series("loss", "first", [(10, 0.0)])], title="t", x_label="step", form=str)
    assert "<circle" in drawing


def test_what_is_named_by_strangers_is_escaped() -> None:
    dots = Dots("first", "first", [0.1], [(0.05, 0.2)])
    drawing = dot_chart(["<b>"], [dots], title='"><script>', x_label="", form=lambda value: f"{value:g}")
    assert "<b>" not in drawing
    assert "<script" not in drawing
    assert "&lt;b&gt;" in drawing
