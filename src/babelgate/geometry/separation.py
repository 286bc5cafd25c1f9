"""How well projections separate held-out prompts, at whose threshold. Pure."""

from __future__ import annotations

import math

import numpy as np

from ..threshold_batches import best_cuts
from ..types import Estimate
from .intervals import balanced_estimate
from .members import random_halves


def projection_gap(harmful: np.ndarray, harmless: np.ndarray) -> float:
    """Return the difference of class means in units of the pooled standard deviation.

    ``(mean_h - mean_n) / s`` with ``s^2 = ((n-1) s_h^2 + (m-1) s_n^2) / (n + m - 2)`` (Cohen's d).
    NaN where both classes are constant or have fewer than two prompts.
    """
    n, m = len(harmful), len(harmless)
    if n < 2 or m < 2:
        return math.nan
    variance = ((n - 1) * harmful.var(ddof=1) + (m - 1) * harmless.var(ddof=1)) / (n + m - 2)
    return float((harmful.mean() - harmless.mean()) / math.sqrt(variance)) if variance else math.nan


def best_threshold(harmful: np.ndarray, harmless: np.ndarray) -> float:
    """Return :func:`babelgate.thresholds.source_rule` of scores by one sort."""
    return float(best_cuts(harmful[None], harmless[None])[0][0])


def at_threshold(harmful: np.ndarray, harmless: np.ndarray, threshold: float) -> Estimate:
    """Return the balanced accuracy of ``score >= threshold`` with its interval."""
    caught, false_alarms = (harmful >= threshold).mean(), (harmless >= threshold).mean()
    return balanced_estimate(float(caught), len(harmful), float(false_alarms), len(harmless))


def at_own_threshold(
    harmful: np.ndarray, harmless: np.ndarray, halvings: int, rng: np.random.Generator
) -> Estimate:
    """Return the balanced accuracy at a threshold from other prompts of the same language.

    Each class is cut into random halves; the threshold of highest balanced accuracy on one half is
    judged on the other, both ways, and the rates are averaged over the halvings. The interval is
    that of the prompts once.
    """
    halves = [
        scores[random_halves(np.arange(len(scores)), halvings, rng)]
        for scores in (harmful, harmless)
    ]
    rates = []
    for fitted, judged in ((0, 1), (1, 0)):
        cuts = best_cuts(halves[0][fitted], halves[1][fitted])[0][:, None]
        rates.append([(side[judged] >= cuts).mean() for side in halves])
    caught, false_alarms = np.mean(rates, axis=0)
    return balanced_estimate(float(caught), len(harmful), float(false_alarms), len(harmless))
