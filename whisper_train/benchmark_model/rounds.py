"""The rounds: every candidate in turn, each turn in a process of its own, forwards and then backwards."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whisper_train.benchmark_model.turn import Spec
from whisper_train.children import end_with_parent
from whisper_train.paths import as_size, read_json, write_json

KILLED = -9


def run_rounds(specs: Sequence[Spec], rounds: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """By candidate the results of its turns, or why there are none: `{"turns": […]}` or `{"failed": "…"}`.

    One that fails once is not tried again, and the others go on.
    """
    found: dict[str, Any] = {spec.name: {"turns": []} for spec in specs}
    for number in range(rounds):
        for spec in specs if number % 2 == 0 else reversed(specs):
            if "failed" in found[spec.name]:
                continue
            own = Spec(**{**asdict(spec), "number": number, "rounds": rounds})
            result = run_turn(own, folder)
            if "failed" in result:
                found[spec.name] = result
                say(f"round {number + 1} of {rounds}: {spec.name}: failed: {result['failed']}")
            else:
                found[spec.name]["turns"].append(result)
                say(f"round {number + 1} of {rounds}: {spec.name}: {summary(result)}")
    return found


def run_turn(spec: Spec, folder: Path) -> dict[str, Any]:
    """What one turn measured; `failed` with the reason where it ended otherwise."""
    asked, answer = folder / "turn.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    write_json(asked, asdict(spec))
    command = [sys.executable, "-m", "whisper_train.benchmark_model.turn", str(asked), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=end_with_parent)
    if done.returncode == 0:
        return dict(read_json(answer))
    if done.returncode == KILLED:
        return {"failed": "was killed, as the system does when memory runs out"}
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": said[-1].removeprefix("error: ") if said else f"ended with status {done.returncode}"}


def summary(result: Mapping[str, Any]) -> str:
    encoder, decoder = (sorted(result[key])[len(result[key]) // 2] for key in ("encoder_ms", "decoder_ms"))
    clips = f", {len(result['clips'])} clips heard" if result["clips"] else ""
    return f"encoder {encoder:.0f} ms, {decoder:.2f} ms a token, {as_size(result['peak_bytes']['1'])}{clips}"
