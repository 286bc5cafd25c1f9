"""A linear discriminant on principal components of the states. Pure: arrays in, values out.

A subspace of mean differences keeps what tells the classes' means apart and drops the directions
that tell a harmful prompt from its twin; principal components keep both, and the discriminant
decides. It is closed-form, so that many sets of layers can be tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import UserError
from .probe import Probe

#: Shrinkages that are tried; chosen with the layers.
SHRINKAGE_GRID = (0.03, 0.1, 0.3)

_SPARE = 8
_ITERATIONS = 1


def principal_subspace(states: np.ndarray, rank: int, seed: int = 0) -> np.ndarray:
    """Return the leading principal directions of centred states, ``[N, d] -> [d, r]``.

    ``r = min(rank, N - 1, d)``; orthonormal float32 columns, largest variance first, each with its
    largest entry positive. Randomised subspace iteration (Halko, Martinsson and Tropp 2011, arXiv
    0909.4061): ``Q <- orth(X^T (X Q))`` from a seeded start, then the exact components within its
    span. Small problems are solved exactly.

    Raises:
        UserError: if the rank is less than 1.
    """
    if rank < 1:
        raise UserError(f"rank {rank}: expected at least 1")
    x = np.asarray(states, dtype=np.float32)
    x = x - x.mean(0, dtype=np.float64).astype(np.float32)
    n, d = x.shape
    rank = max(1, min(rank, n - 1, d))
    wide = rank + _SPARE
    if 2 * wide >= min(n, d):
        span = np.eye(d, dtype=np.float32)
    else:
        span = np.random.default_rng(seed).standard_normal((d, wide), dtype=np.float32)
        for _ in range(_ITERATIONS + 1):
            span, _ = np.linalg.qr(x.T @ (x @ span))
    within = (x @ span).astype(np.float64)
    _, vectors = np.linalg.eigh(within.T @ within)
    basis = span @ vectors[:, ::-1][:, :rank].astype(np.float32)
    largest = np.abs(basis).argmax(0)
    return basis * np.sign(basis[largest, np.arange(rank)])


@dataclass(frozen=True)
class Spread:
    """One layer's part of a discriminant: class means ``[2, r]`` (harmless, harmful), and rows.

    ``rows [n, r]`` are the train features minus their class mean, times ``sqrt(weight / 2)``, so
    that ``a.rows.T @ b.rows`` is the within-class covariance of two layers' features.
    """

    means: np.ndarray
    rows: np.ndarray


def spread(features: np.ndarray, harmful: np.ndarray, weights: np.ndarray) -> Spread:
    """Return the :class:`Spread` of weighted features; weights of a class sum to one.

    Raises:
        UserError: if a class has no weight, or a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise UserError("probe features are not finite: the activations hold NaN or infinities")
    sides = np.stack([np.where(harmful == side, weights, 0.0) for side in (False, True)])
    if not (sides.sum(1) > 0).all():
        raise UserError("a probe needs examples of both classes, harmful and harmless")
    sides = sides / sides.sum(1, keepdims=True)
    means = sides @ features.astype(np.float64)
    root = np.sqrt(sides.sum(0) / 2)[:, None].astype(np.float32)
    rows = features.astype(np.float32) - means.astype(np.float32)[harmful.astype(int)]
    return Spread(means, rows * root)


def discriminant(means: np.ndarray, covariance: np.ndarray, shrinkage: float) -> Probe:
    """Return the probe ``score = w . (z - midpoint)`` with ``w = (S + g tr(S)/r I)^-1 (m1 - m0)``.

    ``means [2, r]`` (harmless ``m0``, harmful ``m1``), ``S [r, r]`` the pooled within-class
    covariance, ``g`` the shrinkage. With Gaussian classes of covariance ``S`` the score is the
    log-odds of harm; fitted on few prompts it is too sure of itself, its order and its zero hold.
    Fisher 1936; shrinkage: Friedman 1989.
    """
    r = len(covariance)
    ridge = shrinkage * max(float(np.trace(covariance)) / r, 1e-12)
    weight = np.linalg.solve(covariance + ridge * np.eye(r), means[1] - means[0])
    return Probe(means.mean(0), np.ones(r), weight, 0.0)
