"""Threshold rules against brute force written from the paper's words, and what they promise."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from babelgate.errors import UserError
from babelgate.metrics import balanced_accuracy
from babelgate.threshold_bound import false_alarm_threshold, scores_needed, upper_bound
from babelgate.threshold_curve import recalibration_curve
from babelgate.threshold_mixture import LEAST_SPREAD, POOL_WEIGHT, Grid, Shape
from babelgate.thresholds import (
    RULES,
    SourceStatistics,
    candidates,
    combined_rule,
    fires,
    least_threshold,
    midpoint_rule,
    paper_rule,
    pooled_threshold,
    shrunken_rule,
    source_rule,
    threshold_for,
    unlabelled_rule,
)

SOURCE = SourceStatistics(
    threshold=1.0, paper_threshold=-7.0, midpoint=3.0, between=4.0, within=8.0, n_languages=5
)
# Whole numbers, so that ties are common and every midpoint is exact.
shots = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=7)


def test_the_comparison_fires_at_equality():
    assert fires([0.9, 1.0, 1.1], 1.0).tolist() == [False, True, True]
    assert fires([1.0, 1.0], [1.0, 2.0]).tolist() == [True, False]
    # The same comparison is what accuracies count with.
    assert balanced_accuracy([1.0], [0.5], 1.0) == 1.0


def test_candidates_by_hand():
    """Scores 4 0 0 1: sorted distinct 0 1 4, midpoints 0.5 and 2.5, one beyond each end."""
    assert candidates([4, 0, 0, 1]).tolist() == [-1.0, 0.5, 2.5, 5.0]
    assert candidates([2]).tolist() == [1.0, 3.0]
    with pytest.raises(UserError, match="at least one score"):
        candidates([])


# ---------------------------------------------------------------------------------------------
# the paper's rule


def paper_by_words(harmful, harmless):
    """Sorted scores, midpoints, one beyond each end; the first of highest class-balanced F1."""
    distinct = sorted({Fraction(s) for s in [*harmful, *harmless]})
    points = [distinct[0] - 1]
    points += [(a + b) / 2 for a, b in pairwise(distinct)]
    points += [distinct[-1] + 1]

    def f1(hits, false_alarms, misses):
        return Fraction(2 * hits, 2 * hits + false_alarms + misses) if hits else Fraction(0)

    best, found = Fraction(-1), None
    for point in points:
        flagged_harmful = sum(s >= point for s in harmful)
        flagged_harmless = sum(s >= point for s in harmless)
        missed, passed = len(harmful) - flagged_harmful, len(harmless) - flagged_harmless
        value = (f1(flagged_harmful, flagged_harmless, missed)
                 + f1(passed, missed, flagged_harmless)) / 2  # fmt: skip
        if value > best:
            best, found = value, point
    return float(found)


@settings(max_examples=400, deadline=None)
@given(shots, shots)
def test_paper_rule_equals_brute_force(harmful, harmless):
    assert paper_rule(harmful, harmless) == paper_by_words(harmful, harmless)


def test_paper_rule_equals_brute_force_on_many_scores():
    rng = np.random.default_rng(0)
    for size in (1, 2, 4, 8, 32):
        for _ in range(20):
            harmful, harmless = rng.normal(1, 1, size).round(3), rng.normal(0, 1, size).round(3)
            got, want = paper_rule(harmful, harmless), paper_by_words(harmful, harmless)
            assert got == pytest.approx(want, abs=1e-12)


def test_paper_rule_by_hand():
    """Harmful 1 3, harmless 0 2. At 0.5: harmful F1 4/5, harmless 2/3: mean 11/15.

    At 2.5: harmful F1 2/3, harmless 4/5: the same 11/15. At 1.5: both 1/2. At -1: 2/3 and 0.
    The first of the tied ones is 0.5.
    """
    assert paper_rule([1, 3], [0, 2]) == 0.5
    # Separated pairs: the middle.
    assert paper_rule([2.0], [1.0]) == 1.5
    assert paper_rule([5, 6], [0, 1]) == 3.0


def test_paper_rule_takes_the_first_of_equals_whatever_the_rounding():
    """Harmful 0 0 1; harmless -1 three times, 0 three times, 1.

    At -0.5 4 of 10 are wrong, harmful F1 6/(6 + 4), harmless 6/(6 + 4). At 0.5 3 are wrong, harmful
    2/(2 + 3), harmless 12/(12 + 3). Both means are 3/5, the second a rounding error above it.
    """
    assert paper_rule([0, 0, 1], [-1, -1, -1, 0, 0, 0, 1]) == -0.5


def test_paper_rule_on_an_inverted_pair_fires_always():
    """Harmful 0 below harmless 2. Below both: F1 2/3 and 0, mean 1/3; between: 0; above: 1/3.

    The first candidate wins, which flags everything: 0 - 1 = -1.
    """
    assert paper_rule([0.0], [2.0]) == -1.0


def test_paper_rule_on_equal_scores():
    """All scores 1: flagging all or none both reach 1/3; the first is below."""
    assert paper_rule([1.0, 1.0], [1.0, 1.0]) == 0.0


# ---------------------------------------------------------------------------------------------
# the source rule


@settings(max_examples=200, deadline=None)
@given(shots, shots)
def test_source_rule_is_the_median_of_the_best(harmful, harmless):
    points = candidates([*harmful, *harmless])
    value = [balanced_accuracy(harmful, harmless, t) for t in points]
    best = [t for t, v in zip(points, value) if v >= max(value) - 1e-9]
    assert source_rule(harmful, harmless) == best[len(best) // 2]


def test_source_rule_by_hand():
    """Harmful 2 4 6, harmless 1 3 5: cuts 1.5, 3.5 and 5.5 reach 2/3; the middle one is taken."""
    assert source_rule([2, 4, 6], [1, 3, 5]) == 3.5
    assert source_rule([5.0], [0.0]) == 2.5


# ---------------------------------------------------------------------------------------------
# the shrunken rule


def test_source_statistics_by_hand():
    """Language a: harmful 2 4 (mean 3, variance 2), harmless 0 2 (mean 1, variance 2).

    Middle 2; one shot per class leaves (2 + 2)/4 = 1; its two prompts a side leave (2/2 + 2/2)/4
    = 1/2. Language b is a moved by 4: middle 6. Midpoint 4, variance of the middles 8, of which
    1/2 is noise: between 7.5. A language with one class says nothing.
    """
    scores = {"a": ([2, 4], [0, 2]), "b": ([6, 8], [4, 6]), "c": ([100.0], [])}
    got = SourceStatistics.from_scores(scores)
    assert (got.midpoint, got.between, got.within) == (4.0, 7.5, 1.0)
    assert got.n_languages == 2
    assert got.threshold == source_rule([2, 4, 6, 8], [0, 2, 4, 6])
    assert got.paper_threshold == paper_rule([2, 4, 6, 8], [0, 2, 4, 6])
    trained = SourceStatistics.from_scores(scores, train=([20.0], [10.0]))
    assert trained.paper_threshold == 15.0
    assert trained.threshold == got.threshold


def test_what_shots_are_compared_with_comes_from_scores_like_theirs():
    """The val scores set the source threshold; middles and variances are of the other scores."""
    scores = {"a": ([2, 4], [0, 2]), "b": ([6, 8], [4, 6])}
    drawn = {"a": ([12, 16], [10, 12]), "b": ([16, 19], [14, 16]), "c": ([0.0], [])}
    got = SourceStatistics.from_scores(scores, like_shots=drawn)
    val, train = SourceStatistics.from_scores(scores), SourceStatistics.from_scores(drawn)
    assert (got.threshold, got.paper_threshold) == (val.threshold, val.paper_threshold)
    for name in ("midpoint", "between", "within", "shape"):
        assert getattr(got, name) == getattr(train, name) != getattr(val, name)
    # Without a language of both classes the val scores stand in.
    assert SourceStatistics.from_scores(scores, like_shots={"c": ([0.0], [])}) == val


def test_source_statistics_without_spread_or_scores():
    one = SourceStatistics.from_scores({"a": ([2.0, 4.0], [0.0, 2.0])})
    assert one.between == 0  # one language shows no spread
    assert one.trust(100) == 0
    same = {"a": ([2.0, 4.0], [0.0, 2.0]), "b": ([2.0, 4.0], [0.0, 2.0])}
    assert SourceStatistics.from_scores(same).between == 0  # noise alone is no spread
    for nothing in ({}, {"a": ([1.0], [])}):
        with pytest.raises(UserError, match="both classes"):
            SourceStatistics.from_scores(nothing)


def test_trust_by_hand():
    """w = k 4 / (k 4 + 8): 0, 1/3, 1/2, 2/3 at k = 0, 1, 2, 4; never quite 1."""
    assert [SOURCE.trust(k) for k in (0, 1, 2, 4)] == pytest.approx([0, 1 / 3, 1 / 2, 2 / 3])
    assert 0.999 < SOURCE.trust(10_000) < 1
    nothing = SourceStatistics(1.0, 1.0, 0.0, between=0.0, within=0.0, n_languages=1)
    assert nothing.trust(4) == 0
    certain = SourceStatistics(1.0, 1.0, 0.0, between=2.0, within=0.0, n_languages=3)
    assert certain.trust(1) == 1


def test_shrunken_rule_by_hand():
    """Two shots, harmful 8 10, harmless 4 6: middle 7, d = 4; V = 4 + 8/2 = 8, w = 1/2.

    The move is 1/2 (1 - 8/16) 4 = 1, from 1 to 2. Shots at d^2 <= 8 move nothing. Four shots at
    d = 4: V = 6, w = 2/3, 2/3 (1 - 6/16) 4 = 5/3.
    """
    assert shrunken_rule([8, 10], [4, 6], SOURCE) == 2.0
    assert shrunken_rule([0, -2], [0, -2], SOURCE) == 0.0  # d = -4, likewise downwards
    assert shrunken_rule([8, 10, 8, 10], [4, 6, 4, 6], SOURCE) == pytest.approx(1 + 5 / 3)
    assert shrunken_rule([6, 8], [2, 4], SOURCE) == SOURCE.threshold
    assert shrunken_rule([4.0], [2.0], SOURCE) == SOURCE.threshold
    assert shrunken_rule([], [], SOURCE) == SOURCE.threshold
    # Inverted shots count no more than others.
    assert shrunken_rule([4, 6], [8, 10], SOURCE) == shrunken_rule([8, 10], [4, 6], SOURCE)


def by_words(harmful, harmless, source):
    """No move inside what a source language would show; beyond it the weighted excess."""
    k = len(harmful)
    offset = (sum(harmful) + sum(harmless)) / (2 * k) - source.midpoint
    usual = source.between + source.within / k
    if offset * offset <= usual:
        return source.threshold
    weight = k * source.between / (k * source.between + source.within)
    return source.threshold + weight * (1 - usual / offset**2) * offset


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda k: st.lists(st.floats(-30, 30), min_size=2 * k, max_size=2 * k)
    )
)
def test_shrunken_rule_equals_its_words_and_never_moves_farther_than_linear_shrinkage(values):
    k = len(values) // 2
    harmful, harmless = values[:k], values[k:]
    got = shrunken_rule(harmful, harmless, SOURCE)
    assert got == pytest.approx(by_words(harmful, harmless, SOURCE), abs=1e-9)
    linear = 4 * k / (4 * k + 8) * ((np.mean(harmful) + np.mean(harmless)) / 2 - SOURCE.midpoint)
    ends = sorted([SOURCE.threshold, SOURCE.threshold + linear])
    assert ends[0] - 1e-9 <= got <= ends[1] + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(1, 64), st.floats(1e-6, 1e-3))
def test_the_move_is_continuous_odd_and_monotone(offset, k, step):
    here, there = SOURCE.move([3.0 + offset, 3.0 + offset + step], k)
    assert here <= there <= here + 2 * step + 1e-6
    assert SOURCE.move(3.0 - offset, k) == pytest.approx(-here, abs=1e-6)


def test_the_move_without_shots_spread_or_noise():
    assert SOURCE.move([5.0, -9.0], 0).tolist() == [0.0, 0.0]
    nothing = SourceStatistics(1.0, 1.0, 3.0, between=0.0, within=0.0, n_languages=1)
    assert nothing.move([3.0, 8.0], 4).tolist() == [0.0, 0.0]
    certain = SourceStatistics(1.0, 1.0, 3.0, between=2.0, within=0.0, n_languages=3)
    assert certain.move([3.0, 4.0, 5.0], 1).tolist() == [0.0, 0.0, 1.0]  # d = 2: (1 - 2/4) 2


def test_a_language_like_the_sources_keeps_their_threshold_and_a_far_one_is_followed():
    """With z normal: P(|z| < 1) = 0.683 are not moved; E[(z - 1/z)^2; |z| > 1] = 0.333."""
    rng = np.random.default_rng(0)
    middles = 3.0 + rng.normal(0, math.sqrt(4 + 8 / 4), 20_000)
    moves = SOURCE.move(middles, 4)
    assert np.mean(moves == 0) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    linear = SOURCE.trust(4) * (middles - 3.0)
    assert np.mean(moves**2) == pytest.approx(np.mean(linear**2) / 3, rel=0.05)
    assert SOURCE.move(3.0 + 40.0, 4) > 0.99 * SOURCE.trust(4) * 40.0


# ---------------------------------------------------------------------------------------------
# choosing and tracing


def test_rules_by_name():
    pair = [8.0, 10.0], [4.0, 6.0]
    assert threshold_for("source", *pair, SOURCE) == 1.0
    assert threshold_for("paper", *pair, SOURCE) == 7.0
    assert threshold_for("shrunken", *pair, SOURCE) == 2.0
    assert threshold_for("midpoint", *pair, SOURCE) == 7.0
    # Without shots and pool every rule but the paper's gives the source threshold.
    assert {r: threshold_for(r, [], [], SOURCE) for r in RULES} == dict.fromkeys(RULES, 1.0) | {
        "paper": -7.0
    }
    with pytest.raises(UserError, match="'median' is not one of source, paper, midpoint"):
        threshold_for("median", *pair, SOURCE)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    for rule in (paper_rule, source_rule, lambda h, n: shrunken_rule(h, n, SOURCE)):
        with pytest.raises(UserError, match="NaN or infinite"):
            rule([1.0, bad], [0.0, 0.0])
        with pytest.raises(UserError, match="NaN or infinite"):
            rule([1.0, 2.0], [0.0, bad])


def pools(seed=0, n=12):
    rng = np.random.default_rng(seed)
    return (rng.normal(4, 1, n), rng.normal(2, 1, n)), (rng.normal(4, 1, 40), rng.normal(2, 1, 40))


def curve(**changes):
    train, test = pools()
    options = {"shots": (0, 1, 3), "rules": ("paper", "shrunken"), "draws": 7, "seed": 5} | changes
    return recalibration_curve(train, test, SOURCE, **options)


def test_curve_points():
    points = curve()
    assert [(p.k, p.rule, p.n_draws) for p in points] == [
        (k, rule, 7 if k else 1) for k in (0, 1, 3) for rule in ("paper", "shrunken")
    ]
    test = pools()[1]
    assert points[0].threshold == SOURCE.paper_threshold
    assert points[1].threshold == SOURCE.threshold
    assert points[1].balanced_accuracy == balanced_accuracy(*test, SOURCE.threshold)
    # More shots than there are cannot be drawn.
    assert [p.k for p in curve(shots=(12, 13), rules=("paper",))] == [12]


def test_curve_at_all_shots_has_no_luck():
    """Twelve of twelve shots are the same set in every draw."""
    train, test = pools()
    (point,) = curve(shots=(12,), rules=("paper",))
    assert point.threshold == pytest.approx(paper_rule(*train))
    assert point.balanced_accuracy == pytest.approx(balanced_accuracy(*test, paper_rule(*train)))


def test_curve_is_deterministic_and_rules_share_draws():
    assert curve() == curve()
    assert curve(seed=6) != curve()
    # A rule's numbers do not depend on which other rules or budgets are traced beside it.
    assert [p for p in curve() if p.rule == "shrunken"] == curve(rules=("shrunken",))
    assert [p for p in curve() if p.k == 3] == curve(shots=(3,))
    paper, other = curve(shots=(1,), rules=("paper", "paper"))
    assert paper == other


def test_curve_averages_over_draws():
    """With one shot a side the paper's rule is a midpoint (or one below both when inverted)."""
    train, test = pools(seed=1, n=3)
    many = recalibration_curve(
        train, test, SOURCE, shots=(1,), rules=("paper",), draws=4000, seed=0
    )[0]
    every = [paper_rule([h], [n]) for h in train[0] for n in train[1]]
    assert len(every) == 9
    assert many.threshold == pytest.approx(np.mean(every), abs=0.05)
    accuracies = [balanced_accuracy(*test, t) for t in every]
    assert many.balanced_accuracy == pytest.approx(np.mean(accuracies), abs=0.02)


