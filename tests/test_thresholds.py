"""Threshold rules against brute force written from the paper's words, and what they promise."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from babelgate.errors import UserError
from babelgate.metrics import balanced_accuracy
from babelgate.thresholds import (
    RULES,
    SourceStatistics,
    candidates,
    fires,
    paper_rule,
    recalibration_curve,
    shrunken_rule,
    source_rule,
    threshold_for,
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
    """Two shots, harmful 6 8, harmless 2 4: middle 5, 2 above the source's; w = 1/2, so 1 + 1."""
    assert shrunken_rule([6, 8], [2, 4], SOURCE) == 2.0
    assert shrunken_rule([], [], SOURCE) == SOURCE.threshold
    # Shots in the sources' own place move nothing, inverted ones no more than others.
    assert shrunken_rule([4.0], [2.0], SOURCE) == 1.0
    assert shrunken_rule([2, 4], [6, 8], SOURCE) == shrunken_rule([6, 8], [2, 4], SOURCE)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 6).flatmap(lambda k: st.lists(st.floats(-9, 9), min_size=2 * k, max_size=2 * k))
)
def test_shrunken_lies_between_the_source_and_what_the_shots_say(values):
    k = len(values) // 2
    harmful, harmless = values[:k], values[k:]
    moved = (np.mean(harmful) + np.mean(harmless)) / 2 - SOURCE.midpoint
    ends = sorted([SOURCE.threshold, SOURCE.threshold + moved])
    got = shrunken_rule(harmful, harmless, SOURCE)
    assert ends[0] - 1e-9 <= got <= ends[1] + 1e-9
    weight = 4 * k / (4 * k + 8)
    assert got == pytest.approx(1.0 + weight * moved, abs=1e-9)


# ---------------------------------------------------------------------------------------------
# choosing and tracing


def test_rules_by_name():
    pair = [6.0, 8.0], [2.0, 4.0]
    assert threshold_for("source", *pair, SOURCE) == 1.0
    assert threshold_for("paper", *pair, SOURCE) == 5.0
    assert threshold_for("shrunken", *pair, SOURCE) == 2.0
    assert [threshold_for(rule, [], [], SOURCE) for rule in RULES] == [1.0, -7.0, 1.0]
    with pytest.raises(UserError, match="'median' is not one of source, paper, shrunken"):
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
