"""Linear readouts against scikit-learn and against what they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from babelgate.errors import UserError
from babelgate.metrics import auroc, balanced_accuracy
from babelgate.probe import balanced_weights, fit_probe
from babelgate.rivals.probes import (
    LinearReadout,
    full_space_logistic,
    mean_difference,
    random_direction,
    shuffled_labels,
    unsupervised_pca,
)


def data(n=80, d=12, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    harmful = np.arange(n) % 4 == 0
    direction = np.random.default_rng(99).standard_normal(d)
    return rng.standard_normal((n, d)) + shift * harmful[:, None] * direction, harmful


@pytest.mark.parametrize(("n", "d"), [(80, 12), (40, 60)])
def test_full_space_logistic_equals_newton(n, d):
    x, y = data(n, d)
    cells = [("en",) if i < n // 3 else ("de",) for i in range(n)]
    for given in (None, cells):
        weights = balanced_weights(given or [()] * n, y)
        reference = fit_probe(x, y, weights, 1e-2)
        found = full_space_logistic(x, y, cells=given)
        assert found.score(x) == pytest.approx(reference.score(x), abs=1e-4)


def test_mean_difference_is_zero_between_the_means():
    x, y = data()
    readout = mean_difference(x, y)
    u = x[y].mean(0) - x[~y].mean(0)
    assert readout.weight == pytest.approx(u / np.linalg.norm(u))
    middle = (x[y].mean(0) + x[~y].mean(0)) / 2
    assert readout.score(middle[None])[0] == pytest.approx(0, abs=1e-9)
    assert readout.score(x[y]).mean() == pytest.approx(np.linalg.norm(u) / 2)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (30, 60), (300, 260)])
def test_pca_takes_its_axis_from_all_and_its_sign_from_the_few(n, d):
    x, y = data(n, d, shift=3.0)
    few = np.concatenate([np.flatnonzero(y)[:2], np.flatnonzero(~y)[:2]])
    readout = unsupervised_pca(x, x[few], y[few])
    expected = PCA(n_components=1).fit(x).components_[0]
    assert abs(readout.weight @ expected) == pytest.approx(1, abs=1e-9)
    assert readout.score(x[few][:2]).mean() > readout.score(x[few][2:]).mean()
    turned = unsupervised_pca(x, x[few], ~y[few])
    assert turned.weight == pytest.approx(-readout.weight)
    assert auroc(readout.score(x[y]), readout.score(x[~y])) > 0.95


def test_thresholds_come_from_the_calibration_examples():
    x, y = data()
    fresh, truth = data(seed=1)
    for fit in (full_space_logistic, mean_difference):
        plain, calibrated = fit(x, y), fit(x, y, calibration=(fresh + 5.0, truth))
        assert calibrated.weight == pytest.approx(plain.weight)
        assert calibrated.threshold != pytest.approx(plain.threshold, abs=0.1)
        scores = calibrated.score(fresh + 5.0)
        accuracy = balanced_accuracy(scores[truth], scores[~truth], calibrated.threshold)
        best = max(balanced_accuracy(scores[truth], scores[~truth], t) for t in scores)
        assert accuracy >= best - 1e-9


def test_controls_know_nothing_and_depend_on_the_seed_only():
    x, y = data(400)
    fresh, truth = data(400, seed=1)
    real = full_space_logistic(x, y).score(fresh)
    assert auroc(real[truth], real[~truth]) > 0.95
    for control in (random_direction, shuffled_labels):
        made = [control(x, y, seed=s) for s in range(20)]
        assert control(x, y, seed=3).weight == pytest.approx(made[3].weight)
        values = [auroc(m.score(fresh)[truth], m.score(fresh)[~truth]) for m in made]
        assert np.mean(values) == pytest.approx(0.5, abs=0.2)
        assert min(values) < 0.5 < max(values)
    assert np.linalg.norm(random_direction(x, y, seed=0).weight) == pytest.approx(1)


def test_what_cannot_be_used_is_said():
    x, y = data()
    with pytest.raises(UserError, match="both classes"):
        full_space_logistic(x, y | True)
    with pytest.raises(UserError, match="n labels"):
        mean_difference(x, y[:-1])
    with pytest.raises(UserError, match="NaN"):
        mean_difference(np.full_like(x, np.nan), y)
    with pytest.raises(UserError, match="no direction"):
        mean_difference(np.ones((4, 3)), [True, False, True, False])
    with pytest.raises(UserError, match="finite vector"):
        LinearReadout("x", np.array([np.nan]), 0.0, 0.0)