# ---------------------------------------------------------------------------------------------
# without labels, and with a few


def sources(shift=0.0, n=300, seed=3):
    """Six languages: harmful about 3, harmless about -3, offsets with sd 1.5."""
    rng = np.random.default_rng(seed)
    offsets = shift + np.array([-2.0, -1.2, -0.4, 0.4, 1.2, 2.0])
    scores = {str(i): (rng.normal(3 + o, 1, n), rng.normal(-3 + o, 1.5, n))
              for i, o in enumerate(offsets)}  # fmt: skip
    return SourceStatistics.from_scores(scores)


def a_language(offset, scale, n_harmful, n_harmless, seed):
    rng = np.random.default_rng(seed)
    return (
        offset + scale * rng.normal(3, 1, n_harmful),
        offset + scale * rng.normal(-3, 1.5, n_harmless),
    )


def test_shape_by_hand():
    """Means 3, 1 and 7, 1: distances 2 and 6; class variances 2, 2 and 4, 0: means 3 and 1."""
    got = Shape.of(np.array([[3.0, 1.0], [7.0, 1.0]]), np.array([[2.0, 2.0], [4.0, 0.0]]))
    assert got is not None
    assert (got.mean_harmful, got.mean_harmless, got.midpoint) == (5.0, 1.0, 3.0)
    assert got.sd_harmful == pytest.approx(math.sqrt(3))
    assert got.sd_harmless == pytest.approx(1)
    assert got.spread == pytest.approx(np.std(np.log([2, 6]), ddof=1))
    # Nothing to tie a language to: classes the wrong way round, or without spread.
    assert Shape.of(np.array([[1.0, 2.0]]), np.ones((1, 2))) is None
    assert Shape.of(np.array([[2.0, 1.0]]), np.array([[1.0, 0.0]])) is None


