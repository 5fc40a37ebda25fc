"""The alternation: a process for each way, of which one at a time trains."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.flops import measure_ceilings
from benchmarks.training.options import Options
from benchmarks.training.running import Spec, write_spec
from benchmarks.training.ways import WAYS
from whisper_train.children import end_with_parent
from whisper_train.errors import RunFailed

LOG_LINES = 15  # of a process that failed
LEAST_LEFT = 0.03  # of the wall time; less is not worth another slice
SPARED = 0.95  # of the time for a slice is planned for, since updates are not equally long


@dataclass(slots=True)
class Process:
    """A way's process, and what it has told: a first slice of one update, then one for each that it was told."""

    way: str
    child: "subprocess.Popen[str]"
    log: Path
    slices: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def train_seconds(self) -> float:
        return float(sum(each["train_seconds"] for each in self.slices))

    @property
    def updates(self) -> int:
        return int(self.slices[-1]["updates"])

    def train(self, updates: int) -> dict[str, Any]:
        """Trains so many updates more."""
        self.tell(updates=updates)
        return self.hear_slice()

    def hear_slice(self) -> dict[str, Any]:
        self.slices.append(self.hear())
        return self.slices[-1]

    def finish(self, wer_clips: int) -> None:
        self.tell(updates=0, wer_clips=wer_clips)
        self.end = self.hear()

    def tell(self, **command: Any) -> None:
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(json.dumps(command) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # it has failed: hear() says how

    def hear(self) -> dict[str, Any]:
        """The next answer; raises RunFailed with the end of the log when the process has ended."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if line:
            return dict(json.loads(line))
        status = self.child.wait()
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        raise RunFailed(f"{self.way}: its process ended with status {status}:\n" + "\n".join(said))


@contextmanager
def started(spec: Spec, folder: Path) -> Iterator[Process]:
    """The process of a way, at work in `folder`; ended with the block."""
    folder.mkdir(parents=True)
    write_spec(spec, folder / "spec.json")
    command = [sys.executable, "-m", "benchmarks.training.child", str(folder / "spec.json"), str(folder / "run")]
    (folder / "run").mkdir()
    log = folder / "child.log"
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # a call to prctl alone
        )
        try:
            yield Process(spec.way, child, log)
        finally:
            child.terminate()
            child.wait()


def alternate(
    specs: Mapping[str, Spec], options: Options, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Process], list[dict[str, float]]]:
    """Trains every way: the first update, then slice by slice in turn, then ours up to the stock recipe's wall time.

    Returns the processes with what they told, and the ceilings that were measured in each round.
    """
    processes: dict[str, Process] = {}
    ceilings = []
    with ExitStack() as stack:
        for way, spec in specs.items():
            process = processes[way] = stack.enter_context(started(spec, folder / way))
            first = process.hear_slice()
            say(f"{WAYS[way].label}: first update after {first['since_start_seconds']:.1f} s")
        for number in range(1, options.rounds + 1):
            ceilings.append(measure_ceilings(options.device))
            for way, process in processes.items():
                say(f"round {number}: {WAYS[way].label}: {describe(process, process.train(options.updates_a_round))}")
        for way, process in processes.items():
            if way != "stock":
                go_on(process, processes["stock"].train_seconds, options.rounds, say)
        for process in processes.values():
            process.finish(options.wer_clips)
    return processes, ceilings


def go_on(process: Process, seconds: float, slices: int, say: Callable[[str], None]) -> None:
    """Trains until `seconds` are nearly used up, in slices of about a round of the stock recipe.

    What goes beyond them counts for nothing, so a slice is a little shorter than the time for it.
    """
    while (left := seconds - process.train_seconds) > LEAST_LEFT * seconds:
        steady = process.slices[1:]
        per_update = sum(each["train_seconds"] for each in steady) / (process.updates - 1)
        updates = int(SPARED * min(left, seconds / slices) / per_update)
        if updates == 0:
            break
        say(f"to equal wall time: {WAYS[process.way].label}: {describe(process, process.train(updates))}")


def describe(process: Process, latest: Mapping[str, Any]) -> str:
    before = process.slices[-2]
    audio = latest["audio_seconds"] - before["audio_seconds"]
    return (
        f"update {latest['updates']}, {audio / latest['train_seconds']:.1f} audio h/h,"
        f" held-out loss {latest['held_out_loss']:.4f}"
    )
