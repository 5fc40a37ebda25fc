"""Transcription by batched generation, longest first; what is longer than the window by sequential decoding."""

import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.modeling_outputs import BaseModelOutput

from whisper_train.audio import SAMPLE_RATE, LogMel
from whisper_train.data.workers import patiently, shielded
from whisper_train.evaluation.passages import Passages
from whisper_train.evaluation.words import join_texts
from whisper_train.job import Job
from whisper_train.machine import choose_precision
from whisper_train.model import is_multilingual
from whisper_train.out_of_memory import evaluating

LEAST_SECONDS = 0.1  # of sound: what a model writes about less, at the very end of a recording, nobody has said
TRANSFORMERS_FRAME = 0.01  # seconds that transformers takes a frame of any spectrogram for in what generate() returns
ENCODED_AT_ONCE = 8  # clips, on a processor: what more of them make does not stay in its cache, a quarter slower
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}

# What openai/whisper does with recordings longer than its window (transcribe.py), in the terms of transformers: the
# threshold of compression is the same 2.4 of OpenAI's, measured on tokens instead of text.
LONG_FORM: dict[str, Any] = {
    "return_timestamps": True,
    "temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "compression_ratio_threshold": 1.35,
    "logprob_threshold": -1.0,
    "no_speech_threshold": 0.6,
    "condition_on_prev_tokens": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How text is generated; the same for a model and its baseline."""

    task: str
    batch_size: int
    beams: int | None = None
    max_length: int | None = None
    workers: int = 0
    batch_timeout: float | None = None  # seconds that the workers may take for a batch
    precision: str = "fp32"  # bf16 or fp16: autocast on a GPU, for weights kept in float32


def make_decoding(job: Job, *, workers: int) -> Decoding:
    return Decoding(
        task=job.task,
        batch_size=job.training.get("per_device_eval_batch_size") or job.machine.per_device_eval_batch_size,
        beams=job.training.get("generation_num_beams"),
        max_length=job.training.get("generation_max_length"),
        workers=workers,
        batch_timeout=job.faults.batch_timeout if workers else None,
        precision=choose_precision(job),
    )


def make_batches(seconds: Sequence[float], window_seconds: float, batch_size: int) -> list[list[int]]:
    """Numbers of the passages that are transcribed together, longest first: the same batches in every process.

    A passage longer than the window counts as the number of its windows; long and short ones do not mix.
    """
    longest_first = sorted(range(len(seconds)), key=lambda number: (-seconds[number], number))
    batches: list[list[int]] = []
    room = 0
    for number in longest_first:
        is_long = seconds[number] > window_seconds
        started_long = bool(batches) and seconds[batches[-1][0]] > window_seconds
        if room == 0 or started_long != is_long:
            batches.append([])
            room = max(1, int(batch_size // -(-seconds[number] // window_seconds))) if is_long else batch_size
        batches[-1].append(number)
        room -= 1
    return batches


@torch.inference_mode()
def transcribe(
    model: Any,
    processor: Any,
    passages: Passages,
    decoding: Decoding,
    *,
    share: tuple[int, int] = (0, 1),
    done: Container[int] = (),
) -> Iterator[list[dict[str, Any]]]:
    """Yields the transcription lines of one batch after the other, as the files of transcription.py hold them.

    `share` is (this process, processes): it takes every so many-th batch. Passages whose keys are `done` are left out.
    """
    extractor = processor.feature_extractor
    batches = make_batches(passages.seconds, extractor.n_samples / SAMPLE_RATE, decoding.batch_size)
    mine = [
        [number for number in batch if passages.keys[number] not in done] for batch in batches[share[0] :: share[1]]
    ]
    # A generator of its own: drawing from torch's would make a resumed run differ from an unbroken one.
    loader: Any = DataLoader(
        passages,  # type: ignore[arg-type]  # a map-style dataset needs no base class
        batch_sampler=[batch for batch in mine if batch],
        num_workers=decoding.workers,
        collate_fn=list,
        multiprocessing_context=shielded(decoding.workers),
        generator=torch.Generator(),
    )
    for batch in patiently(loader, decoding.batch_timeout):
        started = time.perf_counter()
        heard = [item for item in batch if item["waveform"] is not None]
        with evaluating(decoding.batch_size):
            texts = iter(transcribe_batch(model, processor, heard, decoding) if heard else [])
        spent = time.perf_counter() - started
        audio = sum(len(item["waveform"]) for item in heard)
        lines = []
        for item in batch:
            unheard = item["waveform"] is None
            part = 0.0 if unheard else spent * len(item["waveform"]) / audio
            text = {"hypothesis": "" if unheard else next(texts), "compute_seconds": round(part, 4)}
            if unheard:
                text["unreadable"] = True
            lines.append({**item["line"], **text})
        yield lines


def transcribe_batch(model: Any, processor: Any, batch: Sequence[dict[str, Any]], decoding: Decoding) -> list[str]:
    """The text of each item of `batch`, all within the model's window or all beyond it."""
    extractor, device, dtype = processor.feature_extractor, model.device, model.dtype
    lengths = [len(item["waveform"]) for item in batch]
    waveforms = torch.zeros(len(batch), max(lengths))
    for row, item in enumerate(batch):
        waveforms[row, : lengths[row]] = torch.from_numpy(item["waveform"])
    features = LogMel(extractor, device)(waveforms.to(device)).to(dtype)
    options: dict[str, Any] = {"num_beams": decoding.beams, "max_length": decoding.max_length}
    options = {key: value for key, value in options.items() if value is not None}
    if is_multilingual(model):  # without the task, WER went from 2.5 to 33.6 %
        options |= {"language": [item["language"] for item in batch], "task": decoding.task}
    half = HALF.get(decoding.precision) if device.type == "cuda" and dtype == torch.float32 else None
    with torch.autocast("cuda", half) if half else nullcontext():
        if max(lengths) > extractor.n_samples:
            frames = torch.tensor(lengths, device=device) // extractor.hop_length
            heard = (torch.arange(features.shape[-1], device=device) < frames[:, None]).long()
            return transcribe_long(model, processor, features, heard, options)
        if device.type == "cpu":
            options["encoder_outputs"] = encode_in_parts(model, features)
        everything = torch.ones_like(features[:, 0], dtype=torch.long)  # what Whisper hears anyway; unsaid, it warns
        # Once: else it goes on after time stamps that nobody asked for, with other clips than were encoded or for ever.
        options["force_unique_generate_call"] = True
        tokens = model.generate(features, attention_mask=everything, use_cache=True, **options)
    return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]


