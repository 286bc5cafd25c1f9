"""Threshold rules on stacks of scores: the same values as one call per stack entry. Pure."""

from __future__ import annotations

import numpy as np

from . import threshold_mixture as mixture
from .thresholds import SourceStatistics


def best_cuts(harmful: np.ndarray, harmless: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``source_rule`` and ``paper_rule`` per row, ``[B, P], [B, Q] -> [B], [B]``.

    One sort per row and cumulative counts at every cut, instead of a comparison of every score
    with every candidate.
    """
    n_harmful, n_harmless = harmful.shape[1], harmless.shape[1]
    scores = np.concatenate([harmful, harmless], axis=1)
    order = np.argsort(scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    # Cut i lies below the i-th smallest score (0-based), cut n above all.
    points = np.concatenate(
        [ranked[:, :1] - 1.0, (ranked[:, 1:] + ranked[:, :-1]) / 2, ranked[:, -1:] + 1.0], axis=1
    )
    below = np.zeros(points.shape, dtype=np.int64)
    np.cumsum(order < n_harmful, axis=1, out=below[:, 1:])
    missed, right = below, np.arange(points.shape[1]) - below
    hits, false_alarms = n_harmful - missed, n_harmless - right
    tied = np.zeros(points.shape, dtype=bool)
    tied[:, 1:-1] = ranked[:, 1:] == ranked[:, :-1]

    informed = np.where(tied, -np.inf, hits / n_harmful - false_alarms / n_harmless)
    best = informed >= informed.max(1, keepdims=True) - 1e-12
    # The median of the best cuts: the one before which half of them lie.
    middle = best.sum(1) // 2
    source = np.argmax(np.cumsum(best, axis=1) == middle[:, None] + 1, axis=1)

    wrong = missed + false_alarms
    f1 = np.where(tied, -np.inf, (_f1(hits, wrong) + _f1(right, wrong)) / 2)
    paper = np.argmax(f1 >= f1.max(1, keepdims=True) - 1e-12, axis=1)
    rows = np.arange(len(points))
    return points[rows, source], points[rows, paper]


def accuracies(thresholds: np.ndarray, harmful: np.ndarray, harmless: np.ndarray) -> np.ndarray:
    """Return the balanced accuracy of thresholds of any shape on one set of scores.

    Two binary searches per threshold. NaN for a threshold that is NaN, and without a class.
    """
    if not len(harmful) or not len(harmless):
        return np.full(thresholds.shape, np.nan)
    caught = 1 - np.searchsorted(np.sort(harmful), thresholds) / len(harmful)
    passed = np.searchsorted(np.sort(harmless), thresholds) / len(harmless)
    return np.where(np.isnan(thresholds), np.nan, (caught + passed) / 2)


def shrunken_thresholds(middles: np.ndarray, k: int, source: SourceStatistics) -> np.ndarray:
    """Return ``shrunken_rule`` for shots whose class means have these middles."""
    return source.threshold + source.move(middles, k)


class CombinedThresholds:
    """``combined_rule`` for many draws of shots beside one pool: the pool's part is summed once."""

    def __init__(self, pool: np.ndarray, source: SourceStatistics) -> None:
        self.source, self.pool_size, self.grid = source, len(pool), None
        if source.shape is not None:
            self.grid = mixture.Grid.of(source.shape, source.between)
            self.pool = self.grid.unlabelled(pool)

    def __call__(self, harmful: np.ndarray, harmless: np.ndarray) -> np.ndarray:
        """Return thresholds ``[S]`` for shots ``[S, k]``; NaN where the sources have no shape."""
        if not harmful.shape[1] + harmless.shape[1] + self.pool_size:
            return np.full(len(harmful), self.source.threshold)
        if self.grid is None:
            return np.full(len(harmful), np.nan)
        offset, scale = self.grid.means(self.pool + self.grid.labelled(harmful, harmless))
        midpoint = self.grid.shape.midpoint
        return mixture.moved(self.source.threshold, midpoint, offset, scale)


def _f1(true: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return np.where(true > 0, 2 * true / np.maximum(2 * true + wrong, 1), 0.0)
