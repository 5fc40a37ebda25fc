"""The parts of a Whisper that a job can name: which weights belong to them, and how high above the input they are."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from whisper_train.errors import UserError

# What transformers calls the pieces of encoder and decoder.
PIECES = {
    "conv1": "conv",
    "conv2": "conv",
    "embed_tokens": "embeddings",
    "embed_positions": "positions",
    "layers": "layers",
    "layer_norm": "norm",
}
EMBEDDINGS = "decoder.embeddings"
PARTS: tuple[str, ...] = (
    "encoder",
    "encoder.conv",
    "encoder.positions",
    "encoder.layers",
    "encoder.layers.0-3",
    "encoder.norm",
)
PARTS += ("decoder", EMBEDDINGS, "decoder.positions", "decoder.layers", "decoder.layers.0-3", "decoder.norm")


@dataclass(frozen=True, slots=True)
class Part:
    """`encoder.layers.0-15` as side, piece and layer numbers; null: all of it."""

    side: str
    piece: str | None = None
    first: int | None = None
    last: int | None = None

    def holds(self, other: "Part") -> bool:
        """Whether `other`, a single layer or a piece without any, lies within this part."""
        if self.side != other.side or self.piece not in (None, other.piece):
            return False
        return self.first is None or self.last is None or self.first <= (other.first or 0) <= self.last


def parse_part(name: str) -> Part:
    """The part called `name`; ValueError with the names there are."""
    match = re.fullmatch(r"(\w+(?:\.[a-z]+)?)(?:(?<=\.layers)\.(\d+)(?:-(\d+))?)?", name)
    if match is None or match[1] not in PARTS:
        near = get_close_matches(name, PARTS, n=1)
        raise ValueError(
            f"{name}: no such part{f', did you mean {near[0]}?' if near else ''}; there are {', '.join(PARTS)}"
        )
    side, _, piece = match[1].partition(".")
    first = None if match[2] is None else int(match[2])
    last = first if match[3] is None else int(match[3])
    if first is not None and last is not None and last < first:
        raise ValueError(f"{name}: write the lower layer first: {side}.layers.{last}-{first}")
    return Part(side, piece or None, first, last)


def part_of(parameter: str) -> Part:
    """Where the parameter of that name belongs, also behind what peft or a wrapper puts before it.

    The output projection is the decoder's embeddings: they share their weights.
    """
    found = re.search(rf"(?:^|\.)(encoder|decoder)\.({'|'.join(PIECES)})\.(?:(?<=layers\.)(\d+)\.)?", parameter)
    if found is None:
        assert "proj_out" in parameter, f"{parameter}: no part of a Whisper"
        return parse_part(EMBEDDINGS)
    layer = None if found[3] is None else int(found[3])
    return Part(found[1], PIECES[found[2]], layer, layer)


def units(config: Any) -> Iterator[Part]:
    """Every piece, and every layer by itself, of the Whisper with this configuration."""
    for side, pieces, layers in (
        ("encoder", ("conv", "positions", "norm"), config.encoder_layers),
        ("decoder", ("embeddings", "positions", "norm"), config.decoder_layers),
    ):
        yield from (Part(side, piece) for piece in pieces)
        yield from (Part(side, "layers", number, number) for number in range(layers))


def check_parts(names: Sequence[str], config: Any) -> None:
    """Raises UserError for a part that the model of `config` lacks, and when they are all of it."""
    there = list(units(config))
    parts = {name: parse_part(name) for name in names}
    for name, part in parts.items():
        layers = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}[part.side]
        if part.last is not None and part.last >= layers:
            raise UserError(f"model.freeze: {name}: the base's {part.side} has layers 0 to {layers - 1}")
    if all(any(part.holds(unit) for part in parts.values()) for unit in there):
        raise UserError(f"model.freeze: {', '.join(names)}: leaves nothing to train; take one of them out")


def freeze_parts(model: Any, names: Sequence[str]) -> None:
    """Keeps these parts of `model` as they are; raises UserError when nothing is left to train."""
    parts = [parse_part(name) for name in names]
    for name, parameter in model.named_parameters():
        if any(part.holds(part_of(name)) for part in parts):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"model.freeze: {', '.join(names)}: leaves no adapter to train; take one out, or change model.lora"
        )


def layers_below_top(part: Part, config: Any) -> int:
    """How many layers lie between the output and `part`, as `part_of` gives it: 0 for the decoder's highest layer.

    The encoder lies below the decoder; lowest of all are convolutions, embeddings and positions. The norm at the end of
    either belongs to its highest layer.
    """
    decoder, encoder = int(config.decoder_layers), int(config.encoder_layers)
    if part.piece in ("conv", "embeddings", "positions"):
        return decoder + encoder
    above, layers = (0, decoder) if part.side == "decoder" else (decoder, encoder)
    return above if part.first is None else above + layers - 1 - part.first
