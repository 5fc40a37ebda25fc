"""Job files by somebody who means harm: one message, at once, and nothing built, run or filled by them."""

import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import RunCli
from tests.test_bad_input import GOOD_JOB, Bad, bad, based, check_message, job, lay_out
from whisper_train.strict_yaml import MAX_VALUES, load_yaml

TEN = ",".join(["{}"] * 10)
LINES = [f"{new}: &{new} [{TEN.format(*[f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(LINES)
MERGED = "a: &a {x: 1}\n" + "".join(line.replace("[", "{<<: [", 1).replace("]", "]}") for line in LINES)
AT_ONCE = 10.0  # seconds of processor time


def at_top(line: str) -> str:
    return job() + line


HOSTILE = [
    bad("aliases of aliases", LAUGHS, "job.yaml:5: not valid YAML: holds more than 100,000 values, those behind"),
    bad("merged aliases of aliases", MERGED, "not valid YAML: holds more than 100,000 values"),
    bad("list that holds itself", "data: &a [*a]\n", "job.yaml:1: not valid YAML: alias 'a' stands within what it"),
    bad("mapping merged into itself", "data: &a {<<: *a}\n", "alias 'a' stands within what it names"),
    bad("brackets without end", "a: " + "[" * 500_000, "job.yaml:1: not valid YAML: is nested deeper than 40"),
    bad("keys without end", "data: " + "{a: " * 60 + "1" + "}" * 60, "is nested deeper than 40"),
    bad("megabytes", at_top("# " + "x" * 2**21), "job.yaml: not valid YAML: has more than 1,048,576 characters"),
    bad("object", "name: !!python/object/apply:os.system ['touch ran']\n", "job.yaml:1: not valid YAML", "python"),
    bad("object at the top", "!!python/object/new:os.system ['touch ran']\n", "job.yaml:1: not valid YAML"),
    bad("name of a function", "name: !!python/name:os.system\n", "job.yaml:1: not valid YAML"),
    bad("bytes", at_top("name: !!binary aGFsbG8=\n"), "not valid YAML", "binary"),
    bad("set", "gates: !!set {a}\n", "job.yaml:1: not valid YAML", "set"),
    bad("number by the base of 60", "name: " + ":".join(["1"] * 200_000), "a number has 399,999 characters"),
    bad("hexadecimal number", "name: 0x" + "f" * 100_000, "job.yaml:1: not valid YAML: a number has 100,002"),
    bad("number of 80 bits", job("training: {max_steps: 0}").replace("max_steps: 0", f"max_steps: {2**80}"), "64 bits"),
    bad("no bool", "name: !!bool abc\n", "job.yaml:1: not valid YAML: is no bool"),
    bad("no time", "name: !!timestamp abc\n", "job.yaml:1: not valid YAML: is no timestamp"),
    bad("no date", "name: 2001-99-99\n", "job.yaml:1: not valid YAML: month must be in 1..12"),
    bad("no number", "name: !!int abc\n", "job.yaml:1: not valid YAML: invalid literal"),
    bad("zero byte", at_top('name: "a\\0b"\n'), "not valid YAML: text holds the control character '\\x00'"),
    bad("escape sequence of a terminal", at_top('name: "\\e[2J"\n'), "holds the control character '\\x1b'"),
    bad("half of a surrogate pair", at_top('name: "\\ud800"\n'), "holds the control character '\\ud800'"),
    bad("path that is too long", job(f"data: {{train: [{{manifest: {'x' * 5000}.csv}}]}}"), "job.yaml: xxx", "no path"),
    bad("home of nobody", job("data: {train: [{manifest: ~nobody-here/x.csv}]}"), "~nobody-here/x.csv: is no path"),
    bad("extends what is too long", job(f"extends: {'x' * 5000}"), "xxx: is no path (File name too long)"),
    bad("base that is too long", based("").replace("./base", f"/{'x' * 5000}"), "job.yaml: /xxx", "no path"),
    bad("extends a device", job("extends: /dev/zero"), "extends: /dev/zero: no such job beside it"),
    bad("thousands of unknown keys", "".join(f"k{number}: 1\n" for number in range(30_000)), "and more; mend these"),
    bad("value of a megabyte", job("training: {max_steps: x}").replace("x\n", f"{'x' * 900_000}\n"), "training.max_"),
    bad("--set of an object", job(), "not valid YAML", run="check job.yaml --set name=!!python/name:os.system"),
    bad("--set of brackets", job(), "not valid YAML", run=f"check job.yaml --set name={'[' * 5000}"),
    bad("--set of no date", job(), "not valid YAML", run="check job.yaml --set name=2001-99-99"),
    bad("--set far below", job(), "write it as key", run=f"check job.yaml --set {'a.' * 3000}a=1"),
]


@pytest.mark.parametrize("kind", HOSTILE, ids=lambda kind: kind.id)
def test_a_hostile_job_ends_at_once_with_one_message(kind: Bad, place: Path, run_cli: RunCli) -> None:
    lay_out(kind, place)
    before, started = sorted(place.rglob("*")), time.process_time()

    result = run_cli(*kind.command.split())

    check_message(kind, result.exit_code, result.output, result.stderr)
    assert len(result.stderr) < 20_000
    assert time.process_time() - started < AT_ONCE
    assert sorted(place.rglob("*")) == before, "a job that is refused writes nothing"


def test_anchors_of_usual_size_are_as_good_as_ever() -> None:
    text = "data: &sets\n  a: [1, 2]\nother: {<<: *sets, b: *sets}\nsame: *sets\n"
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml(yaml.safe_dump(GOOD_JOB)) == GOOD_JOB


def test_values_are_counted_where_they_are_used() -> None:
    text = "a: &a [" + "x, " * 1_000 + "]\nb: [{}]\n"
    assert len(load_yaml(text.format(", ".join(["*a"] * 90)))["b"]) == 90
    with pytest.raises(yaml.YAMLError, match=f"more than {MAX_VALUES:,}"):
        load_yaml(text.format(", ".join(["*a"] * 101)))


def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(place: Path, run_cli: RunCli) -> None:
    lay_out(Bad("", {"job.yaml": job()}, "", ()), place)
    plain = run_cli("check", "job.yaml")
    (place / "job.yaml").write_bytes(b"\xef\xbb\xbf" + job().replace("\n", "\r\n").encode())

    marked = run_cli("check", "job.yaml")

    assert plain.exit_code == marked.exit_code == 0, marked.output
    assert plain.stdout == marked.stdout
