"""Intervals and comparisons: published examples, brute-force loops, and missing is never zero."""

import dataclasses
import math

import numpy as np
import pytest

from babelgate.stats import (
    Cell,
    PairedDifference,
    Resamples,
    difference,
    holm,
    interval,
    macro,
    paired_difference,
    wilson,
)

NAN = math.nan


def cell(values, groups=None):
    values = np.array(values, dtype=float)
    names = [f"g{i}" for i in range(len(values))] if groups is None else groups
    return Cell(values, tuple(names))


def rate(successes, n):
    return cell([1] * successes + [0] * (n - successes))


# ---------------------------------------------------------------------------------------------
# single rates and their difference


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
     (1, 29, 0.0061, 0.1718)],
)  # fmt: skip
def test_wilson_on_published_examples(successes, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    got = wilson(rate(successes, n))
    assert (got.low, got.high) == pytest.approx((low, high), abs=5e-5)
    assert got.value == pytest.approx(successes / n)
    assert (got.n, got.n_groups, got.n_unscored) == (n, n, 0)


def test_wilson_solves_its_equation():
    """The ends are the rates p with (x/n - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959963984540054
    checked = 0
    for x in range(1, 9):
        got = wilson(rate(x, 9))
        for p in (got.low, got.high):
            assert (x / 9 - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / 9)
            checked += 1
    assert checked == 16


def test_unscored_is_counted_and_is_no_refusal_and_no_answer():
    got = wilson(cell([1, 0, NAN, 1, NAN], ["a", "a", "b", "c", "c"]))
    assert got.value == pytest.approx(2 / 3)
    assert (got.n, got.n_groups, got.n_unscored) == (3, 2, 2)
    scored = wilson(cell([1, 0, 1]))
    assert (got.low, got.high) == (scored.low, scored.high)


@pytest.mark.parametrize("values", [[], [NAN, NAN]])
def test_nothing_scored_is_missing_not_zero(values):
    got = wilson(cell(values))
    assert got.missing
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    assert (got.n, got.n_groups, got.n_unscored) == (0, 0, len(values))
    assert math.isnan(cell(values).rate)


def test_difference_on_newcombes_example():
    """56/70 against 48/80: 0.2000, method 10 gives 0.0524 to 0.3339 (Newcombe 1998, table II)."""
    got = difference(wilson(rate(56, 70)), wilson(rate(48, 80)))
    assert (got.value, got.low, got.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert got.n == 150
    # Other rows of the same table.
    for a, b, low, high in [
        ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ]:  # fmt: skip
        got = difference(wilson(rate(*a)), wilson(rate(*b)))
        assert (got.low, got.high) == pytest.approx((low, high), abs=5e-5)


def test_difference_turns_with_its_sides_and_stays_missing():
    a, b = wilson(rate(7, 12)), wilson(cell([1, 0, 0, NAN]))
    there, back = difference(a, b), difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low)
    )
    assert (there.n, there.n_groups, there.n_unscored) == (15, 15, 1)
    none = difference(a, wilson(cell([NAN, NAN])))
    assert none.missing
    assert math.isnan(none.low)
    assert none.n_unscored == 2


# ---------------------------------------------------------------------------------------------
# the bootstrap


def test_resamples_draw_as_many_groups_as_there_are():
    draw = Resamples.draw(["b", "a", "b", "c"], n=500, seed=3)
    assert draw.index == {"a": 0, "b": 1, "c": 2}
    assert draw.weights.shape == (500, 3)
    assert (draw.weights.sum(1) == 3).all()
    assert (draw.weights >= 0).all()
    # Each group is drawn once on average.
    assert draw.weights.mean(0) == pytest.approx([1, 1, 1], abs=0.15)
    again = Resamples.draw(["c", "b", "a"], n=500, seed=3)
    assert (again.weights == draw.weights).all()
    assert (Resamples.draw(["a", "b", "c"], n=500, seed=4).weights != draw.weights).any()


def mean_by_loop(one: Cell, resamples: Resamples, r: int) -> float:
    """Write every drawn prompt down as often as its group was drawn."""
    drawn = []
    for value, group in zip(one.values, one.groups):
        if not math.isnan(value):
            drawn += [value] * int(resamples.weights[r, resamples.index[group]])
    return sum(drawn) / len(drawn) if drawn else NAN


def random_cells(seed, groups=6, n=15):
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 1, NAN], size=n, p=[0.4, 0.4, 0.2])
    return cell(values, [f"g{i}" for i in rng.integers(0, groups, n)])


def test_resampled_means_equal_a_loop():
    one = random_cells(0)
    resamples = Resamples.draw([*one.groups, "elsewhere"], n=200, seed=1)
    got = resamples.means(one)
    assert len(got) == 200
    for r in range(200):
        assert got[r] == pytest.approx(mean_by_loop(one, resamples, r), nan_ok=True)


def test_resampled_mean_of_what_was_not_drawn_is_nan():
    one = cell([1.0], ["a"])
    resamples = Resamples({"a": 0, "b": 1}, np.array([[0.0, 2.0], [1.0, 1.0]]))
    assert resamples.means(one) == pytest.approx([NAN, 1.0], nan_ok=True)


def test_interval_cuts_two_and_a_half_percent_off_each_end():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.array([NAN, *np.arange(1001.0), NAN])) == pytest.approx((25, 975))
    assert all(math.isnan(x) for x in interval(np.array([NAN, NAN])))
    assert all(math.isnan(x) for x in interval(np.array([])))


def test_macro_equals_a_loop():
    harmful, harmless = [random_cells(1), random_cells(2)], [random_cells(3), random_cells(4)]
    resamples = Resamples.draw([f"g{i}" for i in range(6)], n=300, seed=2)
    got = macro([(1.0, harmful), (-1.0, harmless)], resamples)
    samples = []
    for r in range(300):
        a = [mean_by_loop(c, resamples, r) for c in harmful]
        b = [mean_by_loop(c, resamples, r) for c in harmless]
        samples.append(sum(a) / 2 - sum(b) / 2)
    samples = sorted(s for s in samples if not math.isnan(s))
    low, high = np.quantile(samples, [0.025, 0.975])
    every = [*harmful, *harmless]
    value = (harmful[0].rate + harmful[1].rate) / 2 - (harmless[0].rate + harmless[1].rate) / 2
    assert (got.value, got.low, got.high) == pytest.approx((value, low, high))
    assert got.n == sum(len(c.scored) for c in every)
    assert got.n_unscored == sum(len(c.values) - len(c.scored) for c in every)
    scored = {g for c in every for g, v in zip(c.groups, c.values) if not math.isnan(v)}
    assert got.n_groups == len(scored)


def test_macro_selectivity_is_over_languages_with_both_sides():
    """The second language's harmless cell is blind, so its harmful cell does not count either."""
    resamples = Resamples.draw([f"g{i}" for i in range(4)], n=50, seed=0)
    harmful, harmless = [rate(3, 4), rate(4, 4)], [rate(1, 4), cell([NAN] * 4)]
    got = macro([(1.0, harmful), (-1.0, harmless)], resamples)
    assert got.value == 0.5
    assert (got.n, got.n_unscored) == (8, 4)


def test_macro_is_unweighted_over_languages():
    """Rates 1 (of 100 prompts) and 0 (of 1): 0.5, whatever the sizes."""
    cells = [rate(100, 100), rate(0, 1)]
    resamples = Resamples.draw([f"g{i}" for i in range(100)], n=20, seed=0)
    assert macro([(1.0, cells)], resamples).value == 0.5


def test_macro_leaves_unscored_cells_out_and_counts_them():
    resamples = Resamples.draw([f"g{i}" for i in range(4)], n=50, seed=0)
    blind = cell([NAN] * 4)
    got = macro([(1.0, [rate(3, 4), blind])], resamples)
    assert got.value == 0.75
    assert (got.n, got.n_groups, got.n_unscored) == (4, 4, 4)
    for sides in ([(1.0, [blind])], [(1.0, [rate(3, 4)]), (-1.0, [blind])], [(1.0, [])]):
        none = macro(sides, resamples)
        assert none.missing
        assert math.isnan(none.low)
        assert none.n == 0
    half = macro([(1.0, [cell([1, NAN, NAN, 0])])], resamples)
    assert (half.n, half.n_groups, half.n_unscored) == (2, 2, 2)


def test_groups_widen_the_interval():
    """Ten translations that always agree are one observation: width as with one language.

    40 groups at rate 1/2: standard error sqrt(1/4 / 40) = 0.079, width 0.31. Were the 400 prompts
    drawn singly, the width would be about 0.10.
    """
    one = rate(20, 40)
    together = Resamples.draw(one.groups, n=4000, seed=0)
    got = macro([(1.0, [one] * 10)], together)
    assert got.high - got.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.1)
    single = [Cell(one.values, tuple(f"{i}-{g}" for g in one.groups)) for i in range(10)]
    apart = Resamples.draw([g for c in single for g in c.groups], n=4000, seed=0)
    alone = macro([(1.0, single)], apart)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.1)
    assert got.n_groups == 40
    assert alone.n_groups == got.n == 400


