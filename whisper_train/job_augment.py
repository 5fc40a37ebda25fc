"""The `augment:` section: what is done to the audio of a clip, drawn anew for each clip and epoch."""

from typing import Literal

from pydantic import Field, model_validator

from whisper_train.strict import Fraction, Strict

Range = tuple[float, float]


class Effect(Strict):
    """One change of the audio. Every key that holds two numbers is a range from which each clip draws its own value."""

    probability: Fraction = Field(1.0, description="share of the clips that get it")

    @model_validator(mode="after")
    def check_ranges(self) -> "Effect":
        for key, (least, most) in LIMITS.items():
            value = getattr(self, key, None)
            if value is None:
                continue
            low, high = value
            if not least <= low <= high <= most:
                raise ValueError(f"{key}: [{low:g}, {high:g}]: give [low, high] within {least:g} to {most:g}")
        return self


class Speed(Effect):
    """Faster or slower with its pitch, as a tape would (Ko et al. 2015)."""

    factor: Range = (0.9, 1.1)


class Pitch(Effect):
    """Higher or lower at the same speed."""

    semitones: Range = (-2.0, 2.0)


class Room(Effect):
    """Reverberation of a simulated room (image sources; Allen and Berkley 1979)."""

    reverberation_seconds: Range = Field((0.2, 0.7), description="until the echo is 60 dB down")
    distance_meters: Range = Field((0.5, 3.0), description="from the mouth to the microphone")


class Noise(Effect):
    kinds: list[Literal["white", "pink", "babble"]] = Field(
        ["white", "pink", "babble"], description="generated ones; babble is made of other clips"
    )
    folder: str | None = Field(None, description="recordings of noise, as one more kind")
    snr_db: Range = Field((5.0, 25.0), description="speech over noise, both as the model hears them")
    voices: tuple[int, int] = Field((3, 6), description="of other clips in a babble")

    @model_validator(mode="after")
    def check_kinds(self) -> "Noise":
        if not self.kinds and not self.folder:
            raise ValueError("kinds: is empty and no folder is given: nothing to add; name one of them")
        return self


class Gain(Effect):
    decibels: Range = (-12.0, 6.0)


class Clipping(Effect):
    """Recorded too loud: what is over full scale is cut off."""

    decibels: Range = Field((3.0, 12.0), description="by how much the loudest sample is over full scale")

    @model_validator(mode="after")
    def check_it_clips(self) -> "Clipping":
        if self.decibels[0] < 0:
            raise ValueError(f"decibels: [{self.decibels[0]:g}, {self.decibels[1]:g}]: give [low, high] within 0 to 40")
        return self


class Telephone(Effect):
    """300 to 3,400 Hz, 8,000 samples a second (ITU-T G.712), coded and decoded."""

    codecs: list[Literal["mu-law", "gsm"]] = Field(
        ["mu-law", "gsm"], min_length=1, description="ITU-T G.711; GSM 06.10 full rate"
    )


class Codec(Effect):
    """Coded and decoded at a low rate, artefacts and all."""

    formats: list[Literal["mp3", "opus"]] = Field(["mp3", "opus"], min_length=1)
    kilobits: Range = Field((8.0, 32.0), description="a second; mp3 takes the nearest that it has")


class Dropouts(Effect):
    """Lost packets: silence in the middle of speech."""

    share: Range = Field((0.01, 0.05), description="of the clip")
    milliseconds: Range = Field((20.0, 120.0), description="each")


LIMITS: dict[str, Range] = {
    "factor": (0.5, 2.0),
    "semitones": (-12.0, 12.0),
    "reverberation_seconds": (0.1, 2.0),
    "distance_meters": (0.1, 5.0),
    "snr_db": (-20.0, 60.0),
    "voices": (1, 20),
    "decibels": (-40.0, 40.0),
    "kilobits": (6.0, 64.0),
    "share": (0.0, 0.5),
    "milliseconds": (5.0, 1000.0),
}


class Augment(Strict):
    """The effects in the order in which sound meets them: voice, room, microphone, line. Null: not this one."""

    speed: Speed | None = None
    pitch: Pitch | None = None
    room: Room | None = None
    noise: Noise | None = None
    gain: Gain | None = None
    clipping: Clipping | None = None
    telephone: Telephone | None = None
    codec: Codec | None = None
    dropouts: Dropouts | None = None
