"""A Whisper from random weights, with a tokenizer made for its texts: the base of the demo, and of experiments."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whisper_train.audio import SAMPLE_RATE
from whisper_train.job import Architecture
from whisper_train.languages import LANGUAGES
from whisper_train.model import load_processor

TIMESTAMPS = 1_501  # 0.00 s to 30.00 s in steps of 0.02 s


def create_processor(architecture: Architecture, texts: Iterable[str]) -> Any:
    """A WhisperProcessor: the one named, or a byte-pair tokenizer trained on `texts` with Whisper's special tokens."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    if architecture.processor:
        tokenizer = load_processor(architecture.processor, key="architecture.processor").tokenizer
    else:
        tokenizer = train_tokenizer(texts, architecture.vocabulary_size)
    extractor = WhisperFeatureExtractor(
        feature_size=architecture.mel_bins,
        hop_length=architecture.hop_length,
        chunk_length=architecture.window_seconds,
        sampling_rate=SAMPLE_RATE,
    )
    return WhisperProcessor(extractor, tokenizer)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """Byte-level BPE of `vocabulary_size`, then Whisper's special tokens in OpenAI's order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import WhisperTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>", *(f"<|{step * 0.02:.2f}|>" for step in range(TIMESTAMPS))]
    tokenizer.add_special_tokens(special)
    return WhisperTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def create_model(architecture: Architecture, processor: Any, seed: int) -> Any:
    """WhisperForConditionalGeneration with random weights that depend on `seed` alone."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, set_seed

    tokenizer = processor.tokenizer
    token = tokenizer.get_added_vocab()
    frames = architecture.window_seconds * SAMPLE_RATE // architecture.hop_length
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=architecture.mel_bins,
        d_model=architecture.width,
        encoder_layers=architecture.encoder_layers,
        decoder_layers=architecture.decoder_layers,
        encoder_attention_heads=architecture.attention_heads,
        decoder_attention_heads=architecture.attention_heads,
        encoder_ffn_dim=4 * architecture.width,
        decoder_ffn_dim=4 * architecture.width,
        max_source_positions=frames // 2,
        max_target_positions=architecture.max_label_tokens,
        init_std=architecture.init_std,
        bos_token_id=token["<|endoftext|>"],
        eos_token_id=token["<|endoftext|>"],
        pad_token_id=token["<|endoftext|>"],
        decoder_start_token_id=token["<|startoftranscript|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    set_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        max_length=architecture.max_label_tokens,
        no_timestamps_token_id=token["<|notimestamps|>"],
        prev_sot_token_id=token["<|startofprev|>"],
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": token[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in token},
        task_to_id={"transcribe": token["<|transcribe|>"], "translate": token["<|translate|>"]},
    )
    return model


def create_base(architecture: Architecture, texts: Iterable[str], seed: int, folder: Path) -> None:
    """Writes a new model with its processor to `folder`, complete or not at all."""
    aside = folder.with_name(f".{folder.name}.incomplete")
    processor = create_processor(architecture, texts)
    create_model(architecture, processor, seed).save_pretrained(aside)
    processor.save_pretrained(aside)
    aside.replace(folder)
