"""The echo of a simulated room: image sources in a box (Allen and Berkley 1979), by pyroomacoustics."""

import numpy as np

from whisper_train.audio import SAMPLE_RATE, Waveform
from whisper_train.augment.draws import Draws
from whisper_train.augment.levels import LEAST_MEAN_POWER, mean_power
from whisper_train.job_augment import Room

MOST_REFLECTIONS = 25  # of one image: 3 to 8 ms of work; more do not change the measured echo of the rooms drawn here
SIDE_METERS = (3.0, 8.0)  # a room's width, where its echo allows it
LEAST_SIDE_PER_SECOND = 10.0  # meters: in a smaller room the echo has more reflections than are computed
MOST_SIDE_PER_SECOND = 33.0  # meters: a larger room, even with walls that swallow nearly all, echoes longer
CEILING_METERS = 2.4  # none is lower
WALL_METERS = 0.3  # nobody stands closer to a wall


def reverberate(waveform: Waveform, settings: Room, draws: Draws) -> Waveform:
    """As heard in a room; the direct sound stays where it was, and the clip as long and as loud as it was."""
    from scipy.signal import oaconvolve

    seconds = draws.within("reverberation_seconds", settings.reverberation_seconds)
    response = room_response(seconds, settings.distance_meters, draws)
    echoed = oaconvolve(waveform, response)[: len(waveform)]
    power = mean_power(echoed)
    if power < LEAST_MEAN_POWER:
        return waveform
    return np.asarray(echoed * np.sqrt(mean_power(waveform) / power), np.float32)


def room_response(seconds: float, distance_meters: tuple[float, float], draws: Draws) -> Waveform:
    """The impulse response (samples,) of a room whose echo falls by 60 dB in `seconds`, from the direct sound on."""
    import pyroomacoustics as rooms

    rooms.constants.set("num_threads", 1)  # with more, the order of its sums and so the last bits would be by chance
    size = draw_size(seconds, draws.chance)
    mouth, microphone = draw_places(size, distance_meters, draws)
    absorption, reflections = rooms.inverse_sabine(seconds, size)
    room = rooms.ShoeBox(
        size, fs=SAMPLE_RATE, materials=rooms.Material(absorption), max_order=min(reflections, MOST_REFLECTIONS)
    )
    room.add_source(mouth)
    room.add_microphone(microphone)
    room.compute_rir()
    delay = np.linalg.norm(mouth - microphone) / room.c * SAMPLE_RATE + rooms.constants.get("frac_delay_length") // 2
    return np.asarray(room.rir[0][0][round(delay) :], np.float32)


def draw_size(seconds: float, chance: np.random.Generator) -> np.ndarray:
    """Length, width and height (3,) in meters of a room that can have this echo: long ones need large rooms."""
    least, most = LEAST_SIDE_PER_SECOND * seconds, MOST_SIDE_PER_SECOND * seconds
    low, high = np.clip(SIDE_METERS, least, most)
    length, width, height = chance.uniform(low, high) * chance.uniform((1.0, 1.0, 0.5), (1.5, 1.2, 0.7))
    return np.array([length, width, max(height, CEILING_METERS)])


def draw_places(size: np.ndarray, distance_meters: tuple[float, float], draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Where mouth and microphone are, each (3,) in meters; as far apart as drawn, or as the room allows."""
    chance = draws.chance
    distance = draws.within("distance_meters", distance_meters)
    distance = draws.keep("distance_meters", min(distance, float(size[:2].min()) - 2 * WALL_METERS))
    angle, slope = chance.uniform(0, 2 * np.pi), chance.uniform(-0.2, 0.2)
    level = np.sqrt(1 - slope**2)
    apart = distance * np.array([level * np.cos(angle), level * np.sin(angle), slope])
    free = size - 2 * WALL_METERS - np.abs(apart)
    middle = WALL_METERS + np.abs(apart) / 2 + chance.uniform(size=3) * np.maximum(free, 0.0)
    return middle + apart / 2, middle - apart / 2
