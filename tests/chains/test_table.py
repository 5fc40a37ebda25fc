"""The table of a chain: rates, changes and losses follow from what was heard."""

import json
from pathlib import Path

import pytest

from whisper_train.chains.table import Measured, make_rows, most_lost, say_losses, show_rows

CLIPS = 40


def heard(path: Path, wrong: int, language: str = "de", text: str = "eins zwei drei vier") -> Path:
    """A transcription of CLIPS clips, of which the first `wrong` miss their last word."""
    header = {"transcription": 1, "language": language, "set": path.stem}
    lines = [header]
    for number in range(CLIPS):
        hypothesis = text.rpartition(" ")[0] if number < wrong else text
        clip = {"clip": f"c{number}", "position": number, "speaker": f"s{number}", "seconds": 1.0}
        lines.append({**clip, "reference": text, "hypothesis": hypothesis, "language": language})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def measured(folder: Path, name: str, own: str | None, **wrong: int) -> Measured:
    files = {set_name: heard(folder / name / f"{set_name}.jsonl", count) for set_name, count in wrong.items()}
    return Measured(name=name, files=files, own_set=own, seconds=60.0)


def test_rates_changes_and_losses(tmp_path: Path) -> None:
    models = [
        measured(tmp_path, "base", None, clean=20, room=40, other=4),
        measured(tmp_path, "one", "clean", clean=0, room=38, other=6),
        measured(tmp_path, "two", "room", clean=4, room=0, other=8),
    ]
    rows = make_rows(models, ["clean", "room", "other"], "raw")
    assert [row["sets"]["clean"]["rate"] for row in rows] == [20 / 160, 0.0, 4 / 160]
    assert rows[0]["sets"]["clean"]["change"] is None
    assert rows[1]["sets"]["clean"]["change"]["certain"]
    assert not rows[1]["sets"]["room"]["change"]["certain"]
    assert [row["sets"]["clean"]["lost"] for row in rows] == [None, None, 4 / 160]  # learned in one
    assert [row["sets"]["room"]["lost"] for row in rows] == [None, None, None]
    assert [row["sets"]["other"]["lost"] for row in rows] == [
        None,
        pytest.approx(2 / 160),
        pytest.approx(4 / 160),  # of no stage's own: since the base
    ]
    loss = most_lost(rows)
    assert loss is not None
    assert loss["lost"] == 4 / 160
    shown = show_rows(rows, ["clean", "room", "other"])
    assert shown[3].startswith("one    0.00% (0.0–")
    assert "*↓" in shown[3]


def test_a_chain_of_one_has_lost_nothing(tmp_path: Path) -> None:
    rows = make_rows([measured(tmp_path, "one", "clean", clean=1)], ["clean"], "raw")
    assert most_lost(rows) is None
    assert say_losses("one", rows, "two", []).endswith("nothing could be lost yet")


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    models = [measured(tmp_path, "one", "clean", clean=1), measured(tmp_path, "two", "room", room=2)]
    rows = make_rows(models, ["clean", "room"], "raw")
    assert rows[1]["sets"].keys() == {"room"}
    assert rows[1]["sets"]["room"]["change"] is None
    assert "-" in show_rows(rows, ["clean", "room"])[3]


def test_two_chains_are_compared_by_what_they_lost(tmp_path: Path) -> None:
    good = [measured(tmp_path, "one", "clean", clean=0), measured(tmp_path, "two", None, clean=1)]
    plain = [measured(tmp_path, "one", "clean", clean=0), measured(tmp_path, "plain", None, clean=8)]
    rows, others = (make_rows(models, ["clean"], "raw") for models in (good, plain))
    said = say_losses("two", rows, "plain", others)
    assert said == (
        "two: at most 0.62 points of what was learned were lost (clean, in two);"
        " plain: at most 5.00 points of what was learned were lost (clean, in plain), 8.0 times as much"
    )
    assert say_losses("one", rows[:1] + rows[:1], "", []) == "one: nothing could be lost yet"


def test_what_got_better_is_no_loss(tmp_path: Path) -> None:
    models = [measured(tmp_path, "one", "clean", clean=4), measured(tmp_path, "two", None, clean=1)]
    assert (
        say_losses("two", make_rows(models, ["clean"], "raw"), "", []) == "two: no set got worse after it was learned"
    )


def test_a_language_that_does_not_part_its_words_counts_characters(tmp_path: Path) -> None:
    files = {"ja": heard(tmp_path / "ja.jsonl", 20, "ja", "今日は 晴れ です")}
    rows = make_rows([Measured(name="one", files=files, own_set="ja", seconds=None)], ["ja"], "raw")
    assert rows[0]["sets"]["ja"]["metric"] == "cer"
    assert rows[0]["sets"]["ja"]["rate"] == pytest.approx(20 * 3 / (40 * 9))
