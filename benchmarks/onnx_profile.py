"""Where the time of an exported ONNX model goes, by onnxruntime's own profile.

    python -m benchmarks.onnx_profile FOLDER encoder|decoder [THREADS]

Prints milliseconds by operator as JSON: of a window in the encoder, or of a token in the decoder.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PASSES, TOKENS = 3, 32  # of encoder and decoder, whose mean is told
SHOWN_OPERATORS = 6


@dataclass(frozen=True, slots=True)
class Half:
    """The encoder or decoder (`side`) of the file called `name`."""

    name: str
    folder: Path
    side: str

    @property
    def title(self) -> str:
        return f"{self.name}, {self.side}"


def compare_profiles(halves: Sequence[Half], threads: int) -> dict[str, dict[str, float]]:
    """Milliseconds by operator of each half, by its title; each in a process of its own."""
    found = {}
    for half in halves:
        command = [sys.executable, "-m", "benchmarks.onnx_profile", str(half.folder), half.side, str(threads)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[half.title] = json.loads(said.splitlines()[-1])
    return found


def profile(folder: Path, side: str, threads: int) -> dict[str, float]:
    """Milliseconds by operator, the longest first: of a window in the encoder, or of a token in the decoder."""
    import onnxruntime

    from whisper_train.benchmark_model.runtimes import endless
    from whisper_train.export.clips import babbled
    from whisper_train.export.forms import DECODER, ENCODER
    from whisper_train.export.onnx_runtime import OnnxWhisper, open_session
    from whisper_train.export.search import write
    from whisper_train.export.sounds import features_of
    from whisper_train.export.transcribe import open_processor

    extractor = open_processor(folder).feature_extractor
    model = OnnxWhisper(folder, threads)
    features = features_of(extractor, babbled(extractor.n_samples))[None]
    cross = model.encode(features)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as place:
        options.profile_file_prefix = str(Path(place) / "profile")
        delattr(model, side)  # before it is loaded again
        session = open_session(folder / {"encoder": ENCODER, "decoder": DECODER}[side], threads, options)
        setattr(model, side, session)
        if side == "encoder":
            for _ in range(PASSES):
                model.encode(features)
        else:
            prompt = model.rules.prompt("fr", "transcribe")
            write(model, cross, [prompt], endless(model.rules), max_length=TOKENS)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1e3 / (PASSES if side == "encoder" else TOKENS)
    return dict(spent.most_common())


def show_profiles(profiles: Mapping[str, Mapping[str, float]]) -> list[str]:
    said = []
    for name, spent in profiles.items():
        whole = sum(spent.values())
        parts = [f"{operator} {took:.2f} ms ({took / whole:.0%})" for operator, took in spent.items()]
        said.append(f"{name}: {whole:.2f} ms: {', '.join(parts[:SHOWN_OPERATORS])}")
    return said


if __name__ == "__main__":
    print(json.dumps(profile(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)))
