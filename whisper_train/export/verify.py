"""The proof that a converted folder is the model that was trained: its integers, its logits, its tokens.

A folder that fails is not kept. What was found is written to verification.json beside the model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_train.errors import RunFailed
from whisper_train.export.activations import rounded_activations
from whisper_train.export.forms import Form
from whisper_train.export.grids import OnGrid
from whisper_train.export.recordings import Heard
from whisper_train.export.reference import Reference
from whisper_train.export.rules import Rules, Scores
from whisper_train.export.search import Written
from whisper_train.export.sounds import Clip

VERIFICATION = "verification.json"
VERSION = 1
NEW_TOKENS = 48  # at most, of each clip
WHOLE_TEXT = 224  # of one whose text is known: as many as OpenAI's own code writes for a window
MORE_ERRORS = 0.02  # of WER, against the model: beyond what a few clips that fall the other way explain
BEAMS = (1, 3)
# How far a logit may lie from the model's, as a fraction of the range of the clip's logits.
EXACT = 1e-3  # the same weights and float activations: what remains is the order of sums
HALF = 1e-2  # float16 throughout
ROUNDED = 3e-2  # activations rounded to int8: a sum that ends on the other side of a half changes a code, and so on
NO_REASON = 2.0  # times the bound: how much a difference of both logits may move a margin


class Traced(Protocol):
    """A model that tells the logits it writes by."""

    rules: Rules

    def trace(self, features: NDArray[np.float32], prompt: Sequence[int], count: int) -> tuple[list[int], Scores]:
        """Up to `count` tokens of one clip, each the likeliest, and the logits (tokens, words) of each."""


class Runtime(Traced, Protocol):
    """A converted folder that searches, too; one with `beams` searches with so many only."""

    def write(
        self, features: NDArray[np.float32], prompts: Sequence[Sequence[int]], *, beams: int, max_length: int
    ) -> list[Written]: ...


def bound_of(form: Form) -> float:
    """How far logits may lie apart, as a fraction of their range."""
    return {"fp32": EXACT, "fp16": HALF}.get(form.precision, ROUNDED)


def verify_logits(
    runtime: Traced, reference: Reference, clips: Sequence[Clip], language: str | None, bound: float, what: str
) -> dict[str, Any]:
    """Compares the logits of the tokens that the runtime writes itself, clip by clip.

    Raises RunFailed naming the clip where one lies further from the model's than `bound` times their range.
    """
    worst = {"difference": 0.0, "range": 0.0, "fraction": 0.0}
    same = count = 0
    for clip in clips:
        name, features = clip.name, clip.features
        prompt = runtime.rules.prompt(clip.language or language, "transcribe")
        tokens, logits = runtime.trace(features, prompt, NEW_TOKENS)
        wanted = reference.logits(features, [*prompt, *tokens[:-1]])[len(prompt) - 1 :]
        there = np.isfinite(logits) & (logits > -1e9)  # a runtime may have taken some out
        difference = float(np.abs(np.where(there, logits - wanted, 0)).max())
        spread = float(np.ptp(wanted))
        if not np.isfinite(difference) or difference > bound * spread:
            find = getattr(runtime, "find_layer", None)
            where = find(reference.model, features, [*prompt, *tokens[:-1]], bound) if find else "the whole file"
            raise RunFailed(
                f"{what}: {where}: {name}: a logit lies {difference:.3g} from the model's, of a range of {spread:.3g};"
                f" {bound:g} of it is allowed"
            )
        if difference / spread >= worst["fraction"]:
            worst = {"difference": difference, "range": spread, "fraction": difference / spread}
        same += int((np.argmax(np.where(there, wanted, -np.inf), -1) == np.argmax(logits, -1)).sum())
        count += len(tokens)
    return {"bound": bound, **worst, "tokens": count, "same_argmax": same}


def verify_tokens(
    runtime: Runtime, reference: Reference, clips: Sequence[Clip], language: str | None, beams: int, bound: float
) -> tuple[dict[str, Any], list[tuple[list[int], list[int]]]]:
    """Compares what runtime and model write, clip by clip; lists those that differ, with what explains it.

    Returns that and, for each clip, the tokens of the runtime and of the model.
    """
    differing, written = [], []
    for clip in clips:
        spoken = clip.language or language
        prompt = runtime.rules.prompt(spoken, "transcribe")
        most = NEW_TOKENS if clip.text is None else WHOLE_TEXT
        found = runtime.write(clip.features[None], [prompt], beams=beams, max_length=most)[0].tokens
        wanted = reference.write(clip.features, spoken, beams, most)
        written.append((found, wanted))
        if found != wanted:
            why = explain(reference, clip.features, prompt, wanted, found, beams, bound)
            differing.append({"clip": clip.name, **why})
    return {"clips": len(clips), "equal": len(clips) - len(differing), "differing": differing}, written


def count_words(
    texts: Sequence[tuple[str, str, str]], normalizer: str, what: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Word error rates of runtime and model; `texts` are (said, by the runtime, by the model) of each clip.

    Raises RunFailed where the runtime is worse by more than MORE_ERRORS.
    """
    from whisper_train.evaluation.score import count_pairs

    ours, models = (
        count_pairs([(text[0], text[which]) for text in texts], [normalizer])[normalizer].words.rate for which in (1, 2)
    )
    facts = {"clips": len(texts), "normalizer": normalizer, "wer": ours, "wer_of_model": models}
    say(f"words: WER {ours:.2%} through its own runtime, {models:.2%} of the model, on {len(texts)} clips")
    if ours > models + MORE_ERRORS:
        raise RunFailed(f"{what}: WER {ours:.2%}, and {models:.2%} of the model; {MORE_ERRORS:.0%} more is allowed")
    return facts


