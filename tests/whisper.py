"""A Whisper of random weights made in memory, without a tokenizer: for tests of what computes."""

from typing import Any

import torch

WHISPER_WORDS = 51_866  # the vocabulary of large-v3
POSITIONS = 50  # of the encoder: a second


def make_whisper(words: int = WHISPER_WORDS, **changes: Any) -> Any:
    """A Whisper of one small layer on either side, in training mode, always with the same weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": words}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": POSITIONS}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_target_positions": 64, "init_std": 0.1}
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WhisperForConditionalGeneration(WhisperConfig(**{**sizes, **tokens, **changes})).train()


def make_batch(windows: int = 3, tokens: int = 8, frames: int = 2 * POSITIONS, words: int = 500) -> dict[str, Any]:
    """Features and decoder input of shapes (windows, 80, frames) and (windows, tokens), always the same."""
    chance = torch.Generator().manual_seed(1)
    features = torch.randn(windows, 80, frames, generator=chance)
    return {
        "input_features": features,
        "decoder_input_ids": torch.randint(0, words, (windows, tokens), generator=chance),
    }
