"""Separation of scores: the fast formulas against loops over all pairs, and against sklearn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from babelgate.metrics import auroc, balanced_accuracy

# Few distinct values, so that ties are common.
tied = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def auroc_by_pairs(harmful, harmless):
    """O(nm): a win counts 1, a tie 1/2."""
    wins = sum((h > n) + 0.5 * (h == n) for h in harmful for n in harmless)
    return wins / (len(harmful) * len(harmless))


@settings(max_examples=200, deadline=None)
@given(tied, tied)
def test_auroc_equals_the_pairs_and_sklearn(harmful, harmless):
    got = auroc(harmful, harmless)
    assert got == pytest.approx(auroc_by_pairs(harmful, harmless), abs=1e-12)
    labels = [1] * len(harmful) + [0] * len(harmless)
    assert got == pytest.approx(roc_auc_score(labels, harmful + harmless), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(tied, tied)
def test_auroc_laws(harmful, harmless):
    got = auroc(harmful, harmless)
    assert auroc(harmless, harmful) == pytest.approx(1 - got, abs=1e-12)
    monotone = lambda xs: np.exp(np.array(xs) / 2) - 5  # noqa: E731
    assert auroc(monotone(harmful), monotone(harmless)) == pytest.approx(got, abs=1e-12)
    assert auroc(harmful, harmful) == pytest.approx(0.5)


def test_auroc_by_hand():
    """Harmful 3 1, harmless 2 1: pairs 3>2, 3>1, 1<2, 1=1: 2.5 of 4."""
    assert auroc([3, 1], [2, 1]) == 0.625


@settings(max_examples=100, deadline=None)
@given(tied, tied, st.integers(-4, 4))
def test_balanced_accuracy_equals_a_loop_and_sklearn(harmful, harmless, threshold):
    got = balanced_accuracy(harmful, harmless, threshold)
    right_harmful = sum(s >= threshold for s in harmful) / len(harmful)
    right_harmless = sum(s < threshold for s in harmless) / len(harmless)
    assert got == pytest.approx((right_harmful + right_harmless) / 2)
    truth = [1] * len(harmful) + [0] * len(harmless)
    said = [int(s >= threshold) for s in harmful + harmless]
    assert got == pytest.approx(balanced_accuracy_score(truth, said))


def test_balanced_accuracy_does_not_depend_on_class_sizes():
    """2 of 2 harmful and 1 of 4 harmless right: (1 + 0.25) / 2; a score at the threshold fires."""
    assert balanced_accuracy([1.0, 2.0], [0.0, 1.0, 2.0, 3.0], 1.0) == 0.625
    assert balanced_accuracy([1.0, 2.0] * 50, [0.0, 1.0, 2.0, 3.0], 1.0) == 0.625


@pytest.mark.parametrize(("harmful", "harmless"), [([], [1.0]), ([1.0], []), ([], [])])
def test_an_empty_class_is_nan_not_one_half(harmful, harmless):
    assert math.isnan(auroc(harmful, harmless))
    assert math.isnan(balanced_accuracy(harmful, harmless, 0.0))


def test_missing_scores_are_left_out():
    assert auroc([math.nan, 3, 1], [2, 1, math.nan]) == 0.625
    assert math.isnan(auroc([math.nan], [1.0]))
    assert balanced_accuracy([1.0, math.nan], [0.0], 1.0) == 1.0
