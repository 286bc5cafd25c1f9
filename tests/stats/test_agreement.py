"""Kappa, alpha, Brier and calibration error: published examples, libraries, hand-made cases."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from statsmodels.stats.inter_rater import cohens_kappa

from babelgate.stats import (
    Resamples,
    agreement_table,
    brier,
    calibration_error,
    cohen_kappa,
    interval,
    krippendorff_alpha,
)

NAN = math.nan
_ = NAN


def names(n):
    return [f"g{i}" for i in range(n)]


def from_table(table):
    """Return two judges' codes from a table of counts."""
    a, b = [], []
    for (i, j), count in np.ndenumerate(np.array(table)):
        a += [i] * count
        b += [j] * count
    return a, b


# ---------------------------------------------------------------------------------------------
# kappa


def test_kappa_by_hand():
    """20 5 / 10 15: agreement 0.7, chance 0.5 0.6 + 0.5 0.4 = 0.5, kappa 0.4."""
    a, b = from_table([[20, 5], [10, 15]])
    got = cohen_kappa(a, b, names(50))
    assert got.value == pytest.approx(0.4)
    assert (got.n, got.n_groups, got.n_unscored) == (50, 50, 0)
    assert got.low < 0.4 < got.high


def test_kappa_on_a_published_example():
    """Fleiss, Cohen and Everitt 1969: observed 0.70, chance 0.475, kappa 0.429."""
    table = [[106, 10, 4], [22, 28, 10], [2, 12, 6]]
    a, b = from_table(table)
    got = cohen_kappa(a, b, names(200), n=4000)
    assert got.value == pytest.approx((0.70 - 0.475) / (1 - 0.475))
    assert got.value == pytest.approx(0.429, abs=5e-4)
    reference = cohens_kappa(table)
    assert got.value == pytest.approx(reference.kappa)
    # Every reply its own group: the bootstrap agrees with the large-sample interval.
    assert (got.low, got.high) == pytest.approx(
        (reference.kappa_low, reference.kappa_upp), abs=0.02
    )


def test_kappa_resamples_equal_a_loop():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 24)).astype(float)
    b[3] = NAN
    groups = [f"g{i}" for i in rng.integers(0, 9, 24)]
    kept = [i for i in range(24) if i != 3]
    resamples = Resamples.draw([groups[i] for i in kept], n=300, seed=5)
    slow = []
    for r in range(300):
        drawn = [i for i in kept for _ in range(resamples.weights[r, resamples.index[groups[i]]])]
        x, y = a[drawn], b[drawn]
        chance = sum((x == c).mean() * (y == c).mean() for c in (0, 1))
        slow.append(((x == y).mean() - chance) / (1 - chance) if chance < 1 else NAN)
    got = cohen_kappa(a, b, groups, n=300, seed=5)
    assert (got.low, got.high) == pytest.approx(interval(np.array(slow)))
    assert (got.n, got.n_unscored) == (23, 1)
    assert got.n_groups == len({groups[i] for i in kept})


def test_kappa_without_anything_to_disagree_on_is_missing():
    for a, b in (([1, 1, 1], [1, 1, 1]), ([NAN, 1], [0, NAN]), ([], [])):
        got = cohen_kappa(a, b, names(len(a)))
        assert got.missing
        assert math.isnan(got.low)
    with pytest.raises(ValueError, match="differ"):
        cohen_kappa([1], [1, 0], ["a"])


# ---------------------------------------------------------------------------------------------
# alpha

#: Krippendorff 2011, example C: four observers, twelve units, missing values; nominal 0.743.
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]

#: Three observers, fifteen units, in encyclopedias' worked example; nominal 0.691.
THREE = [
    [_, _, _, _, _, 3, 4, 1, 2, 1, 1, 3, 3, _, 3],
    [1, _, 2, 1, 3, 3, 4, 3, _, _, _, _, _, _, _],
    [_, _, 2, 1, 3, 4, 4, _, 2, 1, 1, 3, 3, _, 4],
]


