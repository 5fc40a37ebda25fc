"""Gates: what a run must meet to be promoted, each with what was measured and a sentence about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from whisper_train.job import Gates
from whisper_train.job_data import LONG_FORM_SET, SILENCE_SET

TOLERANCE = 1e-9  # 0.014 - 0.009 is a little more than 0.005
UNSPACED_LANGUAGES = {"zh", "yue", "ja", "th", "lo", "km", "my", "bo"}


def judge(gates: Gates, results: Mapping[str, Any], names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each gate that `gates` states, judged on `results`: gate, set, limit, measured, met, sentence.

    `names` are the eval sets that the job has, without them those of the results. What was not measured is not met.
    """
    sets = {name: one for name, one in results["sets"].items() if one.get("words", 1)}  # without a word: not measured
    first, *others = names or [name for name in results["sets"] if name != LONG_FORM_SET]
    judged = []
    if gates.wer is not None:
        judged.append(judge_wer(gates.wer, first, sets.get(first)))
    if gates.significant:
        judged.append(judge_significance(first, sets.get(first)))
    if gates.retention:
        for name in gates.retention.sets or others:
            judged.append(judge_retention(gates.retention.max_loss, name, sets.get(name)))
    if gates.long_form:
        joined = sets.get(LONG_FORM_SET)
        if gates.long_form.max_worse is not None:
            judged.append(judge_long_form(gates.long_form.max_worse, joined))
        if gates.long_form.max_worse_than_clips is not None:
            judged.append(judge_joining(gates.long_form.max_worse_than_clips, joined))
    if gates.hallucination:
        judged.append(judge_share(gates.hallucination.max_share, sets))
        judged.append(judge_silence(gates.hallucination.max_words_per_minute, results["silence"].get("tuned")))
    if gates.travel_f1 is not None:
        from whisper_train.entities.speech import judge_travel

        judged.append(judge_travel(gates.travel_f1, results.get("travel")))
    return judged


def judge_wer(limit: float, name: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is None:
        return unmeasured("wer", name, "rate", limit)
    sentence = f"WER on {name} is {percent(result['wer'])}; at most {percent(limit)} was asked for"
    return gate("wer", name, "rate", limit, result["wer"], result["wer"] <= limit, sentence)


def judge_significance(name: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is None or result["baseline"] is None:
        return unmeasured("significant", name, "p", 0.05, result)
    compared = result["comparison"]
    found = compared[metric_of(result)]
    met = bool(found["certain"] and found["difference"] < 0)
    return gate("significant", name, "p", 0.05, found["p_value"], met, f"{name}: {compared['sentence']}")


def judge_retention(limit: float, name: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is None or result["baseline"] is None:
        return unmeasured("retention", name, "points", limit, result)
    metric = metric_of(result)
    before, after = result["baseline"][metric], result[metric]
    loss = after - before
    met = loss <= limit + TOLERANCE
    verdict = "did not get worse" if loss <= 0 else "lost no more than allowed" if met else "got worse"
    change = f"{verdict}: {metric.upper()} {percent(before)} → {percent(after)}"
    points = f"{100 * loss:+.2f} points; at most {100 * limit:+.2f} are allowed"
    return gate("retention", name, "points", limit, loss, met, f"{name} {change}, {points}")


def judge_long_form(limit: float, result: Mapping[str, Any] | None) -> dict[str, Any]:
    if result is None:
        return unjoined("long_form", limit)
    if result["baseline"] is None:
        return unmeasured("long_form", LONG_FORM_SET, "change", limit, result)
    metric = metric_of(result)
    before, after = result["baseline"][metric], result[metric]
    worse, met, shown = judge_change(before, after, limit)
    sentence = (
        f"on joined clips, {result['seconds'] / 60:.0f} min, {metric.upper()} is {percent(after)}"
        f" after {percent(before)}: {shown}; at most {limit:+.0%} is allowed"
    )
    return gate("long_form", LONG_FORM_SET, "change", limit, worse, met, sentence)


def judge_joining(limit: float, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Joined clips against the same clips one by one, both by the judged model."""
    if result is None:
        return unjoined("long_form_clips", limit)
    alone = result.get("alone")
    if alone is None:
        sentence = "the joined clips were not all transcribed one by one; evaluate again"
        return gate("long_form_clips", LONG_FORM_SET, "change", limit, None, False, sentence)
    metric = metric_of(result)
    worse, met, shown = judge_change(alone[metric], result[metric], limit)
    sentence = (
        f"recordings of up to {result['longest_seconds'] / 60:.1f} min have {metric.upper()} {percent(result[metric])},"
        f" their {alone['clips']:,} clips one by one {percent(alone[metric])}: {shown}; at most {limit:+.0%} is allowed"
    )
    return gate("long_form_clips", LONG_FORM_SET, "change", limit, worse, met, sentence)


def judge_change(before: float, after: float, limit: float) -> tuple[float | None, bool, str]:
    """By how much a rate is worse, relative to `before` (None: that was zero), whether it may be, and in words."""
    worse = after / before - 1 if before else (0.0 if after == 0 else None)
    met = worse is not None and worse <= limit + TOLERANCE
    return worse, met, "from no error at all" if worse is None else f"{worse:+.0%}"


def unjoined(name: str, limit: float) -> dict[str, Any]:
    sentence = "no long recording could be joined: the eval set is too short for evaluation.long_form.seconds"
    return gate(name, LONG_FORM_SET, "change", limit, None, False, sentence)


def judge_share(limit: float, sets: Mapping[str, Any]) -> dict[str, Any]:
    clips_alone = {
        name: one for name, one in sets.items() if name != LONG_FORM_SET
    }  # of ten recordings one is too much
    if not clips_alone:
        return unmeasured("hallucination", "eval", "rate", limit)
    name, result = max(clips_alone.items(), key=lambda item: item[1]["hallucination"]["share"])
    share, clips = result["hallucination"]["share"], result["hallucination"]["clips"]
    sentence = f"{clips:,} clips of {name} ({percent(share)}) loop or run on; at most {percent(limit)} is allowed"
    return gate("hallucination", name, "rate", limit, share, share <= limit, sentence)


def judge_silence(limit: float, heard: Mapping[str, Any] | None) -> dict[str, Any]:
    if heard is None:
        return unmeasured("silence", SILENCE_SET, "words a minute", limit)
    words = heard["words_per_minute"]
    sentence = f"{words:.1f} words a minute were heard in silence and noise; at most {limit:g} are allowed"
    return gate("silence", SILENCE_SET, "words a minute", limit, words, words <= limit, sentence)


def metric_of(result: Mapping[str, Any]) -> str:
    """The rate that compares two models on a set: by characters where a language does not part its words."""
    languages = set(result.get("languages", []))
    return "cer" if languages and languages <= UNSPACED_LANGUAGES else "wer"


def unmeasured(
    name: str, place: str, unit: str, limit: float, result: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A gate whose set has no result, or one without a baseline."""
    lacks = "was not transcribed" if result is None else "has no baseline to compare with"
    return gate(name, place, unit, limit, None, False, f"{place} {lacks}; evaluate again")


def gate(
    name: str, place: str, unit: str, limit: float, measured: float | None, met: bool, sentence: str
) -> dict[str, Any]:
    """An entry of `gates` in results.json; `unit` says what limit and measured value are: fractions, all but words."""
    figures = {"unit": unit, "limit": limit, "measured": measured}
    return {"gate": name, "set": place, **figures, "met": met, "sentence": sentence}


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
