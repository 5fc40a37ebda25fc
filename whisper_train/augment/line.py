"""What happens on the way from the microphone to us: the telephone, and coding at low rates."""

import io
from functools import cache
from typing import Any

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import of_length, within_full_scale
from whisper_train.job_augment import Codec, Telephone

TELEPHONE_RATE = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3_400.0)  # Hz, ITU-T G.712
BAND_EDGE = 40.0  # Hz from full to nothing, inside the band
BAND_STOP = 60.0  # dB that the filter takes away outside
TELEPHONE_CODECS = {"mu-law": "ULAW", "gsm": "GSM610"}
GSM_BLOCK = 320  # samples: libsndfile codes two frames at a time
MP3_KILOBITS = (8, 16, 24, 32, 40, 48, 56, 64)  # MPEG-2 layer III, for 16 kHz
MP3_DELAY = 1_105  # samples, of encoder and decoder; rates without room for a header that names it begin so late


def over_telephone(waveform: Waveform, settings: Telephone, draws: Draws) -> Waveform:
    """300 to 3,400 Hz, coded at 8 kHz and decoded, of the same length and not delayed."""
    import soxr

    codec = draws.one_of("codec", settings.codecs)
    narrow = soxr.resample(telephone_band(waveform), SAMPLE_RATE, TELEPHONE_RATE)
    whole_blocks = of_length(narrow, -(-len(narrow) // GSM_BLOCK) * GSM_BLOCK)
    coded = code(whole_blocks, TELEPHONE_RATE, format="WAV", subtype=TELEPHONE_CODECS[codec])
    wide = soxr.resample(coded[: len(narrow)], TELEPHONE_RATE, SAMPLE_RATE)
    return telephone_band(of_length(wide, len(waveform)))  # again: coding noise lies outside of the band too


def telephone_band(waveform: Waveform) -> Waveform:
    """What of a waveform (samples,) passes a telephone; linear, and not delayed."""
    from scipy.signal import oaconvolve

    late = len(band_filter()) // 2
    return np.asarray(oaconvolve(waveform, band_filter())[late : late + len(waveform)], np.float32)


@cache
def band_filter() -> Waveform:
    """A linear-phase filter (taps,) that passes the telephone's band (Kaiser window)."""
    from scipy.signal import firwin, kaiserord

    taps, beta = kaiserord(BAND_STOP, BAND_EDGE / (SAMPLE_RATE / 2))
    low, high = TELEPHONE_BAND
    edges = (low + BAND_EDGE / 2, high - BAND_EDGE / 2)
    return np.asarray(firwin(taps | 1, edges, window=("kaiser", beta), pass_zero=False, fs=SAMPLE_RATE), np.float32)


def over_codec(waveform: Waveform, settings: Codec, draws: Draws) -> Waveform:
    """Coded at a low rate and decoded, of the same length and not delayed."""
    kind = draws.one_of("format", settings.formats)
    kilobits = draws.within("kilobits", settings.kilobits)
    if kind == "opus":
        return of_length(code_opus(waveform, kilobits), len(waveform))
    nearest = min(MP3_KILOBITS, key=lambda rate: abs(rate - kilobits))
    draws.keep("kilobits", nearest)
    return of_length(code_mp3(waveform, nearest), len(waveform))


def code_opus(waveform: Waveform, kilobits: float) -> Waveform:
    level = 1 - (kilobits - 6) / 250  # libsndfile: 0 is 256 kbit/s, 1 is 6
    return code(waveform, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level)


def code_mp3(waveform: Waveform, kilobits: int) -> Waveform:
    level = min((160 - kilobits) / 152, 0.999)  # libsndfile: 0 is 160 kbit/s, 1 would be 8 but is refused
    how = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": level, "bitrate_mode": "CONSTANT"}
    decoded = code(waveform, SAMPLE_RATE, **how)
    return decoded if len(decoded) == len(waveform) else decoded[MP3_DELAY:]


def code(waveform: Waveform, rate: int, **how: Any) -> Waveform:
    """The waveform as a file of soundfile's kind `how`, read again."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, within_full_scale(waveform), rate, **how)
    file.seek(0)
    decoded, decoded_rate = soundfile.read(file, dtype="float32")
    assert decoded_rate == rate, (rate, decoded_rate)
    return np.asarray(decoded, np.float32)
