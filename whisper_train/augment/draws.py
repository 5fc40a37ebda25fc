"""What chance gives one clip, drawn and remembered."""

from collections.abc import Sequence

import numpy as np


class Draws:
    """Draws values from `chance` by name, and keeps them, so that people can be told what a clip got."""

    def __init__(self, chance: np.random.Generator) -> None:
        self.chance = chance
        self.values: dict[str, float | str] = {}

    def within(self, name: str, limits: tuple[float, float]) -> float:
        """A number between both limits, each as likely as another."""
        return self.keep(name, float(self.chance.uniform(*limits)))

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        chosen = choices[int(self.chance.integers(len(choices)))]
        self.values[name] = chosen
        return chosen

    def keep(self, name: str, value: float) -> float:
        """Notes `value`, as where the clip itself allows less than what was drawn."""
        self.values[name] = value
        return value
