"""Intervals hold the truth as often as they say, and equal models are told apart as rarely as they say."""

import numpy as np
import pytest

from benchmarks.calibration import Pair, World, measure, simulate
from whisper_train.evaluation.bootstrap import (
    BINS,
    Difference,
    compare_rates,
    count_needed,
    rate_interval,
    standard_error,
    student_975,
    sum_groups,
)

PAIRS = 1_000


def simulated(world: World, seed: int = 0) -> Pair:
    return simulate(world, np.random.default_rng(seed))


def compared(pair: Pair, seed: int = 0) -> Difference:
    return compare_rates(pair.before, pair.after, pair.units, pair.groups, seed)


def numbers(*values: int) -> np.ndarray:
    return np.array(values)


def test_one_group_shows_nothing() -> None:
    edits, units, groups = numbers(1, 2), numbers(9, 9), numbers(7, 7)
    assert rate_interval(edits, units, groups) is None
    found = compare_rates(edits, edits + 1, units, groups)
    assert (found.interval, found.p_value, found.units, found.needed_units) == (None, 1.0, 1, None)
    assert found.difference == pytest.approx(2 / 18)


def test_five_groups_show_nothing_however_large_the_difference_and_six_do() -> None:
    for count in (5, 6):
        found = compare_rates(np.full(count, 9), np.arange(count) % 2, np.full(count, 10), np.arange(count))
        assert found.certain == (count == 6)
        assert (found.interval is None) == (count == 5)
        assert found.needed_units == (6 if count == 5 else None)


def test_references_without_words_have_no_interval_but_do_not_fail() -> None:
    edits, none, groups = np.arange(20), np.zeros(20), np.arange(20)
    assert rate_interval(edits, none, groups) is None
    found = compare_rates(edits, edits + 1, none, groups)
    assert (found.interval, found.p_value, found.certain) == (None, 1.0, False)
    assert np.isfinite([found.before, found.after, found.difference]).all()


@pytest.mark.parametrize("count", [2, 5, 40])
def test_equal_outputs_differ_by_exactly_nothing(count: int) -> None:
    edits = np.arange(count) % 3
    found = compare_rates(edits, edits, np.full(count, 9), np.arange(count))
    assert (found.difference, found.interval, found.p_value, found.needed_units) == (0.0, (0.0, 0.0), 1.0, None)


def test_clips_with_words_where_nothing_was_said_take_part() -> None:
    units = np.where(np.arange(60) % 3, 9, 0)
    found = compare_rates(np.full(60, 4), np.full(60, 1), units, np.arange(60))
    assert found.certain
    assert found.interval is not None
    assert found.interval[0] <= found.difference <= found.interval[1] < 0


@pytest.mark.parametrize("clips", [1, 3])
def test_a_few_differing_clips_are_no_difference(clips: int) -> None:
    before = np.zeros(200)
    after = np.where(np.arange(200) < clips, 50, 0)
    found = compare_rates(before, after, np.full(200, 9), np.arange(200))
    assert not found.certain
    assert found.interval is not None
    assert found.interval[0] <= 0 <= found.interval[1]


def test_no_error_at_all_leaves_room_for_some() -> None:
    interval = rate_interval(np.zeros(200), np.full(200, 10), np.arange(200))
    assert interval == pytest.approx((0.0, 3.69 / 2_000), rel=0.02)


def test_the_same_rate_everywhere_is_an_interval_of_one_point() -> None:
    units = np.arange(1, 30)
    assert rate_interval(units, units, units) == (1.0, 1.0)
    assert rate_interval(2 * units, 5 * units, units) == (0.4, 0.4)


@pytest.mark.parametrize("world", [World(10, 10, 0.02), World(30), World(200, made_up=0.02), World(3_000)])
def test_an_interval_excludes_zero_exactly_where_p_is_below_five_percent_and_holds_the_figure(world: World) -> None:
    for number in range(40):
        pair = simulated(world, number)
        found = compared(pair)
        assert found.interval is not None
        low, high = found.interval
        assert low <= found.difference <= high
        assert (found.p_value < 0.05) == (low > 0 or high < 0) == found.certain
        interval = rate_interval(pair.after, pair.units, pair.groups)
        assert interval is not None
        assert 0 <= interval[0] <= found.after <= interval[1]


@pytest.mark.parametrize("world", [World(20, 5), World(150, made_up=0.02), World(2 * BINS)])
def test_neither_the_order_of_clips_nor_the_names_of_groups_matter(world: World) -> None:
    pair = simulated(world)
    chance = np.random.default_rng(1)
    order = chance.permutation(len(pair.units))
    names = chance.permutation(world.groups) + 1_000
    mixed = Pair(pair.before[order], pair.after[order], pair.units[order], names[pair.groups[order]])
    assert compared(mixed) == compared(pair) == compared(pair)
    assert rate_interval(mixed.after, mixed.units, mixed.groups) == pytest.approx(
        rate_interval(pair.after, pair.units, pair.groups)
    )