# ---------------------------------------------------------------------------------------------
# pairs


def test_paired_difference_equals_a_loop():
    a = [random_cells(4), random_cells(5)]
    rng = np.random.default_rng(6)
    b = [Cell(rng.permutation(c.values), c.groups) for c in a]
    resamples = Resamples.draw([f"g{i}" for i in range(6)], n=300, seed=7)
    got = paired_difference([(1.0, a[0], b[0]), (-1.0, a[1], b[1])], resamples)
    samples, delta, n = np.zeros(300), 0.0, 0
    for sign, x, y in ((1.0, a[0], b[0]), (-1.0, a[1], b[1])):
        both = [not math.isnan(p) and not math.isnan(q) for p, q in zip(x.values, y.values)]
        x2 = cell([p for p, ok in zip(x.values, both) if ok],
                  [g for g, ok in zip(x.groups, both) if ok])  # fmt: skip
        y2 = cell([p for p, ok in zip(y.values, both) if ok], x2.groups)
        delta += sign * (y2.rate - x2.rate)
        n += sum(both)
        for r in range(300):
            samples[r] += sign * (mean_by_loop(y2, resamples, r) - mean_by_loop(x2, resamples, r))
    samples = samples[np.isfinite(samples)]
    low, high = np.quantile(samples, [0.025, 0.975])
    below, above = sum(s <= 1e-12 for s in samples), sum(s >= -1e-12 for s in samples)
    assert (got.delta, got.low, got.high) == pytest.approx((delta, low, high))
    assert got.n == n
    assert got.p == pytest.approx(min(1, 2 * min(below, above) / len(samples)), abs=0.02)


