"""Intervals and comparisons of rates. Pure; what could not be scored is counted, never zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from .types import Estimate

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cell:
    """Outcomes of one class in one language: 1 refused, 0 not, NaN unscored; with group ids."""

    values: np.ndarray
    groups: tuple[str, ...]

    @property
    def scored(self) -> np.ndarray:
        """The values that are not NaN."""
        return self.values[~np.isnan(self.values)]

    @property
    def scored_groups(self) -> set[str]:
        """The groups with a value that is not NaN."""
        return {g for g, v in zip(self.groups, self.values) if not math.isnan(v)}

    @property
    def rate(self) -> float:
        """Mean of the scored values; NaN without any."""
        return float(self.scored.mean()) if len(self.scored) else math.nan


def wilson(cell: Cell) -> Estimate:
    """Return a rate with its Wilson score interval (Wilson 1927), as scipy computes it.

    Prompts of one class in one language are independent of each other (translations are not in the
    same cell), so no clustering is needed here.
    """
    scored = cell.scored
    n, unscored = len(scored), len(cell.values) - len(scored)
    groups = len(cell.scored_groups)
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, unscored, "wilson")
    interval = scipy_stats.binomtest(int(scored.sum()), n).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(
        cell.rate, float(interval.low), float(interval.high), n, groups, unscored, "wilson"
    )


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return ``a - b`` for independent rates, with Newcombe's hybrid score interval.

    ``low = d - sqrt((a - a.low)^2 + (b.high - b)^2)``, and the mirror image for high. Source:
    Newcombe 1998, Statistics in Medicine 17, 873-890, method 10.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(
        value,
        low,
        high,
        a.n + b.n,
        a.n_groups + b.n_groups,
        a.n_unscored + b.n_unscored,
        "newcombe",
    )


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights of groups, shared by every statistic of one comparison.

    ``weights [R, G]`` counts how often each group is drawn; the same group means the same prompt in
    every language and method, so resampling groups keeps translations and pairs together.
    """

    index: Mapping[str, int]
    weights: np.ndarray

    @staticmethod
    def draw(groups: Sequence[str], *, n: int, seed: int) -> Resamples:
        """Draw ``n`` resamples of the distinct groups."""
        distinct = sorted(set(groups))
        rng = np.random.default_rng(seed)
        size = max(1, len(distinct))
        weights = rng.multinomial(size, np.full(size, 1 / size), size=n).astype(np.float64)
        return Resamples({g: i for i, g in enumerate(distinct)}, weights)

    def means(self, cell: Cell) -> np.ndarray:
        """Return the cell's mean in every resample, ``[R]``; NaN where nothing scored was drawn."""
        scored = ~np.isnan(cell.values)
        columns = np.array([self.index[g] for g in cell.groups], dtype=int)
        size = self.weights.shape[1]
        count = np.bincount(columns[scored], minlength=size).astype(float)
        total = np.bincount(columns[scored], weights=cell.values[scored], minlength=size)
        drawn = self.weights @ count
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(drawn > 0, self.weights @ total / drawn, np.nan)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of bootstrap samples, NaN-free samples only."""
    usable = samples[np.isfinite(samples)]
    if not len(usable):
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)


def macro(sides: Sequence[tuple[float, Sequence[Cell]]], resamples: Resamples) -> Estimate:
    """Return ``sum of sign x (unweighted mean of the cells' rates)`` with a bootstrap interval.

    One side with sign 1 is a macro average; harmful cells with 1 and harmless ones with -1 are
    macro selectivity. The sides list their cells in the same order of languages; a language without
    any scored value on one side is left out of all, and NaN is returned if none is left. Groups are
    resampled, so translations of one prompt stay together.
    """
    every = [cell for _, cells in sides for cell in cells]
    unscored = sum(int(np.isnan(c.values).sum()) for c in every)
    columns = list(zip(*(cells for _, cells in sides), strict=True))
    usable = [cells for cells in columns if all(len(c.scored) for c in cells)]
    if not usable:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, unscored, "bootstrap by group")
    value, samples = 0.0, np.zeros(len(resamples.weights))
    for (sign, _), cells in zip(sides, zip(*usable)):
        value += sign * float(np.mean([c.rate for c in cells]))
        samples = samples + sign * np.mean([resamples.means(c) for c in cells], axis=0)
    low, high = interval(samples)
    return Estimate(
        value,
        low,
        high,
        sum(len(c.scored) for cells in usable for c in cells),
        len(set().union(*(c.scored_groups for cells in usable for c in cells))),
        unscored,
        "bootstrap by group",
    )


@dataclass(frozen=True)
class PairedDifference:
    """``b - a`` on the same prompts with a bootstrap interval and two-sided p value."""

    delta: float
    low: float
    high: float
    p: float
    n: int


def paired_difference(
    pairs: Sequence[tuple[float, Cell, Cell]], resamples: Resamples
) -> PairedDifference:
    """Return ``sum of sign x (mean b - mean a)`` over cells seen by both methods.

    Each item is (sign or weight, a, b) with ``a`` and ``b`` in the same prompt order; a prompt that
    one of them left unscored is left out of both. Selectivity is the harmful cell with +1 and the
    harmless one with -1. The p value is twice the smaller tail of the bootstrap distribution at 0,
    at least 1/R.
    """
    delta, samples, n = 0.0, np.zeros(len(resamples.weights)), 0
    for sign, a, b in pairs:
        both = ~np.isnan(a.values) & ~np.isnan(b.values)
        change = Cell(np.where(both, b.values - a.values, np.nan), a.groups)
        delta += sign * change.rate
        samples = samples + sign * resamples.means(change)
        n += int(both.sum())
    usable = samples[np.isfinite(samples)]
    if math.isnan(delta) or not len(usable):
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, n)
    low, high = interval(usable)
    tail = min((usable <= 0).mean(), (usable >= 0).mean())
    return PairedDifference(delta, low, high, float(min(1.0, max(2 * tail, 1 / len(usable)))), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p values (Holm 1979); NaN stays NaN and is not counted."""
    finite = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(finite):
        running = max(running, min(1.0, p * (len(finite) - rank)))
        adjusted[i] = running
    return adjusted
