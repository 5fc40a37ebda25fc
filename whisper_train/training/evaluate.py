"""Evaluation during training: the first eval set by generation, and the loss of its labels."""

from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from whisper_train.data.dataset import IGNORED, Collator, shielded
from whisper_train.evaluation.results import score_texts
from whisper_train.evaluation.transcribe import Decoding, choose_clips, transcribe
from whisper_train.job import Job


def measure(trainer: Any, job: Job, decoding: Decoding) -> dict[str, float]:
    """`wer` and `cer` by generation (unless predict_with_generate is off) and `loss`, on every rank."""
    clips = trainer.eval_dataset
    positions = choose_clips(clips.index, job.evaluation.clips_during_training)
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    metrics: dict[str, float] = {}
    if job.training.get("predict_with_generate"):
        columns = clips.reader.audio_columns
        texts = transcribe(model, trainer.processor, clips.index, columns, positions, decoding)
        scores = score_texts(clips.index, texts, job.evaluation.normalizer)
        metrics = {"wer": scores["wer"], "cer": scores["cer"]}
    share = positions[trainer.args.process_index :: trainer.args.world_size]
    loader = DataLoader(
        Subset(clips, share),
        decoding.batch_size,
        num_workers=decoding.workers,
        collate_fn=Collator(trainer.model.config.pad_token_id),
        multiprocessing_context=shielded(decoding.workers),
        generator=torch.Generator(),  # torch's own belongs to training
    )
    return {**metrics, "loss": label_loss(trainer, model, loader)}


@torch.no_grad()
def label_loss(trainer: Any, model: Any, loader: Any) -> float:
    """Mean cross entropy of all label tokens of `loader`, over all ranks."""
    total = torch.zeros(2, device=trainer.args.device, dtype=torch.float64)
    for batch in loader:
        inputs = trainer._prepare_inputs(batch)
        labels = inputs.pop("labels")
        with trainer.compute_loss_context_manager():
            logits = model(**inputs).logits.float()
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        total += torch.stack([loss.double(), (labels != IGNORED).sum().double()])
    summed = trainer.accelerator.reduce(total)
    return float(summed[0] / summed[1].clamp(min=1))
