"""Speech made by espeak-ng from sentence templates: data for the demo, for tests, and for trying a job without data."""

import ctypes
import hashlib
import json
import multiprocessing
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.errors import UserError
from whisper_train.job_data import Synthetic
from whisper_train.paths import make_directory, sync

# espeak-ng/speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
MAX_TRIES_PER_SENTENCE = 50


def synthesize(recipe: Synthetic, cache: Path, language: str) -> Path:
    """The manifest of the clips of `recipe`; makes them (FLAC, 16 kHz) in `cache` unless they are there already."""
    folder = synthetic_folder(recipe, cache, language)
    if (folder / "manifest.jsonl").is_file():
        return folder / "manifest.jsonl"
    partial = folder.with_name(f".{folder.name}.incomplete")
    if partial.exists():
        shutil.rmtree(partial)  # what an interrupted call of this very function left
    make_directory(partial, named_by="CACHE_DIR")
    # In a process of its own: espeak-ng carries state from text to text, and a recipe must always sound the same.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(make_clips, recipe, partial).result()
    partial.replace(folder)
    sync(folder.parent)
    return folder / "manifest.jsonl"


def synthetic_folder(recipe: Synthetic, cache: Path, language: str) -> Path:
    """Where the clips of `recipe` lie, once they are made."""
    later = {"travel"} if recipe.travel is None else None  # recipes of before this key keep their clips
    digest = hashlib.sha256(recipe.model_dump_json(exclude=later).encode()).hexdigest()[:16]
    return cache / "synthetic" / f"{language}-{digest}"


def make_clips(recipe: Synthetic, folder: Path) -> None:
    """Writes recipe.clips FLAC files and manifest.jsonl into `folder`."""
    import soundfile

    speak = open_espeak(recipe.voices, recipe.seed)
    chance = random.Random(recipe.seed)
    with (folder / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for number, (text, facts) in enumerate(make_sentences(recipe, chance)):
            voice = recipe.voices[number % len(recipe.voices)]
            rate = chance.randint(*recipe.words_per_minute)
            waveform = speak(text, voice, rate, chance.randint(*recipe.pitch))
            name = f"{number:06d}.flac"
            soundfile.write(folder / name, waveform, SAMPLE_RATE)
            line = {"audio": name, "text": text, "speaker": voice, **facts}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")


def make_sentences(recipe: Synthetic, chance: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """recipe.clips sentences of the recipe's part, each with what its line in the manifest says beside."""
    if recipe.travel is None:
        yield from ((make_sentence(recipe, chance), {}) for _ in range(recipe.clips))
        return
    from whisper_train.entities.files import as_spans
    from whisper_train.entities.generate import Generator

    made = [as_spans(sentence) for sentence in Generator(recipe.travel)]
    made = [line for line in made if in_part(recipe, line["text"])]
    if len(made) < recipe.clips:
        raise UserError(
            f"synthetic.clips: {recipe.clips:,}: of {recipe.travel.sentences:,} orders {len(made):,} are of part"
            f" {recipe.part}; raise travel.sentences, or ask for fewer clips"
        )
    yield from ((line.pop("text"), line) for line in made[: recipe.clips])


def in_part(recipe: Synthetic, sentence: str) -> bool:
    """Whether a sentence is of the recipe's part, which its hash decides."""
    held_out = int(hashlib.sha256(sentence.encode()).hexdigest()[:8], 16) / 2**32 < recipe.held_out_fraction
    return recipe.part == "all" or held_out == (recipe.part == "held-out")


def make_sentence(recipe: Synthetic, chance: random.Random) -> str:
    """A random sentence of the recipe's part; a hash of the sentence decides to which part it belongs."""
    for _ in range(MAX_TRIES_PER_SENTENCE):
        template = chance.choice(recipe.sentences)
        sentence = template.format(**{slot: chance.choice(words) for slot, words in recipe.words.items()})
        if in_part(recipe, sentence):
            return sentence
    raise UserError(
        f"synthetic: part: {recipe.part}: too few different sentences for held_out_fraction {recipe.held_out_fraction};"
        " add templates or words"
    )


def open_espeak(voices: list[str], seed: int) -> Callable[[str, str, int, int], Waveform]:
    """A function (text, voice, words per minute, pitch 0 to 99) -> waveform of shape (samples,) at SAMPLE_RATE.

    Raises UserError for a missing package or an unknown voice, which espeak-ng itself would replace in silence.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("synthetic: needs espeakng-loader: pip install 'whisper-train[demo]'") from error
    import soxr

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path())
    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data).encode(), 0)
    if rate <= 0:
        raise UserError(f"synthetic: espeak-ng does not start with {data}; reinstall espeakng-loader")
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))  # its own default is the time
    for voice in voices:
        language, _, variant = voice.partition("+")
        known = library.espeak_SetVoiceByName(language.encode()) == 0
        if not known or (variant and not (data / "voices" / "!v" / variant).is_file()):
            raise UserError(f"synthetic.voices: {voice}: espeak-ng has no such voice or variant")

    chunks: list[np.ndarray] = []

    def collect(samples: Any, count: int, events: int | None) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    callback = signature(collect)
    library.espeak_SetSynthCallback(callback)

    def speak(text: str, voice: str, words_per_minute: int, pitch: int, kept: object = callback) -> Waveform:
        chunks.clear()
        library.espeak_SetVoiceByName(voice.encode())
        library.espeak_SetParameter(PARAMETER_RATE, words_per_minute, 0)
        library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, CHARACTERS_UTF8, None, None)
        waveform = np.concatenate(chunks).astype(np.float32) / 32768
        return np.asarray(soxr.resample(waveform, rate, SAMPLE_RATE), dtype=np.float32)

    return speak