def explain(
    reference: Reference,
    features: NDArray[np.float32],
    prompt: Sequence[int],
    wanted: list[int],
    found: list[int],
    beams: int,
    bound: float,
) -> dict[str, Any]:
    """Where two texts part, and by how much the model preferred its own: explained if less than rounding moves it."""
    end = reference.rules.end
    place = next(
        number
        for number, pair in enumerate(zip([*wanted, end, -1], [*found, end, -1], strict=False))
        if pair[0] != pair[1]
    )
    logits = reference.logits(features, [*prompt, *wanted[:place]])[-1]
    one, other = [*wanted, end][place], [*found, end][place]
    allowed = NO_REASON * bound * float(np.ptp(logits))
    facts = {"token": place, "model": int(one), "runtime": int(other), "margin": float(logits[one] - logits[other])}
    if beams == 1:
        return {**facts, "allowed": allowed, "explained": facts["margin"] <= allowed}
    lost = reference.score(features, prompt, wanted) - reference.score(features, prompt, found)
    return {**facts, "score_lost": lost, "allowed": allowed, "explained": lost <= allowed}


def verify_exact(
    what: str, runtime: Traced, model: Any, form: Form, heard: Heard, say: Callable[[str], None]
) -> dict[str, Any]:
    """Logits of `what` of a folder with float activations, where nothing but the weights can make a difference."""
    language = heard.language or speakable(runtime.rules)
    facts = verify_logits(runtime, Reference(model), heard.clips, language, EXACT, f"{form.folder}: {what}")
    say(f"{what} with float activations: {facts['fraction']:.1e} of the range from the model's, {EXACT:g} allowed")
    return {f"{what}_with_float_activations": facts}


def verify_folder(
    runtime: Runtime,
    model: Any,
    placed: Mapping[str, OnGrid],
    form: Form,
    heard: Heard,
    decode: Callable[[list[int]], str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Logits, tokens and words of `runtime` against `model`, whose weights are on their grids.

    `decode` makes a text of tokens. Raises RunFailed beyond the bound.
    """
    reference, bound, clips = Reference(model), bound_of(form), heard.clips
    language = heard.language or speakable(runtime.rules)
    facts: dict[str, Any] = {"language": language, "clips": [clip.name for clip in clips]}
    with rounded_activations(model, placed):
        facts["logits"] = verify_logits(runtime, reference, clips, language, bound, form.folder)
        say(f"logits: {facts['logits']['fraction']:.1e} of their range from the model's, {bound:g} allowed")
        for beams in getattr(runtime, "beams", BEAMS):
            name = "greedy" if beams == 1 else f"beam_{beams}"
            facts[name], written = verify_tokens(runtime, reference, clips, language, beams, bound)
            say(f"tokens, {name.replace('_', ' ')}: {facts[name]['equal']} of {len(clips)} clips equal")
            unexplained = [one for one in facts[name]["differing"] if not one["explained"]]
            if unexplained and (beams == 1 or form.format == "onnx"):  # other runtimes prune their beams in other ways
                one = unexplained[0]
                raise RunFailed(
                    f"{form.folder}: {one['clip']}: {name}: writes token {one['runtime']} where the model writes"
                    f" {one['model']}, which it prefers by {one['margin']:.3g}; rounding explains {one['allowed']:.3g}"
                )
            said = [
                (clip.text, decode(found), decode(wanted))
                for clip, (found, wanted) in zip(clips, written, strict=True)
                if clip.text is not None
            ]
            if said and beams == 1:
                facts["words"] = count_words(said, heard.normalizer, form.folder, say)
    return facts


def speakable(rules: Rules) -> str | None:
    """The language that is asked for where none is given: the model's own, else English, else its first."""
    if rules.language or not rules.languages:
        return rules.language
    return "en" if "en" in rules.languages else next(iter(rules.languages))
