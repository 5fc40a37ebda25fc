"""What `python -m benchmarks.training` can be told."""

import argparse
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from benchmarks.training.ways import WAYS
from whisper_train.errors import UserError
from whisper_train.job import Architecture
from whisper_train.languages import check_language

SHARED = Path(__file__).parents[2].parent / "shared"
SPEECH, PROCESSOR = SHARED / "speech" / "kerstin-de", SHARED / "whisper-processor"

VOCABULARY, VOCABULARY_V3 = 51_865, 51_866  # words of the multilingual models; large-v3 has one language more
# Dimensions as published (openai/whisper, model card): width, layers of encoder and decoder, heads, mel bins.
SIZES: dict[str, tuple[int, int, int, int, int]] = {
    "smallest": (32, 1, 1, 2, 80),  # nobody's model: to see in a minute that the benchmark runs
    "tiny": (384, 4, 4, 6, 80),
    "base": (512, 6, 6, 8, 80),
    "small": (768, 12, 12, 12, 80),
    "medium": (1024, 24, 24, 16, 80),
    "large-v2": (1280, 32, 32, 20, 80),
    "large-v3": (1280, 32, 32, 20, 128),
    "large-v3-turbo": (1280, 32, 4, 20, 128),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The settings of one benchmark; every way gets the same."""

    data: Path | None  # None: synthetic speech
    processor: Path | None  # None: a tokenizer made for the texts
    language: str
    device: str
    model_size: str
    ways: tuple[str, ...]
    rounds: int
    updates: int  # of the stock recipe, beside the first one
    batch_clips: int
    device_batch: int
    clips: int | None
    held_out_clips: int
    wer_clips: int
    learning_rate: float
    warmup_updates: int
    gradient_checkpointing: bool
    everything: bool
    capped_profile: str
    cap_gib: float
    seed: int
    output: Path | None

    @property
    def updates_a_round(self) -> int:
        return self.updates // self.rounds

    @property
    def architecture(self) -> Architecture:
        width, encoder_layers, decoder_layers, heads, mel_bins = SIZES[self.model_size]
        return Architecture(
            processor=str(self.processor) if self.processor else None,
            width=width,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            attention_heads=heads,
            mel_bins=mel_bins,
        )

    @property
    def vocabulary(self) -> int:
        """Words of the decoder. The smallest model has those of its tokenizer alone."""
        if self.model_size == "smallest":
            return 0
        return VOCABULARY_V3 if self.model_size.startswith("large-v3") else VOCABULARY


def parse(arguments: list[str] | None = None) -> Options:
    """The options of the command line; raises UserError for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        help=f"folder with manifest.jsonl and its splits; default: {SPEECH} if there, else synthetic",
    )
    add("--synthetic", action="store_true", help="synthetic speech, even where recordings are there")
    add("--processor", type=Path, help=f"Whisper's tokenizer; default: {PROCESSOR} if there, else one is made")
    add("--language", default="de", help="of the recordings")
    add("--device", default="cpu", help="cpu (fp32) or cuda (bf16)")
    add("--model-size", default="tiny", help=f"random weights in the shape of {', '.join(SIZES)}")
    add(
        "--ways",
        default="stock,joined,short",
        help=f"of {', '.join(WAYS)}; stock is what the others are compared with",
    )
    add("--rounds", type=int, default=6, help="each trains one slice of each way")
    add("--updates", type=int, default=24, help="of the stock recipe in all rounds; ours goes on to the same wall time")
    add("--batch-clips", type=int, default=16, help="clips an update; ours takes as many windows as hold about so many")
    add("--device-batch", type=int, help="windows at once, the rest is accumulated; default: all of the update")
    add("--clips", type=int, help="of the training split; default: all")
    add("--held-out-clips", type=int, default=32)
    add("--wer-clips", type=int, default=16, help="of the held-out clips; 0: no WER")
    add("--learning-rate", type=float, default=5e-4, help="constant after the warm-up; random weights want a high one")
    add("--warmup-updates", type=int, default=5)
    add("--gradient-checkpointing", action="store_true", help="in every way")
    add(
        "--everything",
        action="store_true",
        help="also the last of --ways on a small card's profile",
    )
    add("--capped-profile", default="2x16gb", help="that machine profile")
    add("--cap-gib", type=float, default=16.0, help="GPU memory that it may use")
    add("--seed", type=int, default=42)
    add("--output", type=Path, help="folder of table, results.json and pictures; default: LOG_DIR/benchmark-training")
    return check(parser.parse_args(arguments))


def check(given: argparse.Namespace) -> Options:
    if given.model_size not in SIZES:
        near = get_close_matches(given.model_size, SIZES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"--model-size: {given.model_size}: no such size; {hint}there are {', '.join(SIZES)}")
    if given.device not in ("cpu", "cuda"):
        raise UserError(f"--device: {given.device}: must be cpu or cuda")
    ways = tuple(given.ways.split(","))
    if unknown := [name for name in ways if name not in WAYS]:
        raise UserError(f"--ways: {unknown[0]}: no such way; there are {', '.join(WAYS)}")
    if "stock" not in ways:
        raise UserError("--ways: stock: is missing, and it is what the others are compared with; add it")
    for name in ("rounds", "updates", "batch_clips", "held_out_clips"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: {getattr(given, name)}: must be at least 1")
    if given.updates % given.rounds:
        raise UserError(f"--updates: {given.updates}: must be a multiple of --rounds ({given.rounds})")
    if given.everything and len(ways) == 1:
        raise UserError("--ways: stock alone: --everything trains one of ours on a machine profile; name one")
    try:
        given.language = check_language(given.language)
    except ValueError as error:
        raise UserError(f"--language: {error}") from error
    device_batch = given.device_batch or given.batch_clips
    if device_batch < 1 or given.batch_clips % device_batch:
        raise UserError(f"--device-batch: {device_batch}: must divide --batch-clips ({given.batch_clips})")
    data = None if given.synthetic else given.data or (SPEECH if SPEECH.is_dir() else None)
    if data and not (data / "manifest.jsonl").is_file():
        raise UserError(f"--data: {data / 'manifest.jsonl'}: no such file; name a folder that holds it, or --synthetic")
    processor = given.processor or (PROCESSOR if PROCESSOR.is_dir() else None)
    values = {key: value for key, value in vars(given).items() if key != "synthetic"}
    values |= {"data": data, "processor": processor, "ways": ways, "device_batch": device_batch}
    return Options(**values)
