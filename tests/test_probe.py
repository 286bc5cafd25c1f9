"""The logistic probe against sklearn, its optimality conditions, and degenerate data."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from babelgate.errors import UserError
from babelgate.probe import Probe, balanced_weights, fit_probe


def data(n=60, r=4, seed=0, gap=1.0):
    rng = np.random.default_rng(seed)
    harmful = rng.random(n) < 0.4
    features = rng.normal(size=(n, r)) * [1, 10, 0.1, 3][:r] + [0, 50, 0, -7][:r]
    features[harmful, 0] += gap
    return features, harmful, rng.uniform(0.2, 2.0, size=n)


def standardised(features, weights):
    """Weighted mean 0 and variance 1, feature by feature."""
    columns = []
    for column in features.T:
        mean = sum(w * x for w, x in zip(weights, column)) / sum(weights)
        variance = sum(w * (x - mean) ** 2 for w, x in zip(weights, column)) / sum(weights)
        columns.append((column - mean) / variance**0.5)
    return np.array(columns).T


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1e-1, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_sklearn(l2, seed):
    """sklearn minimises ``C sum_i w_i loss_i + |weight|^2 / 2``.

    Ours is ``sum w_i loss_i / sum w + l2 |weight|^2 / 2``: the same with ``C = 1 / (l2 sum w)``.
    """
    features, harmful, weights = data(seed=seed)
    z = standardised(features, weights)
    reference = LogisticRegression(
        C=1 / (l2 * weights.sum()), solver="newton-cholesky", tol=1e-13, max_iter=1000
    ).fit(z, harmful, sample_weight=weights)
    probe = fit_probe(features, harmful, weights, l2)
    assert probe.weight == pytest.approx(reference.coef_[0], abs=1e-8)
    assert probe.bias == pytest.approx(float(reference.intercept_[0]), abs=1e-8)
    assert probe.score(features) == pytest.approx(reference.decision_function(z), abs=1e-8)


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_the_gradient_vanishes(l2):
    """Residuals weigh to zero (bias), and to ``-l2 weight`` along each feature."""
    features, harmful, weights = data(seed=2)
    probe = fit_probe(features, harmful, weights, l2)
    w = weights / weights.sum()
    z = standardised(features, weights)
    residual = 1 / (1 + np.exp(-probe.score(features))) - harmful
    assert abs(w @ residual) < 1e-10
    assert np.abs(z.T @ (w * residual) + l2 * probe.weight).max() < 1e-10


def test_no_other_weights_are_better():
    features, harmful, weights = data(seed=3)
    w, z, l2 = weights / weights.sum(), standardised(features, weights), 0.05

    def loss(weight, bias):
        margin = z @ weight + bias
        sign = np.where(harmful, 1, -1)
        return w @ np.log1p(np.exp(-sign * margin)) + l2 / 2 * weight @ weight

    probe = fit_probe(features, harmful, weights, l2)
    best = loss(probe.weight, probe.bias)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(10):
            step = rng.normal(size=5) * size
            assert loss(probe.weight + step[:4], probe.bias + step[4]) > best


@pytest.mark.parametrize("l2", [1e-8, 1e-3])
def test_separable_data_is_finite_and_separated(l2):
    features = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    harmful = np.array([False, False, True, True])
    probe = fit_probe(features, harmful, np.ones(4), l2)
    assert np.isfinite([*probe.weight, probe.bias]).all()
    assert probe.weight[0] > 0
    assert (probe.score(features) > 0).tolist() == harmful.tolist()
    assert probe.bias == pytest.approx(0, abs=1e-6)  # symmetric data


@pytest.mark.parametrize("constant", [0.0, 7.3, -123.456, 1e5])
def test_a_constant_feature_is_ignored(constant):
    """Whatever value it has in use: nothing is known about a feature that never varied."""
    features, harmful, weights = data(seed=4, r=2)
    plain = fit_probe(features, harmful, weights, 0.01)
    column = np.full((len(features), 1), constant)
    probe = fit_probe(np.hstack([features, column]), harmful, weights, 0.01)
    assert probe.weight[:2] == pytest.approx(plain.weight, abs=1e-6)
    moved = np.hstack([features, column + 1.0])
    assert probe.score(moved) == pytest.approx(plain.score(features), abs=1e-4)


def test_one_feature_twice_shares_its_weight():
    features, harmful, weights = data(seed=5, r=1)
    probe = fit_probe(np.hstack([features, features]), harmful, weights, 0.01)
    assert probe.weight[0] == pytest.approx(probe.weight[1], abs=1e-8)


def test_scaling_features_or_weights_changes_no_score():
    features, harmful, weights = data(seed=6)
    score = fit_probe(features, harmful, weights, 0.02).score(features)
    other = features * [5, 0.01, 7, 2] + [1, -40, 3, 0]
    assert fit_probe(other, harmful, weights, 0.02).score(other) == pytest.approx(score, abs=1e-6)
    again = fit_probe(features, harmful, 37 * weights, 0.02).score(features)
    assert again == pytest.approx(score, abs=1e-8)


def test_a_weight_of_two_is_an_example_twice_and_zero_is_none():
    features, harmful, _ = data(n=20, seed=7)
    counts = np.random.default_rng(1).integers(0, 4, size=20)
    weighted = fit_probe(features, harmful, counts.astype(float), 0.05)
    repeated = fit_probe(
        np.repeat(features, counts, axis=0), np.repeat(harmful, counts), np.ones(counts.sum()), 0.05
    )
    assert weighted.score(features) == pytest.approx(repeated.score(features), abs=1e-6)


def test_score_by_hand():
    """z = (3, 5), mean (1, 1), scale (2, 4), weight (0.5, -1), bias 0.25: 0.5 - 1 + 0.25."""
    probe = Probe(np.array([1.0, 1.0]), np.array([2.0, 4.0]), np.array([0.5, -1.0]), 0.25)
    assert probe.score(np.array([[3.0, 5.0]])) == pytest.approx([-0.25])


def test_unusable_data_is_refused():
    features, harmful, weights = data()
    one_class = np.ones_like(harmful)
    with pytest.raises(UserError, match="both classes"):
        fit_probe(features, one_class, weights, 0.1)
    with pytest.raises(UserError, match="both classes"):
        fit_probe(features, harmful, np.where(harmful, 0.0, weights), 0.1)
    for value in (np.nan, np.inf):
        bad = features.copy()
        bad[3, 1] = value
        with pytest.raises(UserError, match="not finite"):
            fit_probe(bad, harmful, weights, 0.1)


def test_balanced_weights_by_hand():
    """Harmful: en twice, de once: each cell 1/2, so 1/4 1/4 1/2. Harmless: one cell of two: 1/2."""
    cells = [("en",), ("en",), ("de",), ("en",), ("en",)]
    harmful = np.array([True, True, True, False, False])
    assert balanced_weights(cells, harmful).tolist() == [0.25, 0.25, 0.5, 0.5, 0.5]


def test_balanced_weights_give_classes_and_cells_equal_totals():
    rng = np.random.default_rng(2)
    languages, kinds = rng.choice(["en", "de", "sw"], 200), rng.choice(["plain", "twin"], 200)
    harmful = rng.random(200) < 0.3
    cells = list(zip(languages.tolist(), kinds.tolist()))
    weights = balanced_weights(cells, harmful)
    checked = 0
    for side in (True, False):
        assert weights[harmful == side].sum() == pytest.approx(1)
        present = {c for c, h in zip(cells, harmful) if h == side}
        for cell in present:
            total = sum(w for w, c, h in zip(weights, cells, harmful) if c == cell and h == side)
            assert total == pytest.approx(1 / len(present))
            checked += 1
    assert checked == 12
