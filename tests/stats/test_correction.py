"""Rogan-Gladen: hand-worked points, limits that are known, and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from babelgate.errors import UserError
from babelgate.stats import Cell, Validation, rogan_gladen, wilson


def rate(successes, n, unscored=0):
    values = [1.0] * successes + [0.0] * (n - successes) + [math.nan] * unscored
    return wilson(Cell(np.array(values), tuple(str(i) for i in range(len(values)))))


def test_the_corrected_rate_by_hand():
    """p 0.2, Se 0.9, Sp 0.95: (0.2 - 0.05) / 0.85 = 0.17647."""
    got = rogan_gladen(rate(40, 200, 7), Validation(90, 100, 95, 100))
    assert got.uncut == got.estimate.value == pytest.approx(0.15 / 0.85)
    assert (got.estimate.n, got.estimate.n_unscored) == (200, 7)
    assert got.informative
    assert not got.cut


def test_the_interval_by_hand():
    """z = 2 would give round numbers; with z^2 = 3.8415, 40/200, 18/20 and 19/20:

    n' 203.8415, p' (40 + 1.92073) / n' = 0.205654; Se' 19/22, Sp' 20/22; J' = 17/22 = 0.772727;
    r' = (0.205654 - 0.090909) / 0.772727 = 0.148494; Se'(1-Se')/22 = 0.0053531,
    Sp'(1-Sp')/22 = 0.0037566; shift = 7.68292 (0.00079491 - 0.00319877) = -0.018469;
    variance 0.00080141 + 0.00011804 + 0.00272376 = 0.00364321, root 0.0603590, over J' 0.0781117;
    ends 0.130025 -+ 0.153096: cut to 0, and 0.283121.
    """
    got = rogan_gladen(rate(40, 200), Validation(18, 20, 19, 20)).estimate
    assert got.value == pytest.approx((0.2 - 0.05) / 0.85)
    assert got.low == 0.0
    assert got.high == pytest.approx(0.283121, abs=2e-6)


def test_a_perfect_judge_on_endless_replies_gives_agresti_and_coull():
    """Se and Sp known to be 1: nothing is left but the interval of the rate itself."""
    judge = Validation(10**9, 10**9, 10**9, 10**9)
    got = rogan_gladen(rate(30, 100), judge).estimate
    assert got.value == pytest.approx(0.3)
    expected = proportion_confint(30, 100, method="agresti_coull")
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-6)


def test_what_leaves_0_to_1_is_cut_and_says_so():
    """Fewer refusals than the judge's false alarms alone: (0.01 - 0.1) / 0.8 < 0."""
    got = rogan_gladen(rate(1, 100), Validation(90, 100, 90, 100))
    assert got.cut
    assert got.uncut == pytest.approx(-0.09 / 0.8)
    assert (got.estimate.value, got.estimate.low) == (0, 0)
    high = rogan_gladen(rate(99, 100), Validation(90, 100, 90, 100))
    assert high.cut
    assert (high.estimate.value, high.estimate.high) == (1, 1)


@pytest.mark.parametrize("judge", [Validation(50, 100, 50, 100), Validation(20, 100, 70, 100)])
def test_a_judge_no_better_than_chance_corrects_nothing(judge):
    got = rogan_gladen(rate(30, 100), judge)
    assert not got.informative
    assert not got.cut
    assert got.estimate.missing
    assert math.isnan(got.estimate.low)
    assert got.estimate.n == 100


def test_nothing_scored_stays_missing():
    got = rogan_gladen(rate(0, 0, 5), Validation(9, 10, 9, 10))
    assert got.estimate.missing
    assert got.informative
    assert got.estimate.n_unscored == 5


@pytest.mark.parametrize("counts", [(11, 10, 9, 10), (9, 10, -1, 10), (0, 0, 9, 10), (9, 10, 0, 0)])
def test_impossible_counts_are_user_errors(counts):
    with pytest.raises(UserError, match="cannot be right"):
        Validation(*counts)


@given(st.integers(1, 300), st.data())
def test_laws(n, data):
    draw = lambda high: data.draw(st.integers(0, high))  # noqa: E731
    judge = Validation(draw(50), 50, draw(60), 60)
    got = rogan_gladen(rate(draw(n), n), judge)
    if judge.sensitivity + judge.specificity <= 1:
        assert got.estimate.missing
        return
    e = got.estimate
    assert 0 <= e.low <= e.value <= e.high <= 1
    # Corrected back, the judge's own view of the corrected rate is what it reported.
    seen = got.uncut * judge.sensitivity + (1 - got.uncut) * (1 - judge.specificity)
    assert seen == pytest.approx(rate(round(seen * n), n).value, abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "se", "sp", "n", "labelled"),
    [(0.1, 0.9, 0.95, 200, 60), (0.5, 0.8, 0.9, 100, 100), (0.8, 0.85, 0.85, 300, 50)],
)
def test_the_interval_covers(truth, se, sp, n, labelled):
    """95 % of 800 simulated studies; taking the judge at its word covers far less."""
    rng = np.random.default_rng(0)
    runs, covered, naive = 800, 0, 0
    for _ in range(runs):
        seen = rng.binomial(n, truth * se + (1 - truth) * (1 - sp))
        judge = Validation(
            int(rng.binomial(labelled, se)), labelled, int(rng.binomial(labelled, sp)), labelled
        )
        raw = rate(int(seen), n)
        got = rogan_gladen(raw, judge).estimate
        covered += got.low <= truth <= got.high
        naive += raw.low <= truth <= raw.high
    assert 0.93 <= covered / runs <= 0.985
    assert naive < covered
