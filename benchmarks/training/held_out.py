"""How good a model is on the held-out clips: the same code, batches and format for every way."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from whisper_train.audio import SAMPLE_RATE
from whisper_train.data.dataset import IGNORED, ClipDataset, Collator
from whisper_train.data.index import Index
from whisper_train.data.order import Draw
from whisper_train.evaluation.passages import Clips
from whisper_train.evaluation.score import count_pairs
from whisper_train.evaluation.transcribe import Decoding, transcribe
from whisper_train.labels import Labels

CLIPS_AT_ONCE = 8
MAX_TOKENS = 64  # of a transcript: what little training leaves goes on for ever
NORMALIZER = "whisper-basic"


@torch.no_grad()
def held_out_loss(model: Any, processor: Any, index_path: Path, precision: str) -> float:
    """Mean cross entropy of the label tokens, every clip by itself in a window of 30 s, without time stamps.

    The features are transformers' own, which no way of training can have changed.
    """
    extractor = processor.feature_extractor
    labels = Labels(processor.tokenizer, "transcribe", multilingual=True, hop_length=extractor.hop_length)
    clips = ClipDataset(Index(index_path, None), [None], labels, extractor.n_samples / SAMPLE_RATE)
    collate = Collator(model.config.pad_token_id)
    was_training = model.training
    model.eval()
    loss, tokens = 0.0, 0
    half = torch.autocast(model.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    for start in range(0, len(clips), CLIPS_AT_ONCE):
        positions = range(start, min(start + CLIPS_AT_ONCE, len(clips)))
        items = [clips[Draw((position,))] for position in positions]
        batch = collate(items)
        assert "dropped" not in batch, batch["dropped"]
        waveforms = [item["waveform"] for item in items]
        features = extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
        wanted = batch["labels"].to(model.device)
        with half:
            logits = model(
                input_features=features.to(model.device),
                decoder_input_ids=batch["decoder_input_ids"].to(model.device),
                use_cache=False,
            ).logits
        loss += float(
            torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
            )
        )
        tokens += int((wanted != IGNORED).sum())
    model.train(was_training)
    return loss / tokens


def held_out_wer(model: Any, processor: Any, index_path: Path, clips: int, precision: str) -> float:
    """Word error rate, as a fraction, of greedy transcripts of the first `clips` held-out clips."""
    index = Index(index_path, None)
    passages = Clips(index, [None], range(min(clips, len(index))))
    decoding = Decoding(task="transcribe", batch_size=CLIPS_AT_ONCE, max_length=MAX_TOKENS, precision=precision)
    model.eval()
    pairs = [
        (line["reference"], line["hypothesis"])
        for batch in transcribe(model, processor, passages, decoding)
        for line in batch
    ]
    return float(count_pairs(pairs, [NORMALIZER])[NORMALIZER].words.rate)