def test_the_posterior_equals_a_sum_written_out():
    """Every offset, factor and share in three nested loops."""
    from babelgate.threshold_mixture import SHARES

    source = sources(n=40)
    shape = source.shape
    harmful, harmless, pool = np.array([3.0, 4.5]), np.array([-1.0]), np.array([-2.0, 2.5, 0.0])
    grid = Grid.of(shape, source.between)

    def density(x, mean, sd):
        return math.exp(-0.5 * ((x - mean) / sd) ** 2) / sd

    total = mean_o = mean_c = prior_total = prior_c = 0.0
    for o in grid.offsets:
        for c in grid.scales:
            high = shape.midpoint + o + c * (shape.mean_harmful - shape.midpoint)
            low = shape.midpoint + o + c * (shape.mean_harmless - shape.midpoint)
            a, b = c * shape.sd_harmful, c * shape.sd_harmless
            prior = math.exp(-0.5 * o * o / source.between)
            prior *= math.exp(-0.5 * (math.log(c) / max(shape.spread, LEAST_SPREAD)) ** 2)
            value = prior * math.prod(density(x, high, a) for x in harmful)
            value *= math.prod(density(x, low, b) for x in harmless)
            value *= sum(
                p * (1 - p)
                * math.prod(p * density(x, high, a) + (1 - p) * density(x, low, b) for x in pool)
                ** POOL_WEIGHT
                for p in SHARES
            )  # fmt: skip
            total, mean_o, mean_c = total + value, mean_o + value * o, mean_c + value * c
            prior_total, prior_c = prior_total + prior, prior_c + prior * c
    factor = (mean_c / total) / (prior_c / prior_total)
    want = source.threshold + mean_o / total + (factor - 1) * (source.threshold - shape.midpoint)
    assert combined_rule(harmful, harmless, pool, source) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize(("offset", "scale"), [(-2.0, 1.0), (1.5, 1.0), (1.0, 0.6)])
