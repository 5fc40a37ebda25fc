"""How sure a corpus error rate is, and whether two models on the same clips really differ.

Clips of one speaker or recording err together, so what is drawn is the group (speaker, recording or clip), never the
word. The methods were chosen by measuring: docs/evaluation-statistics.md has the figures, benchmarks/calibration.py
makes them. In short, of pairs of equal models over 10 to 30 speakers, the usual percentile bootstrap called 7 to 14 %
different, and the signs below 4 to 5 %; over clips 5 to 8 %, and 2 to 5 %.

- Two models: a wild bootstrap (random signs; Cameron, Gelbach and Miller 2008), which for equal models is an exact
  test, because which model made which errors is then chance. Its interval is that of Hartigan (1969), typical values.
- One model: Hall's (1992) t interval corrected for skewness, with the degrees of freedom of the effective number of
  groups (Carter, Schnepel and Steigerwald 2017). No random numbers are involved.
"""

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
RESAMPLES = 9_999
BINS = 2_000
BLOCK = 500  # resamples at a time: 8 MB for 2,000 bins
NORMAL_975, NORMAL_80 = 1.959964, 0.841621
MOST_UNITS = 10_000_000
FEWEST_UNITS = 6  # five can fall on one side by chance in 1 of 16 cases, six in 1 of 32

Interval = tuple[float, float]


def rate_interval(edits: np.ndarray, units: np.ndarray, groups: np.ndarray) -> Interval | None:
    """95 % interval of sum(edits) / sum(units), a fraction, over groups; None with fewer than two groups or no units.

    `edits`, `units` (reference words or characters) and the labels `groups` are of shape (clips,). Without any error
    the upper end is the rule of three (Hanley and Lippman-Hand 1983): as if an edit hid in as many groups as could
    have escaped.
    """
    edit_sums, unit_sums = sum_groups(groups, edits, units)
    count, total = len(unit_sums), unit_sums.sum()
    if count < 2 or total == 0:
        return None
    if not edit_sums.any():
        return 0.0, float(count * -np.expm1(np.log(ALPHA / 2) / count) / total)
    rate = edit_sums.sum() / total
    residuals = edit_sums - rate * unit_sums
    squares = np.square(residuals).mean()
    if np.sqrt(squares) <= 1e-12 * total:  # every group has the same rate
        return float(rate), float(rate)
    effective = total**2 / np.square(unit_sums).sum()
    margin = student_975(max(effective - 1, 1.0))
    skewness = (residuals**3).mean() / squares**1.5
    error = standard_error(residuals, total)
    low, high = (rate - unskew(quantile, skewness, count) * error for quantile in (margin, -margin))
    return float(max(low, 0.0)), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Rates of two models on the same clips, as fractions; `difference` is after - before, negative where better.

    `p_value` is below 0.05 exactly where the 95 % `interval` excludes zero. With fewer than six groups nothing can be
    shown: the interval is None and the p-value 1. `units` counts the groups. `needed_units` is how many of them would
    show the observed difference with 80 % power; None where it is certain, zero, or needs more than ten million.
    """

    before: float
    after: float
    difference: float
    interval: Interval | None
    p_value: float
    units: int
    needed_units: int | None

    @property
    def certain(self) -> bool:
        return self.p_value < ALPHA


def compare_rates(
    before_edits: np.ndarray, after_edits: np.ndarray, units: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Difference:
    """Paired comparison of two models; all arrays are of shape (clips,), `units` those of the reference, for both."""
    before_sums, after_sums, unit_sums = sum_groups(groups, before_edits, after_edits, units)
    edit_differences = after_sums - before_sums
    count, total = len(unit_sums), max(unit_sums.sum(), 1.0)
    difference = edit_differences.sum() / total
    interval, p_value = compare_by_signs(edit_differences, unit_sums, seed)
    needed = None
    if p_value >= ALPHA and count > 1:
        needed = count_needed(difference, standard_error(edit_differences - difference * unit_sums, total), count)
    return Difference(
        before=float(before_sums.sum() / total),
        after=float(after_sums.sum() / total),
        difference=float(difference),
        interval=interval,
        p_value=p_value,
        units=count,
        needed_units=needed,
    )


def count_needed(difference: float, error: float, count: int) -> int | None:
    """Groups that show `difference` (a rate) with 80 % power at 95 %, given its standard error over `count` groups.

    The two added groups are Guenther's (1981) correction of the normal formula to that of a t-test.
    """
    if difference == 0:
        return None
    spread = (NORMAL_975 + NORMAL_80) * error / abs(difference)
    needed = count * spread**2 + NORMAL_975**2 / 2
    return max(int(np.ceil(needed)), count + 1, FEWEST_UNITS) if needed <= MOST_UNITS else None


def sum_groups(groups: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Sums of each of `values` (clips,) by group, as float64 arrays (groups,)."""
    labels, members = np.unique(groups, return_inverse=True)
    return [np.bincount(members, value, minlength=len(labels)) for value in values]


