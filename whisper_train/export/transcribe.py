"""Transcription of files with any folder: a model in transformers' form, or one that was converted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.errors import UserError
from whisper_train.export.forms import FORMATS
from whisper_train.export.rules import Rules
from whisper_train.export.sounds import features_of, read
from whisper_train.export.subtitles import Cue, render
from whisper_train.export.windows import make_write, write_windows

# Which file tells the format of a folder, whoever made it.
MARKS = {
    "encoder_model.onnx": "onnx",
    "model.bin": "ctranslate2",
    "ggml-model.bin": "ggml",
    "model.safetensors": "safetensors",
    "model.safetensors.index.json": "safetensors",
}


class Heard(NamedTuple):
    """What was said in a recording, and the language it was written in; None where the model knows but one."""

    cues: list[Cue]
    language: str | None


Transcriber = Callable[[Waveform, str | None, bool], Heard]  # sound, language, whether times are wanted


def transcribe_files(
    folder: Path,
    audio: Sequence[Path],
    form: str,
    *,
    language: str | None,
    beams: int,
    output: Path | None,
    say: Callable[[str], None],
) -> None:
    """Writes a file for each recording to `output`, or says its text."""
    sounds = [(path, read(path)) for path in audio]  # what cannot be read is told before anything takes long
    if output:
        output.mkdir(parents=True, exist_ok=True)
    transcriber = open_folder(folder, beams)
    for path, sound in sounds:
        heard = transcriber(sound, language, form != "txt")
        text = render(heard.cues, form, str(path), heard.language)
        if output is None:
            say(text.rstrip("\n"))
        else:
            (output / f"{path.stem}.{form}").write_text(text, encoding="utf-8")
            say(f"{output / path.stem}.{form}")


def find_format(folder: Path) -> str:
    """Which runtime reads `folder`; raises UserError where none does."""
    if not folder.is_dir():
        raise UserError(f"transcribe: {folder}: no such folder; name an exported one, or a model's")
    for mark, form in MARKS.items():
        if (folder / mark).is_file():
            return form
    raise UserError(f"transcribe: {folder}: holds no model; there are {', '.join(FORMATS)} (whisper-train convert)")


def open_folder(folder: Path, beams: int) -> Transcriber:
    """What transcribes with the model in `folder`."""
    form = find_format(folder)
    processor = open_processor(folder)
    if form == "safetensors":
        return in_torch(folder, processor, beams)
    if form == "onnx":
        from whisper_train.export.onnx_runtime import OnnxWhisper as Runtime
    elif form == "ctranslate2":
        from whisper_train.export.ctranslate2_format import CTranslate2Whisper as Runtime  # type: ignore[assignment]
    else:
        from whisper_train.export.whisper_cpp import WhisperCpp as Runtime  # type: ignore[assignment]

        if beams > 1:
            raise UserError("transcribe: --beams: whisper.cpp's interface has one cache here; leave it out")
    return in_runtime(Runtime(folder), processor, beams)


def open_processor(folder: Path) -> Any:
    """Tokenizer and feature extractor beside the weights; config.json may be another runtime's."""
    from transformers import WhisperProcessor

    try:
        return WhisperProcessor.from_pretrained(str(folder.absolute()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"transcribe: {folder}: its processor cannot be loaded ({error}); convert it again") from error


def in_runtime(runtime: Any, processor: Any, beams: int) -> Transcriber:
    """Recordings that fit a window in one piece, as the evaluation hears them; others, or with times, by windows."""
    extractor = processor.feature_extractor

    def transcribe(sound: Waveform, language: str | None, times: bool) -> Heard:
        window = extractor.n_samples // extractor.hop_length
        by_windows = times or len(sound) > extractor.n_samples
        silence = np.zeros(extractor.n_samples if by_windows else 0, np.float32)
        features = features_of(extractor, np.concatenate([sound, silence]))
        rules: Rules = runtime.rules.with_timestamps() if by_windows else runtime.rules
        given = language or rules.language or detect(runtime, features[:, :window])
        prompt = rules.prompt(given, None)
        if not by_windows:
            written = runtime.write(features[None], [prompt], beams=beams)[0]
            text = processor.decode(written.tokens, skip_special_tokens=True).strip()
            return Heard([Cue(0.0, len(sound) / SAMPLE_RATE, text)], given)
        write = make_write(runtime, prompt, rules, beams, seed=len(sound))
        frames = len(sound) // extractor.hop_length
        found = write_windows(features, frames, window, extractor.hop_length, rules, write)
        texts = [processor.decode(one.tokens, skip_special_tokens=True).strip() for one in found]
        cues = [Cue(one.start, one.end, text) for one, text in zip(found, texts, strict=True) if text]
        return Heard(cues, given)

    return transcribe


def detect(runtime: Any, features: Any) -> str | None:
    """The language of a window (bins, frames), by the token that the model finds likeliest after the start."""
    rules: Rules = runtime.rules
    if not rules.languages:
        return None
    _, logits = runtime.trace(features, [rules.start], 1)
    codes = list(rules.languages)
    return codes[int(np.argmax(logits[0][[rules.languages[code] for code in codes]]))]


def in_torch(folder: Path, processor: Any, beams: int) -> Transcriber:
    """The same with transformers, by the evaluation's own functions."""
    import torch

    from whisper_train.evaluation.transcribe import LONG_FORM, TRANSFORMERS_FRAME, drop_made_up, same_chance
    from whisper_train.model import is_multilingual, load_model

    model = load_model(str(folder.absolute()), key="transcribe").eval()
    extractor = processor.feature_extractor
    frame = extractor.hop_length / SAMPLE_RATE  # seconds

    @torch.inference_mode()
    def transcribe(sound: Waveform, language: str | None, times: bool) -> Heard:
        features = torch.from_numpy(features_of(extractor, sound))[None]
        options: dict[str, Any] = {"num_beams": beams, "use_cache": True}
        if is_multilingual(model):
            options |= {"language": language or getattr(model.generation_config, "language", None)}
            options |= {"task": getattr(model.generation_config, "task", None) or "transcribe"}
        frames = len(sound) // extractor.hop_length
        heard = (torch.arange(features.shape[-1])[None] < frames).long()
        if len(sound) <= extractor.n_samples and not times:
            options["force_unique_generate_call"] = True
            tokens = model.generate(features, attention_mask=torch.ones_like(heard), **options)[0]
            text = processor.decode(tokens, skip_special_tokens=True).strip()
            return Heard([Cue(0.0, len(sound) / SAMPLE_RATE, text)], options.get("language"))
        with same_chance(features.shape[-1]):
            found = model.generate(features, attention_mask=heard, return_segments=True, **options, **LONG_FORM)
        cues = []
        for one in drop_made_up(found["segments"][0], frames, extractor.hop_length):
            text = processor.decode(one["tokens"], skip_special_tokens=True).strip()
            start, end = (float(one[key]) / TRANSFORMERS_FRAME * frame for key in ("start", "end"))
            window_end = start + extractor.n_samples / SAMPLE_RATE  # a segment without time stamps ends with its window
            cues.append(Cue(start, min(end, window_end, len(sound) / SAMPLE_RATE), text))
        return Heard([cue for cue in cues if cue.text], options.get("language"))

    return transcribe