def test_an_unbalanced_pool_finds_the_threshold(share, offset, scale):
    """200 prompts without labels, of which 10 to 90 % are harmful."""
    source = sources()
    n = round(200 * share)
    harmful, harmless = a_language(offset, scale, n, 200 - n, seed=7)
    got = unlabelled_rule(np.concatenate([harmful, harmless]), source)
    midpoint = source.shape.midpoint
    want = midpoint + offset + scale * (source.threshold - midpoint)
    assert got == pytest.approx(want, abs=0.35)
    # The mean of the pool, which takes it to be balanced, is far off where it is not.
    mean = np.concatenate([harmful, harmless]).mean()
    if share in (0.1, 0.9):
        assert abs(mean - want) > 1.0


@settings(max_examples=25, deadline=None)
@given(st.floats(-50, 50))
def test_rules_move_with_all_scores(shift):
    """Sources and target moved together: so is every threshold."""
    harmful, harmless = a_language(1.0, 1.0, 3, 3, seed=1)
    pool = np.concatenate(a_language(1.0, 1.0, 9, 9, seed=2))
    here, there = sources(n=30), sources(shift=shift, n=30)
    for rule in RULES:
        before = threshold_for(rule, harmful, harmless, here, pool)
        after = threshold_for(rule, harmful + shift, harmless + shift, there, pool + shift)
        assert after - shift == pytest.approx(before, abs=1e-6), rule