def standard_error(residuals: np.ndarray, total: float) -> float:
    """Of a ratio of sums, from its residuals by group (groups,) and the sum `total` of its denominators."""
    count = len(residuals)
    return float(np.sqrt(count / (count - 1) * np.square(residuals).sum()) / total)


def compare_by_signs(differences: np.ndarray, units: np.ndarray, seed: int) -> tuple[Interval | None, float]:
    """Interval and p-value of sum(differences) / sum(units), both by group (groups,).

    If the true rate is d, then what a group's difference has beyond d times its units is as likely positive as
    negative. A draw of signs contradicts d unless it makes the sum of these remainders as large as the one observed.
    Solved for d: it does where d lies between the rate of the groups with plus and that of the groups with minus. So
    the p-value of d is the share of the draws whose two rates enclose d, and the interval holds every d above 5 %.
    """
    if not differences.any() and len(differences) > 1:
        return (0.0, 0.0), 1.0
    lows, highs = split_rates(*deal_bins(differences, units, seed), seed)
    edge = round(ALPHA * (RESAMPLES + 1)) - 1
    low, high = np.partition(lows, edge - 1)[edge - 1], np.partition(highs, -edge)[-edge]
    if not (np.isfinite(low) and np.isfinite(high)):
        return None, 1.0
    enclosing = np.count_nonzero((lows <= 0) & (highs >= 0))
    return (float(low), float(high)), float((1 + enclosing) / (RESAMPLES + 1))


def deal_bins(differences: np.ndarray, units: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The groups, or where there are many, the sums of 2,000 random bins of them; in an order that the values set.

    Sums of independent groups are independent groups, so any test of groups holds for them as well; 2,000 leave no
    measurable loss of power. The dealing must be blind to the values: bins made alike would hide the spread.
    """
    order = np.lexsort((differences, units))
    differences, units = differences[order], units[order]
    if len(units) <= BINS:
        return differences, units
    bins = np.random.default_rng([seed, 1]).permutation(len(units)) % BINS
    return np.bincount(bins, differences), np.bincount(bins, units)


def split_rates(differences: np.ndarray, units: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and higher of the rates of the two parts into which the groups fall at random, twice (resamples,).

    Infinite where a part has no units.
    """
    chance = np.random.default_rng(seed)
    values = np.stack([differences, units], axis=1)
    parts = np.empty((RESAMPLES, 2))
    for start in range(0, RESAMPLES, BLOCK):
        rows = min(BLOCK, RESAMPLES - start)
        bits = chance.integers(0, 256, (rows, -(-len(units) // 8)), np.uint8)
        parts[start : start + rows] = np.unpackbits(bits, axis=1, count=len(units)).astype(np.float64) @ values
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.stack([part[:, 0] / part[:, 1] for part in (parts, values.sum(axis=0) - parts)])
    unknown = np.isnan(rates).any(axis=0)
    return np.where(unknown, -np.inf, rates.min(axis=0)), np.where(unknown, np.inf, rates.max(axis=0))


def student_975(freedom: float) -> float:
    """97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5), 11 % too low at 1 degree of freedom, 1 % at 2."""
    z = NORMAL_975
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1_482 * z**5 - 1_920 * z**3 - 945 * z) / 92_160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def unskew(quantile: float, skewness: float, count: int) -> float:
    """The t statistic of `count` values with this skewness at a quantile of t: Hall's cubic, solved for it."""
    bend = skewness / (3 * np.sqrt(count))
    if abs(bend) < 1e-9:
        return quantile
    return float((np.cbrt(1 + 3 * bend * (quantile - bend / 2)) - 1) / bend)
