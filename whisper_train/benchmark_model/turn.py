"""One turn of one candidate, in a process of its own: `python -m whisper_train.benchmark_model.turn SPEC RESULT`.

It loads the model, times it, and transcribes its share of the clips; then it ends, and so does its memory. Nothing
heavy is imported at the top, so that libraries are told from the model.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.benchmark_model.runtimes import Runtime, import_runtime, open_runtime
from whisper_train.exits import exits
from whisper_train.export.clips import ClipSet, Opened, babbled, for_batches, of_round
from whisper_train.paths import read_json, write_json
from whisper_train.resident import peak_resident_bytes, resident_bytes

TOKENS = 100  # of a full window, where the decoder has positions for as many: about what 30 s of speech take
BATCHES = (1, 8, 16)
LEAST_MS = 1e-3  # what a token counts as where the clock's noise is longer, in models of a few thousand weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """What a turn is to do."""

    name: str
    format: str
    precision: str
    folder: str
    processor: str  # the folder that has it
    threads: int
    repeats: int  # of what is timed on a full window
    number: int = 0  # of this round
    rounds: int = 1
    language: str | None = None
    task: str | None = None
    beams: int = 1
    max_length: int | None = None
    cache: str = "."
    sets: list[dict[str, Any]] = field(default_factory=list)


def read_spec(path: Path) -> Spec:
    return Spec(**read_json(path))


class Turn:
    """A loaded candidate and what it hears."""

    def __init__(self, spec: Spec) -> None:
        import torch

        from whisper_train.export.transcribe import open_processor

        torch.set_num_threads(spec.threads)  # of log-mel, too, which torch computes for every runtime
        self.spec = spec
        self.processor = open_processor(Path(spec.processor))
        self.extractor = self.processor.feature_extractor
        sets = [ClipSet(**one) for one in spec.sets]
        self.clips = Opened(sets, Path(spec.cache), self.extractor.n_samples / self.extractor.sampling_rate)
        self.mine = of_round(sets, spec.number, spec.rounds)
        samples = self.extractor.n_samples
        self.window = self.clips.window(samples) if self.mine else babbled(samples)
        import_runtime(spec.format)
        self.features_of(self.window)  # torch takes memory at its first spectrogram, which is no model's
        self.libraries_bytes = resident_bytes()
        started = time.perf_counter()
        self.runtime: Runtime = open_runtime(spec.format, spec.precision, Path(spec.folder), spec.threads)
        self.load_seconds = time.perf_counter() - started

    def features_of(self, sound: Any) -> Any:
        """Log-mel (bins, frames)."""
        from whisper_train.export.sounds import features_of

        return features_of(self.extractor, sound)

    def prompt(self, language: str | None) -> list[int]:
        rules = self.runtime.rules
        return rules.prompt(language or next(iter(rules.languages), None), self.spec.task)

    def time_window(self) -> dict[str, Any]:
        """Milliseconds of the encoder and of a token, and seconds of a whole window with its TOKENS."""
        features = self.features_of(self.window)[None]
        prompts = [self.prompt(self.spec.language)]
        count = min(TOKENS, self.runtime.rules.positions - 2 * len(prompts[0]))
        figures: dict[str, Any] = {"tokens": count, "encoder_ms": [], "decoder_ms": [], "latency_s": []}
        for repeat in range(self.spec.repeats + 1):  # the first is not counted: it makes buffers
            started = time.perf_counter()
            again = self.features_of(self.window)[None]
            heard = time.perf_counter()
            encoded = self.runtime.encode(again)
            coded = time.perf_counter()
            self.runtime.write_exactly(again, encoded, prompts, count)
            written = time.perf_counter()
            self.runtime.write_exactly(features, encoded, prompts, 1)
            once = time.perf_counter() - written
            if repeat:
                figures["encoder_ms"].append(1e3 * (coded - heard))
                token = (written - coded - once) / (count - 1)
                figures["decoder_ms"].append(max(LEAST_MS, 1e3 * token))
                figures["latency_s"].append(written - started)
        return figures

    def transcribe(self, items: Sequence[dict[str, Any]]) -> tuple[list[str], float]:
        """The texts of a batch, and the seconds they took, from the waveforms on."""
        started = time.perf_counter()
        features = np.stack([self.features_of(item["waveform"]) for item in items])
        prompts = [self.prompt(item["language"]) for item in items]
        rows = self.runtime.write(
            features,
            self.runtime.encode(features),
            prompts,
            beams=self.spec.beams,
            max_length=self.spec.max_length,
        )
        texts = [self.processor.decode(row, skip_special_tokens=True).strip() for row in rows]
        return texts, time.perf_counter() - started

    def hear_one_by_one(self) -> list[dict[str, Any]]:
        """A line for each clip of this round."""
        lines = []
        for name, position in self.mine:
            item = self.clips.read(name, position)
            (text,), spent = self.transcribe([item])
            lines.append({"set": name, **item["line"], "hypothesis": text, "compute_seconds": spent})
        return lines

    def hear_batches(self, alone: Sequence[dict[str, Any]], size: int) -> dict[str, Any]:
        """Some clips of this round in batches of `size`: seconds of sound and of work, and other texts than `alone`."""
        heard = {(line["set"], line["position"]): line for line in alone}
        read = [(place, self.clips.read(*place)) for place in for_batches(self.mine, max(BATCHES))]
        read.sort(key=lambda one: -len(one[1]["waveform"]))  # as the evaluation makes its batches
        audio = sum(len(item["waveform"]) for _, item in read) / self.extractor.sampling_rate
        if size == 1:
            return {"audio": audio, "seconds": sum(heard[place]["compute_seconds"] for place, _ in read)}
        total, other = 0.0, 0
        for start in range(0, len(read), size):
            batch = read[start : start + size]
            texts, spent = self.transcribe([item for _, item in batch])
            total += spent
            other += sum(text != heard[place]["hypothesis"] for (place, _), text in zip(batch, texts, strict=True))
        return {"audio": audio, "seconds": total, "clips": len(read), "other_texts": other}


def measure(spec: Spec) -> dict[str, Any]:
    turn = Turn(spec)
    facts: dict[str, Any] = {
        "name": spec.name,
        "computes_in": turn.runtime.computes_in,
        "libraries_bytes": turn.libraries_bytes,
        "load_seconds": turn.load_seconds,
        "window_seconds": turn.extractor.n_samples / turn.extractor.sampling_rate,
        **turn.time_window(),
        "clips": turn.hear_one_by_one(),
    }
    facts["peak_bytes"] = {"1": peak_resident_bytes()}
    facts["batches"] = {}
    for size in BATCHES if turn.mine else ():
        facts["batches"][str(size)] = turn.hear_batches(facts["clips"], size)
        facts["peak_bytes"][str(size)] = peak_resident_bytes()
    return facts


@exits
def main(spec: Path, result: Path) -> None:
    from whisper_train.run_log import quiet_libraries

    quiet_libraries(None)
    write_json(result, measure(read_spec(spec)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