def alpha_by_loop(ratings):
    """Count ordered pairs of verdicts in the same unit, and in any two units."""
    columns = [[x for x in column if not math.isnan(x)] for column in zip(*ratings)]
    columns = [c for c in columns if len(c) >= 2]
    observed = sum(
        sum(x != y for x in c for y in c) / (len(c) - 1) for c in columns
    )  # fmt: skip
    every = [x for c in columns for x in c]
    expected = sum(x != y for x in every for y in every) / (len(every) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize(("ratings", "value"), [(KRIPPENDORFF, 0.743), (THREE, 0.691)])
def test_alpha_on_published_examples(ratings, value):
    got = krippendorff_alpha(ratings, names(len(ratings[0])))
    assert got.value == pytest.approx(value, abs=5e-4)
    assert got.value == pytest.approx(alpha_by_loop(ratings))
    assert got.low < got.value <= got.high
    paired = sum(sum(not math.isnan(x) for x in column) >= 2 for column in zip(*ratings))
    assert (got.n, got.n_unscored) == (paired, len(ratings[0]) - paired)


def test_alpha_by_hand():
    """Units 00 01 11: one of three disagrees, 2 ordered pairs of 6; verdicts 0 0 0 1 1 1, of whose
    30 ordered pairs 18 differ: 1 - (2/6) / (18/30) = 0.444.
    """
    got = krippendorff_alpha([[0, 0, 1], [0, 1, 1]], names(3))
    assert got.value == pytest.approx(1 - (2 / 6) / (18 / 30))


def test_alpha_resamples_equal_a_loop():
    ratings = np.array(KRIPPENDORFF)
    groups = [f"g{i // 2}" for i in range(12)]
    kept = [i for i in range(12) if (~np.isnan(ratings[:, i])).sum() >= 2]
    resamples = Resamples.draw([groups[i] for i in kept], n=200, seed=3)
    slow = []
    for r in range(200):
        drawn = [i for i in kept for _ in range(resamples.weights[r, resamples.index[groups[i]]])]
        several = len({x for x in ratings[:, drawn].ravel() if not math.isnan(x)}) > 1
        slow.append(alpha_by_loop(ratings[:, drawn]) if several else NAN)
    got = krippendorff_alpha(ratings, groups, n=200, seed=3)
    assert (got.low, got.high) == pytest.approx(interval(np.array(slow)))


def test_alpha_without_different_verdicts_is_missing():
    for ratings in ([[1, 1], [1, 1]], [[1, NAN], [NAN, 0]]):
        got = krippendorff_alpha(ratings, names(2))
        assert got.missing
    assert krippendorff_alpha([[1, NAN], [NAN, 0]], names(2)).n_unscored == 2
    with pytest.raises(ValueError, match="2 units and 1 groups"):
        krippendorff_alpha([[1, 1], [1, 1]], ["a"])


# ---------------------------------------------------------------------------------------------
# the table


def test_a_table_by_language():
    ratings = {
        "lexicon": [1, 0, 1, 1, 0, 1],
        "guard": [1, 0, 1, 0, 0, NAN],
        "person": [1, 0, 1, 1, 0, 0],
    }
    rows = agreement_table(ratings, ["en"] * 3 + ["sw"] * 3, ["a", "b", "c"] * 2, n=100)
    assert len(rows) == 3 * 4  # en, sw and all; three pairs and all three judges
    by_name = {(r.language, r.judges): r for r in rows}
    en = by_name["en", ("lexicon", "guard")]
    assert en.kappa is not None
    assert (en.agreement, en.kappa.value, en.alpha.value) == (1, 1, 1)
    sw = by_name["sw", ("lexicon", "guard")]
    assert sw.agreement == 0.5  # 1 0 and 0 0; the third has no verdict of the guard
    assert sw.kappa is not None
    assert sw.kappa.n_unscored == 1
    three = by_name["all", ("lexicon", "guard", "person")]
    assert three.kappa is None
    assert three.agreement == pytest.approx(4 / 5)
    assert three.alpha.n == 6
    assert three.alpha.n_groups == 3  # translations are one group
    with pytest.raises(ValueError, match="two judges"):
        agreement_table({"one": [1]}, ["en"], ["a"])
    with pytest.raises(ValueError, match="one entry per unit"):
        agreement_table({"one": [1], "two": [1, 0]}, ["en"], ["a"])


# ---------------------------------------------------------------------------------------------
# probabilities


def test_calibration_error_by_hand():
    """0.1 0.15 0.9 1.0 against 0 1 1 1: bin 2 holds 0.1 and 0.15 (mean 0.125, outcomes 0.5), the
    last bin 0.9 and 1.0 (mean 0.95, outcomes 1): half of 0.375 and half of 0.05.
    """
    p, y = [0.1, 0.15, 0.9, 1.0], [0, 1, 1, 1]
    assert calibration_error(p, y) == pytest.approx(0.5 * 0.375 + 0.5 * 0.05)
    assert calibration_error(p, y, bins=1) == pytest.approx(0.75 - 0.5375)
    assert calibration_error([*p, NAN, 0.5], [*y, 1, NAN]) == calibration_error(p, y)


def test_brier_by_hand_and_by_the_library():
    """(0.1^2 + 0.85^2 + 0.1^2 + 0) / 4."""
    p, y = [0.1, 0.15, 0.9, 1.0], [0, 1, 1, 1]
    assert brier(p, y) == pytest.approx((0.01 + 0.7225 + 0.01) / 4)
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))


def test_perfect_forecasts_and_none():
    assert brier([0, 1], [0, 1]) == calibration_error([0, 1], [0, 1]) == 0
    assert math.isnan(brier([], []))
    assert math.isnan(calibration_error([NAN], [1]))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        brier([1.2], [1])
    with pytest.raises(ValueError, match="differ"):
        calibration_error([0.2], [1, 0])


def test_calibrated_forecasts_have_a_small_error():
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    assert calibration_error(p, rng.random(50_000) < p) < 0.01
    assert calibration_error(p**3, rng.random(50_000) < p) > 0.1