def test_a_prompt_unscored_by_one_method_is_out_for_both():
    """Both scored: (0, 1), (1, 1), (0, 1): means 1/3 and 1."""
    a = cell([0, 1, 0, NAN, 1])
    b = cell([1, 1, 1, 0, NAN])
    resamples = Resamples.draw(a.groups, n=200, seed=0)
    got = paired_difference([(1.0, a, b)], resamples)
    assert got.delta == pytest.approx(2 / 3)
    assert got.n == 3


def test_a_method_against_itself_and_the_smallest_p():
    a = rate(5, 10)
    resamples = Resamples.draw(a.groups, n=200, seed=0)
    assert paired_difference([(1.0, a, a)], resamples) == PairedDifference(0, 0, 0, 1.0, 10)
    better = paired_difference([(1.0, rate(0, 10), rate(10, 10))], resamples)
    assert (better.delta, better.low, better.high) == (1, 1, 1)
    assert better.p == 1 / 200  # no resample reaches 0, which is not proof that none would
    worse = paired_difference([(1.0, rate(10, 10), rate(0, 10))], resamples)
    assert (worse.delta, worse.p) == (-1, 1 / 200)


def test_pairing_narrows_the_interval():
    """One of 40 prompts changes in either arm: pairs are nearly sure, separate arms are not."""
    a = rate(20, 40)
    b = rate(21, 40)
    resamples = Resamples.draw(a.groups, n=2000, seed=0)
    paired = paired_difference([(1.0, a, b)], resamples)
    apart = difference(wilson(b), wilson(a))
    assert paired.delta == pytest.approx(apart.value)
    assert paired.high - paired.low < (apart.high - apart.low) / 3


def test_nothing_in_common_is_missing():
    a, b = cell([1, NAN]), cell([NAN, 0])
    got = paired_difference([(1.0, a, b)], Resamples.draw(a.groups, n=50, seed=0))
    assert got.n == 0
    numbers = [v for k, v in dataclasses.asdict(got).items() if k != "n"]
    assert len(numbers) == 4
    assert all(math.isnan(x) for x in numbers)


# ---------------------------------------------------------------------------------------------
# many comparisons


def test_holm_by_hand():
    """p sorted 0.01 0.02 0.03 0.3 times 4 3 2 1: 0.04 0.06 0.06 0.3; the third may not fall."""
    assert holm([0.3, 0.02, 0.01, 0.03]) == pytest.approx([0.3, 0.06, 0.04, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_does_not_count_missing_values():
    assert holm([NAN, 0.01, NAN, 0.04]) == pytest.approx([NAN, 0.02, NAN, 0.04], nan_ok=True)


def test_holm_laws():
    p = np.random.default_rng(0).random(20).tolist()
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p))
    assert max(adjusted) <= 1
    order = np.argsort(p)
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    shuffled = np.random.default_rng(1).permutation(20)
    assert holm([p[i] for i in shuffled]) == pytest.approx([adjusted[i] for i in shuffled])
