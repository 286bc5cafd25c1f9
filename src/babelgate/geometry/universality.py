"""Do translations lie nearer to each other than other prompts do? (arXiv 2505.23856). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .states import LanguageStates


def matched_minus_mismatched(matched: Any, every: Any, n: int) -> Any:
    """Return the U-score from the sum of matched cosines and the sum of all ``n^2``.

    Sums are numbers, arrays or tensors (one entry per layer).

    ``U = matched / n - (every - matched) / (n (n - 1))``. Source: arXiv 2505.23856.
    """
    return matched / n - (every - matched) / (n * (n - 1))


@dataclass(frozen=True)
class Universality:
    """U-score, mean cosine of translations, and the share of them that lie nearest."""

    u: float
    matched: float
    identified: float
    n: int


def universality(
    first: tuple[LanguageStates, np.ndarray], second: tuple[LanguageStates, np.ndarray]
) -> tuple[Universality, Universality]:
    """Return translation scores of raw and of centred states, each with the places to compare.

    Row i of both is the same prompt. With ``c = x - mean(x)`` over these prompts, one product
    ``c_i . c_j`` gives the centred cosines, and ``x_i . y_j = c_i . c_j + c_i . my + mx . c_j + mx
    . my`` the raw ones. A translation is identified if no other prompt of the second language has a
    higher cosine; of t equals it counts ``1 / t``.
    """
    x, y = (states.picked(places) for states, places in (first, second))
    centred = (x.centred @ y.centred.T).astype(np.float64)
    across = (x.centred @ y.mean.astype(np.float32))[:, None]
    raw = centred + across + y.centred @ x.mean.astype(np.float32) + x.mean @ y.mean
    return _scores(raw, x.norms, y.norms), _scores(centred, x.lengths, y.lengths)


def _scores(products: np.ndarray, x_norm: np.ndarray, y_norm: np.ndarray) -> Universality:
    n = len(products)
    with np.errstate(invalid="ignore", divide="ignore"):
        products /= x_norm[:, None]
        products /= y_norm
    matched = np.diagonal(products)
    best = products.max(1)
    tied = (products == best[:, None]).sum(1)
    # Every comparison with NaN is false: a zero state makes these scores missing, not wrong.
    hits = np.where(np.isnan(best), np.nan, np.where(matched == best, 1 / np.maximum(tied, 1), 0.0))
    total = float(matched.sum())
    u = matched_minus_mismatched(total, float(products.sum()), n)
    return Universality(float(u), total / n, float(hits.mean()), n)
