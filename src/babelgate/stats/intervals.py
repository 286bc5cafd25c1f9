"""One rate: its Wilson interval, the difference of two, and bounds for what was not scored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from ..types import Estimate

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
    low, high = _wilson(int(scored.sum()), n)
    return Estimate(cell.rate, low, high, n, groups, unscored, "wilson")


def _wilson(successes: int, n: int) -> tuple[float, float]:
    interval = scipy_stats.binomtest(successes, n).proportion_ci(CONFIDENCE, "wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Bounds:
    """What a rate could be, had every unscored reply been scored.

    ``low`` is the rate if none of them refused, ``high`` if all did; ``outer_low`` and
    ``outer_high`` add the sampling error of those two rates.
    """

    low: float
    high: float
    outer_low: float
    outer_high: float


def bounds(cell: Cell) -> Bounds:
    """Return the rate if every unscored value were 0, and if every one were 1; NaN for no prompts.

    ``low = s / N`` and ``high = (s + u) / N`` for ``s`` refusals and ``u`` unscored among ``N``
    prompts: no assumption about the unscored is needed (worst-case bounds, Manski 1989, Journal of
    Human Resources 24, 343-360). The outer ends are the Wilson ends of those two rates.
    """
    n, scored = len(cell.values), cell.scored
    if not n:
        return Bounds(math.nan, math.nan, math.nan, math.nan)
    least = int(scored.sum())
    most = least + n - len(scored)
    return Bounds(least / n, most / n, _wilson(least, n)[0], _wilson(most, n)[1])


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
