"""The model that was trained, in torch: its logits and its tokens, which every converted file is held against."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_train.export.rules import Rules, Scores, make_rules
from whisper_train.model import is_multilingual


class Reference:
    """A Whisper in torch, one clip at a time: a rounding over a whole tensor must not see other clips."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rules: Rules = make_rules(model.config.to_dict(), model.generation_config.to_dict())

    @torch.inference_mode()
    def logits(self, features: NDArray[np.float32], ids: Sequence[int]) -> Scores:
        """Logits (tokens, words) after each of `ids`, of one clip's `features` (bins, frames)."""
        sound, tokens = torch.from_numpy(features)[None], torch.tensor([list(ids)])
        return self.model(input_features=sound, decoder_input_ids=tokens).logits[0].float().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def write(self, features: NDArray[np.float32], language: str | None, beams: int, max_length: int) -> list[int]:
        """The tokens that transformers' generate() writes after the prompt, without the end."""
        sound = torch.from_numpy(features)[None]
        options: dict[str, Any] = {"num_beams": beams, "max_length": max_length, "force_unique_generate_call": True}
        if is_multilingual(self.model):
            options |= {"language": language, "task": "transcribe"}
        everything = torch.ones_like(sound[:, 0], dtype=torch.long)
        tokens: list[int] = self.model.generate(sound, attention_mask=everything, **options)[0].tolist()
        prompt = self.rules.prompt(language, "transcribe")
        tokens = tokens[len(prompt) :] if tokens[: len(prompt)] == prompt else tokens
        return tokens[: tokens.index(self.rules.end)] if self.rules.end in tokens else tokens

    def score(self, features: NDArray[np.float32], prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """The mean log probability of `tokens` and the end after `prompt`."""
        whole = [*prompt, *tokens, self.rules.end]
        scores = torch.log_softmax(torch.from_numpy(self.logits(features, whole[:-1])), dim=-1)
        after = range(len(prompt) - 1, len(whole) - 1)
        return float(np.mean([float(scores[place, whole[place + 1]]) for place in after]))
