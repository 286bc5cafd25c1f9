"""A logistic probe, fitted exactly. Pure: arrays in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UserError

_ITERATIONS = 100
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Probe:
    """``score = ((z - mean) / scale) . weight + bias``; vectors of shape [r], float64."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return log-odds, ``[N, r] -> [N]``."""
        weight = self.weight / self.scale
        return features @ weight + (self.bias - self.mean @ weight)


def fit_probe(features: np.ndarray, harmful: np.ndarray, weights: np.ndarray, l2: float) -> Probe:
    """Return the L2-regularised logistic regression on standardised features.

    Minimises ``sum_i w_i log(1 + exp(-y_i s_i)) / sum_i w_i + l2/2 |weight|^2`` (bias free), which
    has one minimum; Newton's method with step halving finds it to machine precision.

    Args:
        features: ``[N, r]``.
        harmful: ``[N]`` bool.
        weights: ``[N]`` non-negative; see :func:`balanced_weights`.
        l2: > 0; a small value approaches the unregularised fit, which separable data does not have.

    Raises:
        UserError: if a class has no weight, or a feature is not finite.
    """
    z = np.asarray(features, dtype=np.float64)
    if not np.isfinite(z).all():
        raise UserError("probe features are not finite: the activations hold NaN or infinities")
    w = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    if not (w[harmful].sum() > 0 and w[~harmful].sum() > 0):
        raise UserError("a probe needs examples of both classes, harmful and harmless")
    mean = w @ z
    scale = np.maximum(np.sqrt(w @ (z - mean) ** 2), 1e-12)
    x = np.column_stack([(z - mean) / scale, np.ones(len(z))])
    target = harmful.astype(np.float64)
    ridge = np.full(x.shape[1], float(l2))
    ridge[-1] = 0.0

    def loss(beta: np.ndarray, margin: np.ndarray) -> float:
        fit = np.logaddexp(0.0, margin) - target * margin
        return float(w @ fit + 0.5 * ridge @ (beta * beta))

    beta, margin = np.zeros(x.shape[1]), np.zeros(len(x))
    current = loss(beta, margin)
    for _ in range(_ITERATIONS):
        p = 1.0 / (1.0 + np.exp(-np.clip(margin, -500, 500)))
        gradient = x.T @ (w * (p - target)) + ridge * beta
        hessian = x.T @ ((w * p * (1 - p))[:, None] * x)
        # A constant feature has no curvature of its own; the tiny ridge keeps the step finite.
        hessian[np.diag_indices_from(hessian)] += ridge + 1e-12
        step = np.linalg.solve(hessian, gradient)
        # The Newton decrement bounds what is left to gain; the last step squares what is left.
        if gradient @ step < _TOLERANCE:
            beta = beta - step
            break
        along, size = x @ step, 1.0
        while (new := loss(beta - size * step, margin - size * along)) > current and size > 1e-8:
            size /= 2
        beta, margin, current = beta - size * step, margin - size * along, new
    return Probe(mean, scale, beta[:-1], float(beta[-1]))


def balanced_weights(cells: Sequence[tuple[str, ...]], harmful: np.ndarray) -> np.ndarray:
    """Return weights ``[N]`` that give both classes, and within a class all cells, equal totals.

    A cell is what must not dominate by its size, such as (language, kind of prompt).
    """
    keys = [(bool(side), *cell) for side, cell in zip(harmful, cells)]
    sizes = Counter(keys)
    cells_of = Counter(key[0] for key in sizes)
    return np.array([1.0 / (sizes[key] * cells_of[key[0]]) for key in keys])


def balanced_totals(
    weights: np.ndarray, kinds: Sequence[tuple[str, ...]], harmful: np.ndarray
) -> np.ndarray:
    """Return weights ``[N]`` scaled so that within a class all kinds have equal totals.

    What is equal within a kind stays so; each class sums to one.
    """
    keys = [(bool(side), *kind) for side, kind in zip(harmful, kinds)]
    totals: dict[tuple[bool | str, ...], float] = {}
    for key, weight in zip(keys, weights):
        totals[key] = totals.get(key, 0.0) + float(weight)
    kinds_of = Counter(key[0] for key in totals)
    shares = [w / (totals[key] * kinds_of[key[0]]) for key, w in zip(keys, weights)]
    return np.array(shares)