def test_another_seed_changes_the_interval_hardly() -> None:
    pair = simulated(World(200))
    first, second = compared(pair, 0), compared(pair, 1)
    assert first != second
    assert first.interval == pytest.approx(second.interval, abs=0.002)


def test_twice_the_edits_are_twice_the_difference_and_twice_the_units_half() -> None:
    pair = simulated(World(100, made_up=0.01))
    plain = compared(pair)
    more = compare_rates(2 * pair.before, 2 * pair.after, pair.units, pair.groups)
    longer = compare_rates(pair.before, pair.after, 2 * pair.units, pair.groups)
    assert plain.interval is not None
    assert more.interval == pytest.approx([2 * end for end in plain.interval])
    assert longer.interval == pytest.approx([end / 2 for end in plain.interval])
    assert plain.p_value == more.p_value == longer.p_value


def test_swapped_models_have_the_opposite_difference() -> None:
    pair = simulated(World(200, gain=0.2))
    there, back = compared(pair), compare_rates(pair.after, pair.before, pair.units, pair.groups)
    assert there.difference == -back.difference
    assert there.interval is not None
    assert back.interval == pytest.approx([-there.interval[1], -there.interval[0]], abs=0.002)


def test_bins_of_many_groups_give_the_interval_of_all_of_them() -> None:
    pair = simulated(World(100_000, made_up=0.001, gain=0.05))
    found = compared(pair)
    edits = (pair.after - pair.before).astype(float)
    error = standard_error(edits - found.difference * pair.units, pair.units.sum())
    normal = [found.difference - 1.96 * error, found.difference + 1.96 * error]
    assert found.interval == pytest.approx(normal, abs=0.15 * error)
    assert found.units == 100_000


def test_quantiles_of_t_are_those_of_the_tables() -> None:
    for freedom, quantile in {2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 1_000: 1.962}.items():
        assert student_975(freedom) == pytest.approx(quantile, rel=0.01)
    assert student_975(1) > 11


@pytest.mark.parametrize(
    "world",
    [World(200), World(200, made_up=0.02), World(12, 10, 0.02), World(30, 10)],
    ids=["clips", "clips with hallucinations", "12 speakers", "30 speakers"],
)
def test_of_a_thousand_pairs_of_equal_models_three_to_seven_percent_are_told_apart(world: World) -> None:
    certain, covered, _ = measure(world, PAIRS)
    print(f"{world}: {certain:.1%} of {PAIRS:,} equal pairs called different")
    assert 0.03 <= certain <= 0.07
    assert covered == pytest.approx(1 - certain)


def test_a_larger_gain_is_found_more_often_and_its_interval_holds_it() -> None:
    """Power over 200 clips at 6 % WER: 15 % for 10 % fewer errors, 46 % for 20 % fewer, 97 % for 40 % fewer."""
    powers = []
    for gain in (0.1, 0.2, 0.4):
        power, covered, _ = measure(World(200, gain=gain), 500)
        print(f"{gain:.0%} fewer errors over 200 clips: found in {power:.0%}, interval right in {covered:.1%}")
        powers.append(power)
        assert 0.92 <= covered <= 0.98
    assert 0.05 < powers[0] < powers[1] - 0.1 < powers[2] - 0.2


@pytest.mark.parametrize("world", [World(200, gain=0.2), World(20, 10, gain=0.2)], ids=["clips", "speakers"])
def test_the_needed_units_show_the_difference_four_times_in_five(world: World) -> None:
    many = simulated(World(20_000, world.clips_per_group, gain=world.gain))
    before, after, units = sum_groups(many.groups, many.before, many.after, many.units)
    difference = float((after - before).sum() / units.sum())
    error = standard_error(after - before - difference * units, units.sum())
    needed = count_needed(difference, error * np.sqrt(len(units) / world.groups), world.groups)
    assert needed is not None
    power, _, _ = measure(World(needed, world.clips_per_group, gain=world.gain), 400)
    print(f"{world}: {needed} needed, found in {power:.0%}")
    assert 0.72 <= power <= 0.88


def test_what_more_clips_than_ten_million_would_show_is_not_promised() -> None:
    assert count_needed(1e-7, 0.01, 200) is None
    assert count_needed(0.0, 0.01, 200) is None
    assert count_needed(0.01, 0.01, 200) == 1_572


@pytest.mark.parametrize("world", [World(100), World(30), World(200, made_up=0.02), World(30, 10)])
def test_the_interval_of_one_rate_holds_it_though_errors_are_skewed(world: World) -> None:
    _, _, covered = measure(world, PAIRS)
    print(f"{world}: {covered:.1%} of the intervals hold the rate")
    assert 0.91 <= covered <= 0.98
