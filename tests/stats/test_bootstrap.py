"""All cells resampled at once: equal to the obvious loop on the same weights, and it covers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.stats import (
    Cell,
    Resampled,
    Resamples,
    change,
    combine,
    estimate,
    interval,
    macro,
    macro_of,
    paired_difference,
    paired_estimate,
)

NAN = math.nan


def mean_by_loop(cell, resamples, r):
    """Write every drawn prompt down as often as its group was drawn."""
    drawn = []
    for value, group in zip(cell.values, cell.groups):
        if not math.isnan(value):
            drawn += [value] * int(resamples.weights[r, resamples.index[group]])
    return sum(drawn) / len(drawn) if drawn else NAN


def panel(seed, methods=3, languages=4, groups=15, missing=0.2):
    """Return cells by (method, language); translations share groups, one language lacks some."""
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(groups)]
    found = {}
    for key in np.ndindex(methods, languages):
        kept = names[: groups - 4 * (key[1] == 1)]
        values = rng.choice([0.0, 1.0, NAN], len(kept), p=[0.5, 0.5 - missing, missing])
        found[key] = Cell(values, tuple(kept))
    return found, names


cells_strategy = st.lists(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.sampled_from("abcde")),
        min_size=1, max_size=8,
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(cells_strategy, st.integers(0, 99))
def test_all_cells_at_once_equal_the_loop(drawn, seed):
    """Any missing values, and groups that repeat within a cell or are absent from it."""
    cells = [Cell(np.array([v for v, _ in c]), tuple(g for _, g in c)) for c in drawn]
    resamples = Resamples.draw("abcde", n=40, seed=seed)
    got = resamples.of(cells)
    assert len(got) == len(cells)
    for cell, part in zip(cells, got):
        slow = [mean_by_loop(cell, resamples, r) for r in range(40)]
        assert part.samples == pytest.approx(slow, nan_ok=True, rel=1e-12)
        assert part.value == pytest.approx(cell.rate, nan_ok=True)
        assert (part.n, part.unscored) == (len(cell.scored), len(cell.values) - len(cell.scored))
        assert {g for g, i in resamples.index.items() if part.seen[i]} == cell.scored_groups


def test_a_whole_run_equals_the_loop():
    """Cell intervals, macro averages and differences, 200 resamples, loop over loops."""
    cells, names = panel(0)
    resamples = Resamples.draw(names, n=200, seed=1)
    parts = dict(zip(cells, resamples.of(list(cells.values()))))
    checked = 0
    for key, cell in cells.items():
        slow = np.array([mean_by_loop(cell, resamples, r) for r in range(200)])
        got = estimate(parts[key])
        assert (got.value, got.low, got.high) == pytest.approx((cell.rate, *interval(slow)))
        checked += 1
    for method in range(3):
        own = [cells[method, x] for x in range(4)]
        slow = np.mean([[mean_by_loop(c, resamples, r) for r in range(200)] for c in own], axis=0)
        got = macro_of([(1.0, [parts[method, x] for x in range(4)])])
        assert got == macro([(1.0, own)], resamples)
        assert (got.low, got.high) == pytest.approx(interval(slow))
        assert got.value == pytest.approx(np.mean([c.rate for c in own]))
        checked += 1
    for method in (1, 2):
        pairs = [(0.25, cells[0, x], cells[method, x]) for x in range(4)]
        changes = resamples.of([change(a, b) for _, a, b in pairs])
        got = paired_estimate(combine([(0.25, part) for part in changes]))
        assert got == paired_difference(pairs, resamples)
        slow = np.zeros(200)
        for weight, a, b in pairs:
            both = Cell(b.values - a.values, a.groups)
            slow += [weight * mean_by_loop(both, resamples, r) for r in range(200)]
        assert (got.low, got.high) == pytest.approx(interval(slow))
        below = (slow <= 1e-12).mean(), (slow >= -1e-12).mean()
        assert got.p == pytest.approx(min(1, max(2 * min(below), 1 / 200)))
        checked += 1
    assert checked == 12 + 3 + 2


def test_sums_do_not_depend_on_the_arithmetic_they_are_made_in():
    """Whole numbers go through float32, where they are exact; fractions must not."""
    resamples = Resamples.draw([str(i) for i in range(300)], n=700, seed=0)
    rng = np.random.default_rng(0)
    whole = rng.integers(-1, 3, (300, 5)).astype(float)
    weights = resamples.weights.astype(float)
    assert (resamples.sums(whole) == (weights @ whole).T).all()
    fractions = rng.random((300, 5))
    assert resamples.sums(fractions) == pytest.approx((weights @ fractions).T, rel=1e-12)
    large = whole * 2**20 + 1  # sums beyond what float32 holds exactly
    assert (resamples.sums(large) == (weights @ large).T).all()
    assert resamples.sums(np.empty((300, 0))).shape == (0, 700)


def test_draws_are_those_of_a_multinomial():
    """Counts of 4 groups: mean 1, variance n p q = 3/4, covariance -n p p = -1/4."""
    weights = Resamples.draw("abcd", n=40_000, seed=0).weights.astype(float)
    covariance = np.cov(weights.T)
    assert weights.mean(0) == pytest.approx([1] * 4, abs=0.02)
    assert np.diag(covariance) == pytest.approx([0.75] * 4, abs=0.02)
    off = covariance[~np.eye(4, dtype=bool)]
    assert off == pytest.approx([-0.25] * 12, abs=0.02)


def test_weights_are_small_integers_and_no_count_is_cut():
    assert Resamples.draw("ab", n=10, seed=0).weights.dtype == np.uint8
    many = Resamples.draw([str(i) for i in range(300)], n=3, seed=0)
    assert many.weights.dtype == np.uint16
    assert (many.weights.sum(1) == 300).all()
    assert Resamples.draw([], n=3, seed=0).weights.shape == (3, 1)


def test_sums_of_statistics_keep_counts_and_missing():
    a = Resampled(0.5, np.array([0.4, 0.6]), np.array([True, False, True]), 2, 1)
    b = Resampled(0.25, np.array([NAN, 0.5]), np.array([False, False, True]), 1, 0)
    got = combine([(1.0, a), (-2.0, b)])
    assert got.value == 0.0
    assert got.samples == pytest.approx([NAN, -0.4], nan_ok=True)
    assert got.seen.tolist() == [True, False, True]
    assert (got.n, got.unscored) == (3, 1)
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_cells_in_another_order_are_not_paired():
    a, b = Cell(np.zeros(2), ("x", "y")), Cell(np.zeros(2), ("y", "x"))
    with pytest.raises(ValueError, match="align"):
        change(a, b)


def test_the_interval_covers_correlated_translations():
    """60 prompts in 6 languages, outcomes of one prompt correlated: 95 % coverage within noise.

    Resampling single prompts instead covers far too seldom, which is why groups are resampled.
    """
    rng = np.random.default_rng(0)
    covered = {"groups": 0, "prompts": 0}
    runs = 200
    for _ in range(runs):
        ease = rng.beta(1, 1, 60)  # mean 1/2, correlation 1/3
        values = (rng.random((6, 60)) < ease).astype(float)
        for how in covered:
            cells = [
                Cell(v, tuple(f"{i if how == 'prompts' else ''}-{j}" for j in range(60)))
                for i, v in enumerate(values)
            ]
            resamples = Resamples.draw([g for c in cells for g in c.groups], n=300, seed=1)
            got = macro([(1.0, cells)], resamples)
            covered[how] += got.low <= 0.5 <= got.high
    assert 0.9 <= covered["groups"] / runs <= 0.98
    assert covered["prompts"] / runs < 0.88
