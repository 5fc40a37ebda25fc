"""The ways of training that are compared: the stock recipe, and this program's as a job would ask for them."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way; `data` is laid over the `data:` section of its job, and says nothing for the stock recipe."""

    label: str
    color: str  # of Okabe and Ito's palette, which colour-blind people can tell apart
    data: dict[str, Any] = field(default_factory=dict)


# What is measured is held-out single clips without time stamps, so windows are learned without time stamps too.
JOINED = {"windows": {"joined": 1.0, "timestamps": 0.0, "prompts": 0.0}}

WAYS: dict[str, Way] = {
    "stock": Way(label="stock recipe", color="#999999"),
    "single": Way(label="ours, one clip a window", color="#E69F00"),
    "joined": Way(label="ours, joined windows", color="#0072B2", data=JOINED),
    "short": Way(label="ours, short windows", color="#009E73", data={"window_seconds": 30.0}),
}