def test_more_shots_bring_the_combined_rule_to_the_language():
    source = sources()
    errors = []
    for k in (1, 4, 16, 64):
        found = [
            combined_rule(*a_language(2.0, 1.0, k, k, seed), [], source) - source.threshold - 2.0
            for seed in range(40)
        ]
        errors.append(float(np.sqrt(np.mean(np.square(found)))))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2
    # A pool helps where shots are few.
    pool = np.concatenate(a_language(2.0, 1.0, 20, 80, seed=99))
    with_pool = [
        combined_rule(*a_language(2.0, 1.0, 1, 1, seed), pool, source) - source.threshold - 2.0
        for seed in range(40)
    ]
    assert np.sqrt(np.mean(np.square(with_pool))) < errors[0] / 2


def test_one_spread_of_zero_moves_no_offset():
    """Sources that agree leave no room for an offset; a language's stretch may still show."""
    same = SourceStatistics.from_scores(
        {x: ([2.0, 3.0, 4.0], [-2.0, -3.0, -4.0]) for x in ("a", "b")}
    )
    assert same.between == 0
    assert Grid.of(same.shape, 0.0).offsets.tolist() == [0.0]
    assert combined_rule([9.0], [5.0], [7.0], same) == pytest.approx(same.threshold)


def test_rules_without_a_shape_say_so():
    flat = SourceStatistics.from_scores({"a": ([1.0, 2.0], [5.0, 6.0])})
    assert flat.shape is None
    assert combined_rule([], [], [], flat) == flat.threshold
    with pytest.raises(UserError, match="use the rule 'shrunken'"):
        unlabelled_rule([1.0], flat)