def transcribe_long(
    model: Any, processor: Any, features: torch.Tensor, heard: torch.Tensor, options: dict[str, Any]
) -> list[str]:
    """Sequential decoding of `features` (recordings, mel bins, frames), of which `heard` (recordings, frames) is 1."""
    with same_chance(features.shape[-1]):
        found = model.generate(
            features, attention_mask=heard, use_cache=True, return_segments=True, **options, **LONG_FORM
        )
    texts = []
    for segments, frames in zip(found["segments"], heard.sum(-1).tolist(), strict=True):
        spoken = drop_made_up(segments, frames, processor.feature_extractor.hop_length)
        texts.append(join_texts([processor.decode(one["tokens"], skip_special_tokens=True) for one in spoken]))
    return texts


def drop_made_up(segments: Sequence[dict[str, Any]], frames: int, hop_length: int) -> list[dict[str, Any]]:
    """The segments of a recording of so many `frames`, without one that begins in its last LEAST_SECONDS.

    Sequential decoding goes on where the last sentence ended by its time stamp, be it a frame before the end; a model
    that was tuned on speech alone writes a whole sentence for it.
    """
    least = LEAST_SECONDS * SAMPLE_RATE / hop_length
    return [one for one in segments if float(one["start"]) / TRANSFORMERS_FRAME <= frames - least]


def encode_in_parts(model: Any, features: torch.Tensor) -> BaseModelOutput:
    """What the encoder makes of `features`, a few clips at a time; decoding alone gains by larger batches there."""
    parts = [model.get_encoder()(part).last_hidden_state for part in torch.split(features, ENCODED_AT_ONCE)]
    return BaseModelOutput(last_hidden_state=torch.cat(parts))


@contextmanager
def same_chance(seed: int) -> Iterator[None]:
    """Within the block torch draws what `seed` says, and afterwards what it would have drawn without it.

    Long-form decoding draws when it falls back to a higher temperature; the same recordings must give the same text.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
