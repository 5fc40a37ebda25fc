"""Evaluation during training: the first eval set by generation, and the loss of its labels."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from whisper_train.audio import SAMPLE_RATE
from whisper_train.data.dataset import IGNORED, Collator
from whisper_train.data.order import Draw
from whisper_train.data.workers import patiently, shielded
from whisper_train.evaluation.passages import Clips, choose_clips
from whisper_train.evaluation.score import count_pairs
from whisper_train.evaluation.transcribe import Decoding, transcribe
from whisper_train.job import Job
from whisper_train.out_of_memory import evaluating
from whisper_train.training.signals import on_any_rank


class EvaluationLeft(Exception):
    """The run was asked to leave: all ranks leave the evaluation, which the next session does again."""


def leave_if_asked(trainer: Any) -> None:
    """Raises EvaluationLeft on all ranks when any was asked to leave."""
    if on_any_rank(trainer.asked(), trainer.args):
        raise EvaluationLeft


def measure(trainer: Any, job: Job, decoding: Decoding) -> dict[str, float]:
    """`wer` and `cer` by generation (unless predict_with_generate is off) and `loss`, on every rank.

    Raises EvaluationLeft when the run is asked to leave meanwhile.
    """
    clips = trainer.eval_dataset
    positions = choose_clips(clips.index, job.evaluation.clips_during_training)
    short = [position for position in positions if fits(clips, position, trainer.model.config.max_target_positions)]
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    share = (trainer.args.process_index, trainer.args.world_size)
    metrics: dict[str, float] = {}
    if job.training.get("predict_with_generate"):
        window_seconds = trainer.processor.feature_extractor.n_samples / SAMPLE_RATE
        columns = clips.reader.audio_columns
        passages = Clips(clips.index, columns, short or positions, clips.augmenter, window_seconds)
        pairs = []
        for batch in transcribe(model, trainer.processor, passages, decoding, share=share):
            pairs += [(line["reference"], line["hypothesis"]) for line in batch]
            if trainer.asked():
                break
        leave_if_asked(trainer)
        scored = count_pairs(gather(pairs), [job.evaluation.normalizer])[job.evaluation.normalizer]
        metrics = {"wer": scored.words.rate, "cer": scored.characters.rate}
    if not short:
        return metrics
    loader = DataLoader(
        clips,
        decoding.batch_size,
        sampler=[Draw((position,)) for position in short[share[0] :: share[1]]],
        num_workers=decoding.workers,
        collate_fn=Collator(trainer.model.config.pad_token_id),
        multiprocessing_context=shielded(decoding.workers),
        generator=torch.Generator(),  # torch's own belongs to training
    )
    with evaluating(decoding.batch_size):
        loss = label_loss(trainer, model, patiently(loader, decoding.batch_timeout))
    return {**metrics, "loss": loss}


def fits(clips: Any, position: int, max_tokens: int) -> bool:
    """Whether training could use this clip: the loss of a text needs the whole of it, in the window and the decoder.

    Sequential decoding of long recordings takes its time: while training goes on they are left out.
    """
    row = clips.index[position]
    if row["seconds"] > clips.max_seconds:
        return False
    return len(clips.labels(row["text"], row["language"])) <= max_tokens


def gather(lines: list[Any]) -> list[Any]:
    """Every rank's lines on every rank."""
    if not torch.distributed.is_initialized():
        return lines
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, lines)
    return [line for share in shares for line in share]


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
        if trainer.asked():
            break
    leave_if_asked(trainer)
    summed = trainer.accelerator.reduce(total)
    return float(summed[0] / summed[1].clamp(min=1))
