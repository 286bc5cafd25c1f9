"""Many logistic probes at once: :func:`~babelgate.probe.fit_probe` over a stack. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import UserError

_ITERATIONS = 100
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class ProbeStack:
    """``score = features . weight + bias`` per probe, standardisation folded in.

    ``weight [B, F]``, ``bias [B]``, float64.
    """

    weight: np.ndarray
    bias: np.ndarray


def fit_probes(
    features: np.ndarray, harmful: np.ndarray, weights: np.ndarray, l2: np.ndarray
) -> ProbeStack:
    """Return B probes, each the minimum that ``fit_probe`` finds for its own data.

    All take Newton steps together; a probe that has converged leaves the stack. A row of weight 0
    is as good as absent, and so is a feature that is 0 in every row, so that probes on fewer rows
    or features fit into one stack.

    Args:
        features: ``[B, N, F]``.
        harmful: ``[N]`` bool.
        weights: ``[B, N]`` non-negative.
        l2: ``[B]``, > 0.

    Raises:
        UserError: if a class has no weight in some probe, or a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise UserError("probe features are not finite: the activations hold NaN or infinities")
    w = weights / weights.sum(1, keepdims=True)
    if not ((w[:, harmful].sum(1) > 0) & (w[:, ~harmful].sum(1) > 0)).all():
        raise UserError("a probe needs examples of both classes, harmful and harmless")
    mean = (w[:, None, :] @ features)[:, 0]
    x = features - mean[:, None, :]
    scale = np.maximum(np.sqrt((w[:, None, :] @ x**2)[:, 0]), 1e-12)
    x = np.concatenate([x / scale[:, None, :], np.ones((*x.shape[:2], 1))], axis=2)
    ridge = np.repeat(np.asarray(l2, dtype=np.float64)[:, None], x.shape[2], axis=1)
    ridge[:, -1] = 0.0
    beta = _newton(x, harmful.astype(np.float64), w, ridge)
    weight = beta[:, :-1] / scale
    return ProbeStack(weight, beta[:, -1] - (mean * weight).sum(1))


def _newton(x: np.ndarray, target: np.ndarray, w: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Return the minima ``[B, F + 1]`` by Newton's method with step halving, as ``fit_probe``."""
    found = np.zeros((len(x), x.shape[2]))
    index = np.arange(len(x))
    beta, margin = found.copy(), np.zeros(x.shape[:2])
    current = _loss(beta, margin, target, w, ridge)
    eye = np.eye(x.shape[2])
    for _ in range(_ITERATIONS):
        p = 1.0 / (1.0 + np.exp(-np.clip(margin, -500, 500)))
        gradient = ((w * (p - target))[:, None, :] @ x)[:, 0] + ridge * beta
        hessian = x.transpose(0, 2, 1) @ ((w * p * (1 - p))[:, :, None] * x)
        hessian += (ridge + 1e-12)[:, :, None] * eye
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        done = (gradient * step).sum(1) < _TOLERANCE
        found[index[done]] = beta[done] - step[done]
        if done.all():
            return found
        keep = ~done
        index, x, w, ridge = index[keep], x[keep], w[keep], ridge[keep]
        beta, margin, step, current = beta[keep], margin[keep], step[keep], current[keep]
        along = (x @ step[:, :, None])[:, :, 0]
        size = np.ones(len(x))
        new = _loss(beta - step, margin - along, target, w, ridge)
        while (worse := (new > current) & (size > 1e-8)).any():
            size[worse] /= 2
            s = size[worse, None]
            new[worse] = _loss(
                beta[worse] - s * step[worse],
                margin[worse] - s * along[worse],
                target,
                w[worse],
                ridge[worse],
            )
        beta, margin = beta - size[:, None] * step, margin - size[:, None] * along
        current = new
    found[index] = beta
    return found


def _loss(
    beta: np.ndarray, margin: np.ndarray, target: np.ndarray, w: np.ndarray, ridge: np.ndarray
) -> np.ndarray:
    fit = np.logaddexp(0.0, margin) - target * margin
    return (w * fit).sum(1) + 0.5 * (ridge * beta * beta).sum(1)
