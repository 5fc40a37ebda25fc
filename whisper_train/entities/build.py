"""Puts the trainer of an entity model together: model, sentences, order, arguments, callbacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import set_seed

from whisper_train.data.dataset import IGNORED, Counts
from whisper_train.data.order import ClipOrder
from whisper_train.data.weights import epoch_weights
from whisper_train.entities.model import load_encoder, load_tokenizer, save_encoder
from whisper_train.entities.pieces import PieceCollator, SentenceDataset, label_words
from whisper_train.entities.prepare import settings_of
from whisper_train.entities.scores import count_sentences, rates
from whisper_train.entities.sets import open_set
from whisper_train.evaluation.passages import choose_clips
from whisper_train.job import Job
from whisper_train.job_entities import LABELS
from whisper_train.job_file import display
from whisper_train.out_of_memory import evaluating
from whisper_train.plan import RunPlan
from whisper_train.run_folder import RunFolder
from whisper_train.training.arguments import make_arguments
from whisper_train.training.build import add_last_callbacks, check_launch, options_of, other_callbacks
from whisper_train.training.callbacks import StopCallback
from whisper_train.training.evaluate import gather, leave_if_asked
from whisper_train.training.job_trainer import JobTrainer
from whisper_train.training.last_step import StepWatch
from whisper_train.training.meter import Meter, Work
from whisper_train.training.run import choose_checkpoint
from whisper_train.training.signals import StopRequest

FLOPS_OF_A_WEIGHT = 6  # forward and backward, for each position (Kaplan et al. 2020, arXiv:2001.08361)


def label_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Mean cross entropy of the labelled pieces; over a step's whole batch, where transformers counted them."""
    summed = torch.nn.functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    labelled = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum().clamp(min=1)
    return summed / labelled


@dataclass(frozen=True, slots=True)
class StepFlops:
    """The operations of training on a batch, its padding included."""

    weights: int  # without the embeddings, which are looked up

    def __call__(self, batch: Counts) -> float:
        return float(FLOPS_OF_A_WEIGHT * self.weights * batch.windows * batch.width)


class EntityTrainer(JobTrainer):
    """Trains on batches of word pieces."""

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        prepared: dict[str, Any] = super()._prepare_inputs(
            {name: value for name, value in inputs.items() if name != "counts"}
        )
        return prepared


def build_trainer(
    plan: RunPlan, request: StopRequest, say: Callable[[str], None]
) -> tuple[EntityTrainer, StopCallback, StepWatch]:
    """The trainer of a run on this rank, and the callbacks that know whether it was asked to stop, and in a step."""
    job, most = plan.job, settings_of(plan.job).max_tokens
    seed = job.training.get("seed", 42)
    set_seed(seed)
    tokenizer = load_tokenizer(plan.base, revision=job.base_revision)
    model = load_encoder(plan.base, revision=job.base_revision, seed=seed)
    if job.model.dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = job.model.dropout
    train = open_set(plan.folder.data, "train")
    weights = epoch_weights(job.data, train)  # type: ignore[arg-type]  # it asks for the sources alone
    order = ClipOrder(train, weights, plan.layout.global_batch, seed)  # type: ignore[arg-type]
    args = make_arguments(job, plan.layout, plan.folder.path, None)
    throughput = plan.folder.read().get("throughput") if plan.checkpoint else None
    embedded = model.get_input_embeddings().weight.numel()
    flops = StepFlops(sum(parameter.numel() for parameter in model.parameters()) - embedded)
    meter = Meter(Work(**throughput["totals"]) if throughput else Work(), lambda batch: 0.0, flops)
    stop, watch = StopCallback(request), StepWatch()
    trainer = EntityTrainer(
        model=model,
        args=args,
        train_dataset=SentenceDataset(train.sentences, tokenizer, most),
        eval_dataset=SentenceDataset(first_eval_sentences(plan), tokenizer, most),
        data_collator=PieceCollator(tokenizer.pad_token_id),
        callbacks=[stop, watch, *other_callbacks(plan, order, args, meter, say)],
        processor=tokenizer,
        order=order,
        measure=measure,
        loss=label_loss,
        meter=meter,
        choices=len(LABELS),
        stop=stop,
        **options_of(plan, model, request, say),
    )
    add_last_callbacks(trainer, plan, say)
    check_launch(trainer, plan)
    return trainer, stop, watch


def first_eval_sentences(plan: RunPlan) -> list[Any]:
    """The sentences that are evaluated during training, always the same ones."""
    sentences = open_set(plan.folder.data, f"eval.{next(iter(plan.job.data.eval))}").sentences
    return [sentences[one] for one in choose_clips(sentences, plan.job.evaluation.clips_during_training)]


def measure(trainer: Any) -> dict[str, float]:
    """`macro_f1`, `sentence_accuracy` and `loss` on the eval sentences; every rank labels its share.

    Raises EvaluationLeft when the run is asked to leave meanwhile.
    """
    dataset = trainer.eval_dataset
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    mine = range(trainer.args.process_index, len(dataset), trainer.args.world_size)
    tokens = [dataset.sentences[one].tokens for one in mine]
    size = trainer.args.per_device_eval_batch_size
    how: dict[str, Any] = {"max_tokens": dataset.max_tokens, "batch_size": size, "leaves": trainer.asked}
    with evaluating(size):
        labelled = label_words(model, trainer.processor, tokens, **how)
    leave_if_asked(trainer)
    pairs = gather([(dataset.sentences[one].labels, labels) for one, labels in zip(mine, labelled, strict=True)])
    found = rates(count_sentences([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    with evaluating(size):
        loss = mean_loss(trainer, model, list(mine), size)
    return {"macro_f1": found["macro_f1"], "sentence_accuracy": found["sentence_accuracy"], "loss": loss}


@torch.no_grad()
def mean_loss(trainer: Any, model: Any, positions: list[int], size: int) -> float:
    """Mean cross entropy of all labelled pieces, over all ranks."""
    dataset, total = trainer.eval_dataset, torch.zeros(2, device=trainer.args.device, dtype=torch.float64)
    for start in range(0, len(positions), size):
        batch = trainer.data_collator([dataset.encoded(one) for one in positions[start : start + size]])
        inputs = trainer._prepare_inputs(batch)
        labels = inputs.pop("labels")
        with trainer.compute_loss_context_manager():
            summed = label_loss(model(**inputs), labels, torch.tensor(1.0, device=labels.device))
        total += torch.stack([summed.double(), (labels != IGNORED).sum().double()])
        if trainer.asked():
            break
    leave_if_asked(trainer)
    reduced = trainer.accelerator.reduce(total)
    return float(reduced[0] / reduced[1].clamp(min=1))


def save_best(job: Job, folder: RunFolder, base: str, say: Callable[[str], None]) -> None:
    """Puts the best checkpoint's model into the run folder."""
    chosen = choose_checkpoint(folder, say)
    save_encoder(load_encoder(str(chosen)), load_tokenizer(base, revision=job.base_revision), folder.path)
    folder.update(kept=chosen.name, averaging=None)
    say(f"kept: {chosen.name} as the model in {display(folder.path)}")
