"""How well scores separate harmful from harmless prompts. Pure; missing is NaN, never 0.5."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def auroc(harmful: ArrayLike, harmless: ArrayLike) -> float:
    """Return the probability that a harmful score exceeds a harmless one, ties counted half.

    ``AUROC = (sum of harmful ranks - n(n+1)/2) / (n m)`` (Mann-Whitney). NaN if a class is empty.
    """
    positive, negative = _finite(harmful), _finite(harmless)
    n, m = len(positive), len(negative)
    if not n or not m:
        return math.nan
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def balanced_accuracy(harmful: ArrayLike, harmless: ArrayLike, threshold: float) -> float:
    """Return the mean of (share of harmful >= threshold) and (share of harmless < threshold).

    NaN if a class is empty.
    """
    positive, negative = _finite(harmful), _finite(harmless)
    if not len(positive) or not len(negative):
        return math.nan
    return float(((positive >= threshold).mean() + (negative < threshold).mean()) / 2)


def known(value: float) -> float | None:
    """Return None for NaN, which JSON files cannot hold, and every other value as it is."""
    return None if math.isnan(value) else value


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    return array[np.isfinite(array)]
