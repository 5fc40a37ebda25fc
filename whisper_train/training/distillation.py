"""The unquantized base as a teacher: how far the model in training is from it, as a share of the loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from whisper_train.job_quantization import Distillation
from whisper_train.training.window import see_all_of

POSITIONS_AT_ONCE = 512  # whose logits are held at a time: 106 MB in float32 for Whisper's 51,866 words

# Logits (positions, words) of the model in training, for a part of the labelled positions.
Logits = Callable[[slice], torch.Tensor]


class Teacher:
    """A Whisper that hears each batch before the model in training does, in the type and on the device it is in.

    Its weights take two bytes a parameter in half precision, else four; of a batch it keeps the decoder's last hidden
    states. Logits of both are made for POSITIONS_AT_ONCE, and again in the backward pass.
    """

    def __init__(self, model: Any, settings: Distillation) -> None:
        self.model = model.eval().requires_grad_(False)
        self.weight, self.temperature = settings.weight, settings.temperature
        self.hidden: torch.Tensor | None = None  # (windows · tokens, width), of the batch that was heard last

    @torch.no_grad()
    def hear(self, inputs: dict[str, Any]) -> None:
        """Takes in a batch as the model in training will, without what SpecAugment hides from that."""
        see_all_of(self.model, inputs["input_features"])
        heard = self.model.model(
            input_features=inputs["input_features"].to(self.model.dtype),
            decoder_input_ids=inputs["decoder_input_ids"],
            use_cache=False,
        )
        self.hidden = heard.last_hidden_state.flatten(0, 1)

    def blend(self, loss: torch.Tensor, labelled: torch.Tensor, logits: Logits) -> torch.Tensor:
        """`loss`, a sum over the positions `labelled`, with this teacher's share in it."""
        return (1 - self.weight) * loss + self.weight * self.divergence(labelled, logits)

    def divergence(self, labelled: torch.Tensor, logits: Logits) -> torch.Tensor:
        """The sum over `labelled` of how far the model's words are from this one's.

        It is the Kullback-Leibler divergence at the temperature T, times T² so that its gradients stay as large as
        those of the transcripts (Hinton et al. 2015, arXiv:1503.02531).
        """
        assert self.hidden is not None, "no batch was heard"
        hidden, total = self.hidden[labelled], self.hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(labelled), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            total = total + checkpoint(self.compare, hidden[part], logits, part, use_reentrant=False)
        return total * self.temperature**2

    def compare(self, hidden: torch.Tensor, logits: Logits, part: slice) -> torch.Tensor:
        with torch.no_grad():
            taught = torch.log_softmax(self.model.proj_out(hidden).float() / self.temperature, dim=-1)
        learned = torch.log_softmax(logits(part).float() / self.temperature, dim=-1)
        return torch.nn.functional.kl_div(learned, taught, reduction="sum", log_target=True)
