"""The leaderboard: every evaluated run under MODEL_DIR, put beside those it may be compared with."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from whisper_train.evaluation.results import FORMAT, TUNED
from whisper_train.evaluation.table import align
from whisper_train.job_entities import ENTITIES_TASK
from whisper_train.paths import read_json, written_whole
from whisper_train.report.formats import MISSING, count, interval, limits, moment, number, percent, short
from whisper_train.report.page import REPORT, date_of
from whisper_train.report.render import render

LEADERBOARD = "leaderboard.html"
COLUMNS = ("job", "WER", "95 % interval", "WER before", "base", "promoted", "date")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run on one set; rates are fractions, `report` is relative to MODEL_DIR and empty where there is none."""

    job: str
    set: str
    digest: str
    normalizer: str
    normalizer_version: str
    clips: int
    wer: float
    wer_interval: tuple[float, float] | None
    before: float | None
    base: str
    promoted: bool | None
    date: str
    report: str

    def compared_by(self) -> tuple[str, str, int, str, str]:
        """What two runs must share for their rates to be comparable; clips nobody knows are like no others."""
        return self.set, self.digest or self.job, self.clips, self.normalizer, self.normalizer_version


@dataclass(slots=True)
class Board:
    """All rows, and for every results.json that could not be used one line that says why."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def groups(self) -> list[list[Row]]:
        """Rows that may be compared, best first; sets by name, and of one name the most used first."""
        groups: dict[tuple[str, str, int, str, str], list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: (row.wer, row.job)):
            groups.setdefault(row.compared_by(), []).append(row)
        return sorted(groups.values(), key=lambda rows: (rows[0].set, -len(rows), rows[0].compared_by()))


def collect(models: Path) -> Board:
    """Reads the results of every run, and of other models on its sets; names what is damaged or older, and skips it."""
    board = Board()
    for path in sorted([*models.glob("*/evaluation/results.json"), *models.glob("*/evaluations/*/results.json")]):
        job = path.relative_to(models).parts[0]
        try:
            results = read_json(path)
            if not isinstance(results, dict) or results.get("version") != FORMAT:
                raise ValueError("was made by another version; evaluate again")
            if results.get("task") == ENTITIES_TASK:
                continue  # has no WER
            board.rows += list(read_rows(path, models, results))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # any JSON may stand there
            board.skipped.append(f"{job}: {error}")
    return board


def read_rows(path: Path, models: Path, results: dict[str, Any]) -> Iterator[Row]:
    """A row per set and model, the baseline apart; raises ValueError, TypeError … when the results are damaged."""
    folder = models / path.relative_to(models).parts[0]
    own = path.parent.name == "evaluation"
    set_aside = re.search(r"\.old-\d+$", folder.name)  # by a chain, since its job has changed
    judged = (
        (folder.name if set_aside else str(results.get("job") or folder.name))
        if own
        else str(results["models"][TUNED]["model"])
    )
    report = path.with_name(REPORT)
    promoted = results.get("promoted")
    for name, result in results["sets"].items() if results.get("sets") else ():
        named = [(judged, result)]
        named += [(str(results["models"][label]["model"]), one) for label, one in (result.get("others") or {}).items()]
        for model, figures in named:
            if (wer := number(figures.get("wer"))) is None:
                raise ValueError(f"sets.{name}.wer: is no number")
            yield Row(
                job=model,
                set=str(name),
                digest=str(result.get("digest") or ""),
                normalizer=str(result.get("normalizer") or MISSING),
                normalizer_version=str(result.get("normalizer_version") or ""),
                clips=int(number(result.get("clips")) or 0),
                wer=wer,
                wer_interval=limits(figures.get("wer_interval")),
                before=number((result.get("baseline") or {}).get("wer")),
                base=str(results.get("base") or MISSING),
                promoted=promoted if isinstance(promoted, bool) else None,
                date=date_of(results, read_run(folder) if own else {}),
                report=quote(str(report.relative_to(models))) if report.is_file() else "",
            )


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run folder; empty where there is none, or a damaged one."""
    try:
        run = read_json(folder / "run.json")
    except (OSError, ValueError, RecursionError):
        return {}
    return run if isinstance(run, dict) else {}


def write_leaderboard(models: Path) -> Path:
    """Writes `models`/leaderboard.html, whole or not at all, and returns its path."""
    board = collect(models)
    path = models / LEADERBOARD
    page = render("leaderboard.html", board=board, highest=[highest_of(rows) for rows in board.groups()])
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def highest_of(rows: Sequence[Row]) -> float:
    return max(row.wer_interval[1] if row.wer_interval else row.wer for row in rows)


def make_table(board: Board) -> str:
    """The leaderboard as text: a table for each group of comparable runs, and what was skipped."""
    blocks = ["\n".join([describe_group(rows), *align([COLUMNS, *map(cells_of, rows)])]) for rows in board.groups()]
    if board.skipped:
        blocks.append("\n".join([f"skipped {len(board.skipped)}:", *(f"  {line}" for line in board.skipped)]))
    return "\n\n".join(blocks) or "no evaluated run"


def describe_group(rows: Sequence[Row]) -> str:
    first = rows[0]
    return (
        f"{first.set} ({count(first.clips)} clips, digest {short(first.digest)},"
        f" {first.normalizer} {first.normalizer_version})"
    )


def cells_of(row: Row) -> tuple[str, ...]:
    promoted = {True: "yes", False: "no", None: MISSING}[row.promoted]
    rates = (percent(row.wer), interval(row.wer_interval), percent(row.before))
    return row.job, *rates, row.base, promoted, moment(row.date)
