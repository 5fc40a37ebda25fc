"""How large the base of a job is, without fetching it: from its folder, the hub's cache, or its name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_train.errors import UserError
from whisper_train.languages import LANGUAGES
from whisper_train.model import resolve_place
from whisper_train.paths import Directories, read_json

if TYPE_CHECKING:
    from whisper_train.job import Architecture

CONVOLUTION = 3  # frames that each of the encoder's two convolutions sees
TIMESTAMPS = 1_501  # as create.py makes them, which needs more packages than a plan for Vast.ai has
SPECIAL_TOKENS = 8  # beside languages and time stamps; see create.train_tokenizer
SHORTEST_HOP = 160  # samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """What decides on the number of parameters of a Whisper (openai/whisper, model.py: ModelDimensions)."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mel_bins: int = 80
    vocabulary: int = 51_865
    positions: int = 1_500  # of the encoder, two frames each
    tokens: int = 448  # positions of the decoder
    hop: int = SHORTEST_HOP
    feed_forward: int | None = None  # None: four times the width

    @property
    def parameters(self) -> int:
        """Weights, those of the output projection not counted, since they are the embedding's."""
        wide, inner = self.width, self.feed_forward or 4 * self.width
        attention = 4 * wide * wide + 3 * wide  # keys have no bias
        norm, feed = 2 * wide, 2 * wide * inner + wide + inner
        encoder = self.encoder_layers * (attention + feed + 2 * norm) + norm + self.positions * wide
        encoder += CONVOLUTION * wide * (self.mel_bins + wide) + 2 * wide
        decoder = self.decoder_layers * (2 * attention + feed + 3 * norm) + norm
        return encoder + decoder + (self.vocabulary + self.tokens) * wide

    @property
    def window_seconds(self) -> float:
        return self.positions * 2 * self.hop / 16_000


# https://github.com/openai/whisper/blob/main/model-card.md and the configurations of the models on the hub.
SIZES = {
    "tiny": Dimensions(width=384, heads=6, encoder_layers=4, decoder_layers=4),
    "base": Dimensions(width=512, heads=8, encoder_layers=6, decoder_layers=6),
    "small": Dimensions(width=768, heads=12, encoder_layers=12, decoder_layers=12),
    "medium": Dimensions(width=1024, heads=16, encoder_layers=24, decoder_layers=24),
    "large": Dimensions(width=1280, heads=20, encoder_layers=32, decoder_layers=32),
}
TURBO_LAYERS = 4  # of the decoder
DISTILLED_LAYERS = {"small": 4, "medium": 2, "large": 2}  # of the decoder of distil-whisper/distil-*
VERSION_3 = {"mel_bins": 128, "vocabulary": 51_866}


def dimensions_by_name(base: str) -> Dimensions | None:
    """The dimensions of a model whose name says which Whisper it is or was made of; None when it does not."""
    from dataclasses import replace

    name = base.lower().rpartition("/")[2]
    found = re.search(r"(?:whisper|distil)-(tiny|base|small|medium|large|turbo)(.*)", name)
    if found is None:
        return None
    size, rest = found[1], found[2]
    turbo, third = size == "turbo" or "turbo" in rest, "v3" in rest
    chosen = SIZES["large" if turbo else size]
    if turbo or third:
        chosen = replace(chosen, **VERSION_3)
    elif ".en" in rest:
        chosen = replace(chosen, vocabulary=51_864)
    if turbo:
        return replace(chosen, decoder_layers=TURBO_LAYERS)
    if layers := re.search(r"dec(\d+)", rest):
        return replace(chosen, decoder_layers=int(layers[1]))
    if "distil" in name and size in DISTILLED_LAYERS:
        return replace(chosen, decoder_layers=DISTILLED_LAYERS[size])
    return chosen


def dimensions_of_new(architecture: "Architecture") -> Dimensions:
    """The dimensions of a `base: new`; a tokenizer that is taken from elsewhere counts as Whisper's."""
    own = architecture.vocabulary_size + SPECIAL_TOKENS + len(LANGUAGES) + TIMESTAMPS
    return Dimensions(
        width=architecture.width,
        heads=architecture.attention_heads,
        encoder_layers=architecture.encoder_layers,
        decoder_layers=architecture.decoder_layers,
        mel_bins=architecture.mel_bins,
        vocabulary=VERSION_3["vocabulary"] if architecture.processor else own,
        positions=architecture.window_seconds * 16_000 // architecture.hop_length // 2,
        tokens=architecture.max_label_tokens,
        hop=architecture.hop_length,
    )


def dimensions_of_folder(folder: Path) -> Dimensions:
    """The dimensions in a model's config.json; raises UserError when it is none of Whisper's."""
    path = folder / "config.json"
    try:
        return dimensions_of_values(read_json(path), hop_of(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"base: {path}: is not the configuration of a Whisper; check the path") from error


def dimensions_of_values(values: Mapping[str, Any], hop: int) -> Dimensions:
    """The dimensions that the `values` of a Whisper's configuration say; KeyError where they do not."""
    return Dimensions(
        width=values["d_model"],
        heads=values["encoder_attention_heads"],
        encoder_layers=values["encoder_layers"],
        decoder_layers=values["decoder_layers"],
        mel_bins=values["num_mel_bins"],
        vocabulary=values["vocab_size"],
        positions=values["max_source_positions"],
        tokens=values["max_target_positions"],
        feed_forward=values["encoder_ffn_dim"],
        hop=hop,
    )


def hop_of(folder: Path) -> int:
    """The hop length that a model's feature extractor was saved with, in samples."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            values = read_json(folder / name)
            return int(values.get("feature_extractor", values).get("hop_length", SHORTEST_HOP))
    return SHORTEST_HOP


def find_dimensions(base: str, architecture: "Architecture | None", directories: Directories) -> tuple[Dimensions, str]:
    """The dimensions of a job's base, and where they are from; raises UserError when nothing here tells them."""
    if architecture is not None:
        return dimensions_of_new(architecture), "architecture in the job"
    place = resolve_place(base, directories)
    if Path(place).is_absolute():
        return dimensions_of_folder(Path(place)), f"{place}/config.json"
    if cached := find_in_cache(base):
        return dimensions_of_folder(cached), "the hub's cache"
    by_name = dimensions_by_name(base)
    if by_name is None:
        raise UserError(
            f"base: {base}: was not fetched before, and its name says no size of Whisper (tiny … large, turbo);"
            f" fetch its configuration: huggingface-cli download {base} config.json"
        )
    return by_name, "its name"


def find_in_cache(base: str) -> Path | None:
    """The folder of a hub model's config.json in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "config.json")
    return Path(found).parent if isinstance(found, str) else None
