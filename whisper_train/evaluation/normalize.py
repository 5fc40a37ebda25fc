"""Named text normalizers, applied to reference and hypothesis alike before they are compared."""

from collections.abc import Callable, Iterable
from functools import cache, partial

from whisper_train.errors import UserError
from whisper_train.evaluation.normalizers.steps import Step, apply

# A name with its version stands for one behaviour for good: a mended one gets another. The order is that of tables.
VERSIONS = {"raw": "1", "whisper-basic": "1", "whisper-english": "1", "german": "1", "french": "1"}
PACKS = {"en": "whisper-english", "de": "german", "fr": "french"}


def make_normalizer(name: str) -> Callable[[str], str]:
    """The normalizer of a name in VERSIONS, ready to be called on any text; raises UserError for another name."""
    return partial(apply, steps_of(name))


def normalizers_for(languages: Iterable[str]) -> list[str]:
    """What texts in `languages` (codes: de, en …) are scored with: raw, whisper-basic, and packs of the languages."""
    wanted = {"raw", "whisper-basic", *(PACKS[language] for language in languages if language in PACKS)}
    return [name for name in VERSIONS if name in wanted]


def explain(name: str, text: str) -> list[tuple[str, str]]:
    """What each step does, and the text after it, for the steps of normalizer `name` that change `text`."""
    changes = []
    for step in steps_of(name):
        before, text = text, step.function(text)
        if text != before:
            changes.append((step.title, text))
    return changes


@cache
def steps_of(name: str) -> tuple[Step, ...]:
    """The steps of a normalizer, compiled once; raises UserError for a name not in VERSIONS."""
    match name:
        case "raw":
            return (Step("drops spaces around the text", str.strip),)
        case "whisper-basic":
            from whisper_train.evaluation.normalizers.whisper import basic_steps

            return basic_steps()
        case "whisper-english":
            from whisper_train.evaluation.normalizers.whisper import english_steps

            return english_steps()
        case "german":
            from whisper_train.evaluation.normalizers.german import german_steps

            return german_steps()
        case "french":
            from whisper_train.evaluation.normalizers.french import french_steps

            return french_steps()
        case _:
            raise UserError(f"normalizer: {name}: no such normalizer; {way_out(name)}")


def way_out(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), VERSIONS, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(VERSIONS)}"
