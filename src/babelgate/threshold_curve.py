"""Balanced accuracy against the number of labelled shots, for one language. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .metrics import balanced_accuracy
from .thresholds import Rule, SourceStatistics, threshold_for


@dataclass(frozen=True)
class CurvePoint:
    """Mean over draws of a threshold and its balanced accuracy at k shots per class."""

    k: int
    rule: Rule
    threshold: float
    balanced_accuracy: float
    n_draws: int


def recalibration_curve(
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    source: SourceStatistics,
    *,
    shots: Sequence[int],
    rules: Sequence[Rule],
    draws: int,
    seed: int,
    pool: ArrayLike = (),
) -> list[CurvePoint]:
    """Return balanced accuracy on ``test`` scores against k shots drawn from ``train`` scores.

    Both are (harmful, harmless); every rule sees the same draws. A k larger than a class of
    ``train`` is left out. ``pool`` holds unlabelled scores for the rules that use them.
    """
    positive, negative = (np.asarray(side, dtype=np.float64) for side in train)
    points = []
    for k in shots:
        if k > min(len(positive), len(negative)):
            continue
        rng = np.random.default_rng([seed, k])
        n_draws = draws if k else 1
        picks = [
            (rng.permutation(positive)[:k], rng.permutation(negative)[:k]) for _ in range(n_draws)
        ]
        for rule in rules:
            values = [threshold_for(rule, h, n, source, pool) for h, n in picks]
            accuracy = [balanced_accuracy(test[0], test[1], t) for t in values]
            points.append(
                CurvePoint(k, rule, float(np.mean(values)), float(np.mean(accuracy)), n_draws)
            )
    return points
