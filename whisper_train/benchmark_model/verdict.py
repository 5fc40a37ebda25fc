"""What the figures come to: which file to ship, whether training for integers paid, and what int4 does not speed up."""

from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.benchmark_model.candidates import POST, TRAINED
from whisper_train.paths import as_size

LIMIT = 0.005  # of WER that a file may lose to float, where the job's gates say nothing
AS_FAST = 1.05  # times the fastest: no difference that anybody notices, so that the smaller file is better
FASTER = 1.1  # from here on a ratio is called a gain

Figures = Mapping[str, Any]


def conclude(candidates: Sequence[Figures], pairs: Sequence[Figures], baseline: str, limit: float = LIMIT) -> list[str]:
    """The sentences at the end, of candidates that could be measured."""
    there = [one for one in candidates if "failed" not in one]
    said = ship(there, baseline, limit)
    said += [worth_it(pair) for pair in pairs] or [not_trained(there)]
    return said + int4_encoder(there)


def loss_of(candidate: Figures) -> float:
    """How much higher its WER is than that of float, as a fraction."""
    return float(candidate["difference"]["wer"]["difference"]) if "difference" in candidate else 0.0


def ship(candidates: Sequence[Figures], baseline: str, limit: float) -> list[str]:
    """The fastest of those that lose no more than `limit`; of about equally fast ones the smallest."""
    good = [one for one in candidates if loss_of(one) <= limit]
    fastest = min(one["latency_s"]["median"] for one in good)
    best = min(
        (one for one in good if one["latency_s"]["median"] <= AS_FAST * fastest), key=lambda one: one["size_bytes"]
    )
    points = f"{100 * limit:g} points of WER"
    if best["name"] == baseline:
        return [f"Ship {baseline}: of the files that lose no more than {points}, no other is faster or smaller."]
    said = [
        f"Ship {best['name']}: {as_size(best['size_bytes'])}, {best['size_ratio']:.2f} of {baseline}; a window in"
        f" {best['latency_s']['median']:.2f} s, {best['latency_s']['faster']['median']:.1f} times as fast;"
        f" {best['difference']['sentence']}. It is the fastest that loses no more than {points}."
    ]
    smallest = min(good, key=lambda one: one["size_bytes"])
    if smallest["name"] != best["name"]:
        said.append(
            f"The smallest of these is {smallest['name']}: {as_size(smallest['size_bytes'])}, a window in"
            f" {smallest['latency_s']['median']:.2f} s; {say_difference(smallest)}."
        )
    return said


def say_difference(candidate: Figures) -> str:
    if "difference" in candidate:
        return str(candidate["difference"]["sentence"])
    return "it is what the others are compared with"


def worth_it(pair: Figures) -> str:
    """Whether training for a grid gave what rounding to it did not."""
    begin = f"QAT against post-training quantization, {pair['form']}: {pair['sentence']}"
    difference = pair["wer"]
    if not difference["certain"]:
        return f"{begin}. QAT was not worth it over post-training quantization here."
    if difference["difference"] > 0:
        return f"{begin}. QAT is worse than post-training quantization here: ship the latter."
    back = pair["won_back"]
    won = ""
    if back is not None:
        won = f", and wins back {f'{100 * back:.0f} % of what' if back <= 1 else 'more than'} rounding lost"
    return f"{begin}. QAT was worth it over post-training quantization{won}."


def not_trained(candidates: Sequence[Figures]) -> str:
    if any(one["origin"] == TRAINED for one in candidates):
        return "Whether QAT was worth it is not known: no post-training quantized file of the same form was measured."
    worst = max((one for one in candidates if one["origin"] == POST), key=loss_of, default=None)
    if worst is None:
        return "Whether QAT would be worth it is not known: no quantized file was measured."
    return (
        "Whether QAT would be worth it over post-training quantization was not measured, since there is no such model;"
        f" rounding alone costs {100 * loss_of(worst):.2f} points of WER at most ({worst['name']})."
    )


def int4_encoder(candidates: Sequence[Figures]) -> list[str]:
    """What int4 gains in encoder and decoder, against the same runtime's fp32 file, by the medians of this run."""
    form = next((one for one in candidates if (one["format"], one["precision"]) == ("onnx", "fp32")), None)
    four = next((one for one in candidates if (one["format"], one["precision"]) == ("onnx", "int4")), None)
    if form is None or four is None:
        return []
    encoder, decoder = (form[key]["median"] / four[key]["median"] for key in ("encoder_ms", "decoder_ms"))
    gains = f"the encoder runs at {encoder:.2f} times the speed, the decoder at {decoder:.2f} times"
    if encoder < FASTER:
        return [
            f"int4 does not speed up the encoder on this processor: against onnx fp32 {gains}. Its weights are unpacked"
            " to be multiplied, and the encoder multiplies each with a whole window; what is gained is size"
            + (" and the decoder." if decoder >= FASTER else ".")
        ]
    return [f"int4 against onnx fp32: {gains}."]