def test_scores_far_away_stay_finite():
    source = sources(n=30)
    for far in (-1e6, 1e6):
        assert math.isfinite(unlabelled_rule([far, far + 1], source))
        assert math.isfinite(combined_rule([far], [far], [0.0], source))


def test_midpoint_by_hand():
    assert midpoint_rule([6, 8], [2, 4], SOURCE) == 5.0
    assert midpoint_rule([6, 8], [], SOURCE) == SOURCE.threshold


def test_pooled_by_hand():
    """Five sources at 1; one target moved to 2, as in the shrunken rule: (5 + 2) / 6."""
    assert pooled_threshold({}, SOURCE) == 1.0
    assert pooled_threshold({"yo": ([8, 10], [4, 6])}, SOURCE) == pytest.approx(7 / 6)
    assert pooled_threshold({"yo": ([8, 10], [])}, SOURCE) == 1.0


# ---------------------------------------------------------------------------------------------
# a bounded false-alarm rate


def test_bound_by_hand():
    """0.95^45 = 0.0994 <= 0.1 < 0.95^44: 45 scores, and the threshold is above all of them."""
    assert scores_needed(0.05, 0.9) == 45
    got = false_alarm_threshold(np.arange(45.0), alpha=0.05, confidence=0.9)
    assert got.threshold == pytest.approx(44.0)
    assert got.threshold > 44.0
    assert (got.allowed, got.n, got.n_needed) == (0, 45, 45)
    assert got.bound == pytest.approx(1 - 0.1 ** (1 / 45))
    few = false_alarm_threshold(np.arange(44.0), alpha=0.05, confidence=0.9)
    assert (few.threshold, few.bound, few.n_needed) == (None, None, 45)
    assert "45 can" in few.reason
    assert false_alarm_threshold([], alpha=0.5, confidence=0.5).n_needed == 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5]), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_the_smallest_number_is_the_smallest(alpha, confidence):
    n = scores_needed(alpha, confidence)
    assert false_alarm_threshold(np.arange(n), alpha=alpha, confidence=confidence).threshold
    assert n == 1 or (1 - alpha) ** (n - 1) > 1 - confidence
    if n > 1:
        few = false_alarm_threshold(np.arange(n - 1), alpha=alpha, confidence=confidence)
        assert few.threshold is None


