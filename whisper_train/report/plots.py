"""Pictures of benchmarks by matplotlib: one style, and the same results make the same files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, GRID = "#222222", "#DDDDDD"
WIDTH = 11  # inches
SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "svg.hashsalt": "whisper-train",  # the same results make the same file
}


@contextmanager
def drawn(path: Path, height: float, footnote: str) -> Iterator[Any]:
    """Yields a figure of so many inches, which the block fills; then writes `path`.png and `path`.svg."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.supxlabel(footnote, fontsize=8.5, color="#555555", x=0.01, ha="left")
        figure.savefig(path.with_suffix(".png"), dpi=160, facecolor="white")
        figure.savefig(path.with_suffix(".svg"), facecolor="white", metadata={"Date": None})
