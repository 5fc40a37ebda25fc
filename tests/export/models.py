"""A Whisper of random weights with a tokenizer of its own, small enough to convert within seconds."""

from pathlib import Path

from whisper_train.create import create_base
from whisper_train.job import Architecture

SENTENCES = ["der Mann sucht das Buch", "die Frau findet den Apfel", "ein Hund malt ein Bild"]
SMALL = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "attention_heads": 2, "max_label_tokens": 32}
WINDOW = {"hop_length": 320, "window_seconds": 2}


def make_base(folder: Path) -> Path:
    """One layer on either side, windows of two seconds."""
    architecture = Architecture(vocabulary_size=300, init_std=0.2, **SMALL, **WINDOW)
    create_base(architecture, SENTENCES, 0, folder)
    return folder


def make_openai_like(folder: Path, processor: Path) -> Path:
    """The same size with OpenAI's vocabulary and window, as whisper.cpp wants them."""
    sizes = {**SMALL, "width": 64, "attention_heads": 1, "max_label_tokens": 448}
    create_base(Architecture(processor=str(processor), init_std=0.1, **sizes), [], 0, folder)
    return folder
