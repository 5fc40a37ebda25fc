"""The stock recipe: how the public examples fine-tune Whisper, with nothing of this program in it.

The features of every clip are computed beforehand, 30 seconds each, and stored by `datasets`; a collator pads the
labels; Seq2SeqTrainer trains. After the example of transformers (examples/pytorch/speech-recognition,
run_speech_recognition_seq2seq.py and the settings of its README) and "Fine-Tune Whisper For Multilingual ASR with
Transformers" (https://huggingface.co/blog/fine-tune-whisper): batch of 16, AdamW without weight decay, warm-up, no
loading processes, generation length 225.

What differs is the same for all ways: learning rate, constant instead of falling to a last step that nobody knows here;
precision; gradient checkpointing off where memory allows, which makes the recipe faster than it is written. Audio is
decoded by soundfile, which takes a fortieth of the time of the examples' torchcodec.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    set_seed,
)

from benchmarks.training.running import Running, Seen, Spec

MAX_SECONDS = 30.0


def compute_features(spec: Spec, processor: Any, cache: Path) -> Any:
    """The training and the held-out clips as `input_features` and `labels`, kept in Arrow files under `cache`."""
    from datasets import load_dataset

    files = {"train": str(spec.train), "test": str(spec.held_out)}
    recordings = load_dataset("json", data_files=files, cache_dir=str(cache))
    return recordings.map(
        compute_one,
        fn_kwargs={"processor": processor},
        remove_columns=recordings["train"].column_names,
        num_proc=min(len(os.sched_getaffinity(0)), *(len(part) for part in recordings.values())),
    ).filter(lambda seconds: 0 < seconds <= MAX_SECONDS, input_columns=["seconds"])


def compute_one(clip: dict[str, Any], processor: Any) -> dict[str, Any]:
    import soundfile

    waveform, rate = soundfile.read(clip["audio"], dtype="float32")
    return {
        "input_features": processor.feature_extractor(waveform, sampling_rate=rate).input_features[0],
        "labels": processor.tokenizer(clip["text"]).input_ids,
        "seconds": len(waveform) / rate,
    }


def load_stock_processor(base: Path, language: str) -> Any:
    """The processor in `base`, whose labels name language and task."""
    processor = WhisperProcessor.from_pretrained(base)
    processor.tokenizer.set_prefix_tokens(language=language, task="transcribe")
    return processor


class PaddingCollator:
    """Stacks features and pads labels to the longest of the batch; padding is left out of the loss.

    The first token is taken off, since the model puts it before the labels itself. `seconds` are for the benchmark.
    """

    def __init__(self, processor: Any, start: int) -> None:
        self.processor = processor
        self.start = start

    def __call__(self, clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
        features = [{"input_features": clip["input_features"]} for clip in clips]
        batch = dict(self.processor.feature_extractor.pad(features, return_tensors="pt"))
        padded = self.processor.tokenizer.pad([{"input_ids": clip["labels"]} for clip in clips], return_tensors="pt")
        labels = padded["input_ids"].masked_fill(padded["attention_mask"] != 1, -100)
        batch["labels"] = labels[:, 1:] if bool((labels[:, 0] == self.start).all()) else labels
        batch["seconds"] = [clip["seconds"] for clip in clips]
        return batch


class CountingTrainer(Seq2SeqTrainer):
    """Seq2SeqTrainer as it is; counts the clips that it is given and their seconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen = Seen(0, 0.0)

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any, **options: Any) -> torch.Tensor:
        seconds = inputs.pop("seconds")
        self.seen = Seen(self.seen.clips + len(seconds), self.seen.audio_seconds + sum(seconds))
        loss: torch.Tensor = super().training_step(model, inputs, *more, **options)
        return loss


def build(spec: Spec, folder: Path) -> Running:
    """Computes the features and puts the trainer together."""
    spec.note("imports")
    set_seed(spec.seed)
    processor = load_stock_processor(spec.base, spec.language)
    torch.set_num_threads(1)  # while several processes compute features, as the example's README advises
    clips = compute_features(spec, processor, folder / "cache")
    torch.set_num_threads(spec.threads)
    spec.note("features")
    model = WhisperForConditionalGeneration.from_pretrained(spec.base, dtype=torch.float32)
    model.config.use_cache = False
    model.generation_config.language = spec.language
    model.generation_config.task = "transcribe"
    trainer = CountingTrainer(
        model=model,
        args=make_arguments(spec, folder),
        train_dataset=clips["train"],
        eval_dataset=clips["test"],
        data_collator=PaddingCollator(processor, model.config.decoder_start_token_id),
        processing_class=processor,
    )
    return Running(trainer, lambda updates: trainer.seen)


def make_arguments(spec: Spec, folder: Path) -> Seq2SeqTrainingArguments:
    return Seq2SeqTrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=spec.device_batch,
        gradient_accumulation_steps=spec.global_batch // spec.device_batch,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=spec.warmup_updates,
        max_steps=spec.most_updates,
        activation_checkpointing=spec.gradient_checkpointing,
        bf16=spec.precision == "bf16",
        use_cpu=spec.device == "cpu",
        predict_with_generate=True,
        generation_max_length=225,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=25,
        report_to=[],
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        seed=spec.seed,
    )