@pytest.mark.parametrize(("n", "alpha", "confidence"), [(60, 0.1, 0.9), (200, 0.05, 0.95)])
def test_the_bound_is_exact(n, alpha, confidence):
    """Uniform scores: the chance that the rate exceeds alpha is that of a binomial count.

    The threshold lies above the (j+1)-th largest; its rate exceeds alpha exactly if at most j of n
    scores lie in the top alpha. One more allowed alarm would break the promise.
    """
    rng = np.random.default_rng(0)
    found = [false_alarm_threshold(rng.random(n), alpha=alpha, confidence=confidence)
             for _ in range(1500)]  # fmt: skip
    j = found[0].allowed
    assert {f.allowed for f in found} == {j}
    assert binom.cdf(j, n, alpha) <= 1 - confidence < binom.cdf(j + 1, n, alpha)
    broken = np.mean([1 - f.threshold > alpha for f in found])
    assert broken == pytest.approx(binom.cdf(j, n, alpha), abs=0.025)
    assert upper_bound(j, n, confidence) <= alpha < upper_bound(j + 1, n, confidence)


def test_ties_only_lower_the_rate():
    scores = [0.0] * 50 + [1.0] * 50
    got = false_alarm_threshold(scores, alpha=0.3, confidence=0.9)
    assert got.threshold > 1.0
    assert got.allowed == 0
    # In single precision, in which gates score, the score itself does not fire either.
    value = float(np.float32(0.1))
    bound = false_alarm_threshold([value] * 50, alpha=0.3, confidence=0.9).threshold
    assert np.float32(bound) > np.float32(value)


@pytest.mark.parametrize("bad", [0.0, 1.0, -1, 2])
def test_bounds_outside_the_unit_interval(bad):
    with pytest.raises(UserError, match="between 0 and 1"):
        false_alarm_threshold([1.0], alpha=bad)
    with pytest.raises(UserError, match="between 0 and 1"):
        false_alarm_threshold([1.0], confidence=bad)
    with pytest.raises(UserError, match="NaN"):
        false_alarm_threshold([math.nan])


@given(
    scores=st.lists(st.floats(-50, 50), min_size=1, max_size=60),
    rate=st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
)
def test_the_least_threshold_keeps_to_the_rate_and_is_the_lowest_that_does(scores, rate):
    t = least_threshold(scores, rate)
    assert fires(scores, t).mean() <= rate
    if lower := [s for s in scores if s < t]:
        assert fires(scores, max(lower)).mean() > rate


@pytest.mark.parametrize(("scores", "rate"), [([], 0.1), ([1.0], 1.5), ([1.0], -0.1)])
def test_a_false_alarm_rate_needs_scores_and_a_rate(scores, rate):
    with pytest.raises(UserError, match="false-alarm rate"):
        least_threshold(scores, rate)
