"""What the decoder is to write for a clip or a window: Whisper's tokens, with time stamps and a prompt or without."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from whisper_train.audio import SAMPLE_RATE
from whisper_train.evaluation.words import UNSPACED_CHARACTER, join_texts
from whisper_train.model import prompt_tokens

FRAMES_PER_TIMESTAMP = 2  # transformers goes on so many frames of the spectrogram for each: the encoder's stride
PROMPT_AND_END = 5  # tokens of a clip's label beside its text: start, language, task, no time stamps; end of text
LEAST_PROMPT = 2  # tokens: the start of a prompt and one of its text


class Segment(NamedTuple):
    """A stretch of speech within a window, in seconds from its beginning."""

    start: float
    end: float
    text: str


class Labels:
    """Makes label tokens; holds the tokenizer and the prompts of the languages met so far.

    `max_tokens` is what the decoder has positions for, `hop_length` that of the feature extractor: the time stamp
    <|0.02|> stands for two hops, which are 0.02 s in Whisper's own models alone.
    """

    def __init__(
        self, tokenizer: Any, task: str, *, multilingual: bool, hop_length: int = 160, max_tokens: int = 448
    ) -> None:
        self.tokenizer = tokenizer
        self.task = task
        self.multilingual = multilingual
        self.seconds_per_timestamp = FRAMES_PER_TIMESTAMP * hop_length / SAMPLE_RATE
        self.max_tokens = max_tokens
        known = tokenizer.get_added_vocab()
        self.end = int(known["<|endoftext|>"])
        self.first_timestamp = int(known["<|notimestamps|>"]) + 1  # also where a tokenizer does not list them
        self.start_of_prompt = known.get("<|startofprev|>")
        self.starts: dict[str, list[int]] = {}

    def __call__(self, text: str, language: str) -> list[int]:
        """The label of a clip by itself: start of transcript … no timestamps, text, one end of text."""
        return [*self.start(language), *self.spell(text), self.end]

    def window(
        self,
        segments: Sequence[Segment],
        language: str,
        *,
        timestamps: bool = False,
        cut_at: float | None = None,
        prompt: str = "",
    ) -> tuple[list[int], int]:
        """The label of a window, and how many of its first predictions nobody is to learn: those of the prompt.

        With time stamps each segment stands between two, its text behind a space, as in OpenAI's own models; a clip
        that begins at `cut_at` and has no end within the window is named by its beginning alone.
        """
        start = self.start(language)
        if timestamps:
            start = start[:-1]
            body = [token for segment in segments for token in self.timed(segment)]
            body += [] if cut_at is None else [self.timestamp(cut_at)]
        else:
            body = self.spell(segments[0].text if len(segments) == 1 else join_texts([one.text for one in segments]))
        label = [*start, *body, self.end]
        before = self.prompt(prompt, min(self.max_tokens // 2, self.max_tokens - len(label)))
        return [*before, *label], len(before)

    def start(self, language: str) -> list[int]:
        if language not in self.starts:
            self.starts[language] = prompt_tokens(self.tokenizer, language, self.task, multilingual=self.multilingual)
        return self.starts[language]

    def spell(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def timed(self, segment: Segment) -> list[int]:
        return [self.timestamp(segment.start), *self.spell(spaced(segment.text)), self.timestamp(segment.end)]

    def timestamp(self, seconds: float) -> int:
        return self.first_timestamp + round(seconds / self.seconds_per_timestamp)

    def prompt(self, text: str, room: int) -> list[int]:
        """The end of `text` as what was said before, in at most `room` tokens; nothing where there is no room."""
        if not text or self.start_of_prompt is None or room < LEAST_PROMPT:
            return []
        return [self.start_of_prompt, *self.spell(spaced(text))[1 - room :]]


def spaced(text: str) -> str:
    return text if UNSPACED_CHARACTER.match(text) else f" {text}"
