"""Measures how honest the intervals and comparisons of whisper_train.evaluation are, on simulated pairs of models.

    python -m benchmarks.calibration [PAIRS]      1,000 pairs a figure by default, eight minutes on one core

A clip has 3 to 20 words. How hard it is, is the same for both models, and very uneven: seven clips in ten have no
error at 6 % WER. A speaker is hard for both models, and suits one of them better by chance. Now and then a model makes
up 50 words. Speakers have 13 clips on average, but the largest of ten has a quarter of all.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np

from whisper_train.evaluation.bootstrap import compare_rates, rate_interval, sum_groups


@dataclass(frozen=True, slots=True)
class World:
    """Where pairs of models come from; rates are shares."""

    groups: int
    clips_per_group: int = 1  # more than one: median clips of a speaker
    made_up: float = 0.0  # share of clips with 50 words that nobody said
    gain: float = 0.0  # share of the errors that the second model avoids


@dataclass(frozen=True, slots=True)
class Pair:
    """Word errors of two models on the same clips; arrays of shape (clips,)."""

    before: np.ndarray
    after: np.ndarray
    units: np.ndarray
    groups: np.ndarray


def simulate(world: World, chance: np.random.Generator) -> Pair:
    count, several = world.groups, world.clips_per_group > 1
    clips = chance.lognormal(np.log(world.clips_per_group), 0.8, count) if several else np.ones(count)
    groups = np.repeat(np.arange(count), np.maximum(clips, 1).astype(int))
    units = chance.integers(3, 21, len(groups))
    difficulty = chance.gamma(0.3, 0.2, len(groups))
    if several:
        difficulty *= chance.lognormal(-0.125, 0.5, count)[groups]
    edits = []
    for share in (1.0, 1 - world.gain):
        suited = chance.lognormal(-0.045, 0.3, count)[groups] if several else 1.0
        wrong = chance.binomial(units, np.minimum(share * difficulty * suited, 1.0))
        edits.append(wrong + 50 * (chance.random(len(groups)) < share * world.made_up))
    return Pair(edits[0], edits[1], units, groups)


def measure(world: World, pairs: int, seed: int = 0) -> tuple[float, float, float]:
    """Shares of `pairs`: called certain, difference within its interval, second model's rate within its interval."""
    many = replace(world, groups=500_000 // world.clips_per_group)
    population = simulate(many, np.random.default_rng([seed, 1]))
    before, rate = (edits.sum() / population.units.sum() for edits in (population.before, population.after))
    difference = rate - before if world.gain else 0.0
    certain = covered = rate_covered = 0
    for number in range(pairs):
        pair = simulate(world, np.random.default_rng([seed, 2, number]))
        found = compare_rates(pair.before, pair.after, pair.units, pair.groups, number)
        certain += found.certain
        low, high = found.interval or (-np.inf, np.inf)
        covered += low <= difference <= high
        low, high = rate_interval(pair.after, pair.units, pair.groups) or (0.0, np.inf)
        rate_covered += low <= rate <= high
    return certain / pairs, covered / pairs, rate_covered / pairs


def measure_percentiles(world: World, pairs: int, seed: int = 0) -> float:
    """Share of `pairs` that the usual bootstrap, by percentiles of the resampled differences, calls different."""
    certain = 0
    for number in range(pairs):
        pair = simulate(world, chance := np.random.default_rng([seed, 2, number]))
        difference, units = sum_groups(pair.groups, pair.after - pair.before, pair.units)
        drawn = chance.multinomial(len(units), np.full(len(units), 1 / len(units)), 1_000)
        low, high = np.quantile((drawn @ difference) / (drawn @ units), (0.025, 0.975))
        certain += low > 0 or high < 0
    return certain / pairs


def main(pairs: int = 1_000) -> None:
    gains = (0.0, 0.1, 0.2, 0.4)
    head = ["drawn", "made-up clips", "usual bootstrap", "equal models", "10 % fewer", "20 % fewer", "40 % fewer"]
    head += ["difference", "one rate"]
    print("|", " | ".join(head), "|\n|" + "---|" * len(head))
    for groups, clips in ((10, 10), (20, 10), (30, 10), (100, 10), (30, 1), (100, 1), (200, 1), (1_000, 1), (5_000, 1)):
        for made_up in (0.0, 0.005, 0.02):
            shares = [measure(World(groups, clips, made_up, gain), pairs) for gain in gains]
            usual = measure_percentiles(World(groups, clips, made_up), pairs) if groups <= 200 else np.nan
            figures = [made_up, usual, *(certain for certain, _, _ in shares), shares[2][1], shares[0][2]]
            cells = [f"{groups:,} {'clips' if clips == 1 else 'speakers'}"]
            cells += [f"{100 * figure:.1f} %" if figure >= 0 else "–" for figure in figures]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
