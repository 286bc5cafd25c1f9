"""The discriminant against its formula and scikit-free references; the randomised components."""

import numpy as np
import pytest

from babelgate.discriminant import SHRINKAGE_GRID, discriminant, principal_subspace, spread
from babelgate.errors import UserError
from babelgate.probe import balanced_weights


def features(seed=0, n=60, r=5):
    rng = np.random.default_rng(seed)
    harmful = rng.random(n) < 0.4
    mix = rng.normal(size=(r, r))
    z = rng.normal(size=(n, r)) @ mix + harmful[:, None] * rng.normal(size=r) + 3
    return z, harmful, rng.random(n) + 0.1


def slow(z, harmful, weights, shrinkage):
    """Class means and pooled covariance, one prompt at a time; then Fisher's direction."""
    means, covariance = {}, np.zeros((z.shape[1],) * 2)
    for side in (True, False):
        rows = [i for i in range(len(z)) if harmful[i] == side]
        total = sum(weights[i] for i in rows)
        means[side] = sum(weights[i] * z[i] for i in rows) / total
        for i in rows:
            away = z[i] - means[side]
            covariance += weights[i] / total * np.outer(away, away) / 2
    ridge = shrinkage * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    w = inverse @ (means[True] - means[False])
    return (z - (means[True] + means[False]) / 2) @ w


@pytest.mark.parametrize("shrinkage", [1e-6, *SHRINKAGE_GRID])
def test_the_discriminant_by_the_slow_way(shrinkage):
    z, harmful, weights = features()
    part = spread(z, harmful, weights)
    probe = discriminant(part.means, (part.rows.T @ part.rows).astype(float), shrinkage)
    assert probe.score(z) == pytest.approx(slow(z, harmful, weights, shrinkage), rel=1e-4, abs=1e-4)


def test_blocks_of_two_layers_make_the_covariance_of_both():
    z, harmful, weights = features(r=6)
    whole = spread(z, harmful, weights)
    a, b = (spread(part, harmful, weights) for part in (z[:, :2], z[:, 2:]))
    blocks = np.block([[x.rows.T @ y.rows for y in (a, b)] for x in (a, b)])
    assert blocks == pytest.approx(whole.rows.T @ whole.rows, abs=1e-5)
    assert np.concatenate([a.means, b.means], axis=1) == pytest.approx(whole.means)


def test_the_score_is_the_log_odds_of_gaussian_classes():
    """One dimension, means -1 and 1, variance 4: log p1/p0 = 2 z / 4."""
    z = np.array([-3.0, 1.0, -1.0, 3.0])[:, None]
    part = spread(z, np.array([False, False, True, True]), np.ones(4))
    probe = discriminant(part.means, (part.rows.T @ part.rows).astype(float), 0.0)
    assert probe.score(np.array([[-2.0], [0.0], [4.0]])) == pytest.approx([-1.0, 0.0, 2.0])


def test_scale_and_weight_totals_do_not_matter():
    z, harmful, weights = features()
    first = spread(z, harmful, weights)
    second = spread(z, harmful, np.where(harmful, 7 * weights, weights))
    assert second.rows == pytest.approx(first.rows, abs=1e-6)
    cells = [("en",) if i % 3 else ("de",) for i in range(len(z))]
    assert np.isfinite(spread(z, harmful, balanced_weights(cells, harmful)).rows).all()


def test_what_cannot_be_fitted_is_a_clear_error():
    z, harmful, weights = features()
    with pytest.raises(UserError, match="both classes"):
        spread(z, np.ones(len(z), dtype=bool), weights)
    z[3, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        spread(z, harmful, weights)
    with pytest.raises(UserError, match="rank 0"):
        principal_subspace(z, 0)


def planted(n, d, strong, seed=1):
    """Strong variance along some random directions over a floor of noise, far from the origin."""
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.normal(size=(d, strong)))
    values = rng.normal(size=(n, strong)) * np.linspace(9, 4, strong)
    return (values @ frame.T + 0.3 * rng.normal(size=(n, d)) + 50).astype(np.float32)


@pytest.mark.parametrize(("n", "d", "rank"), [(400, 200, 12), (60, 40, 12), (300, 30, 30)])
def test_components_are_those_of_the_exact_decomposition(n, d, rank):
    x = planted(n, d, 12)
    basis = principal_subspace(x, rank).astype(float)
    assert basis.shape == (d, rank)
    assert basis.T @ basis == pytest.approx(np.eye(rank), abs=1e-4)
    centred = x.astype(float) - x.astype(float).mean(0)
    exact = np.linalg.svd(centred, full_matrices=False)[2][:rank].T
    overlap = np.linalg.svd(exact[:, :12].T @ basis[:, :12], compute_uv=False)
    assert overlap.min() > 0.999
    variance = (centred @ basis).var(0)
    assert (np.diff(variance) <= 1e-3 * variance[0]).all()
    largest = np.abs(basis).argmax(0)
    assert (basis[largest, np.arange(rank)] > 0).all()


def test_rank_is_bounded_and_a_seed_decides():
    x = planted(30, 20, 5)
    assert principal_subspace(x, 500).shape == (20, 20)
    assert principal_subspace(x[:6], 500).shape == (20, 5)
    wide = planted(300, 150, 5)
    assert (principal_subspace(wide, 8, seed=3) == principal_subspace(wide, 8, seed=3)).all()
