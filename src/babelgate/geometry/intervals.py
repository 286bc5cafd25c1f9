"""Intervals of AUROC and balanced accuracy in closed form, for many languages and layers. Pure."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from ..metrics import auroc
from ..stats import CONFIDENCE, difference
from ..types import Estimate

_Z = float(ndtri((1 + CONFIDENCE) / 2))


def auroc_estimate(harmful: np.ndarray, harmless: np.ndarray) -> Estimate:
    """Return AUROC with a score interval; NaN if a class is empty.

    All values ``t`` with ``|t - AUROC| <= z sqrt(V(t))`` and, for ``n`` and ``m`` prompts per class
    and ``k = (n + m) / 2 - 1``,

    ``V(t) = t (1 - t) (1 + k (1 - t) / (2 - t) + k t / (1 + t)) / (n m)``:

    Hanley and McNeil's variance (1982, Radiology 143, 29-36) at ``t`` and not at the estimate, so
    that an AUROC of 1 still has an interval. Source: Newcombe 2006, Statistics in Medicine 25,
    559-573, method 5.
    """
    value, n, m = auroc(harmful, harmless), len(harmful), len(harmless)
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "hanley-mcneil-score")
    low, high = _outermost(value, 0.0, n, m), _outermost(value, 1.0, n, m)
    return Estimate(value, low, high, n + m, n + m, 0, "hanley-mcneil-score")


def _outermost(value: float, end: float, n: int, m: int) -> float:
    """Return the value furthest towards ``end`` that the interval holds, by bisection."""
    inside, outside, k = value, end, (n + m) / 2 - 1
    for _ in range(40):
        t = (inside + outside) / 2
        variance = t * (1 - t) * (1 + k * (1 - t) / (2 - t) + k * t / (1 + t)) / (n * m)
        if (t - value) ** 2 <= _Z * _Z * variance:
            inside = t
        else:
            outside = t
    return inside


def share_estimate(share: float, n: int) -> Estimate:
    """Return a share of ``n`` with its Wilson interval (Wilson 1927); NaN for ``n = 0``.

    ``(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)``, as
    :func:`babelgate.stats.wilson`, for shares that need not be whole numbers of prompts.
    """
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "wilson")
    z2 = _Z * _Z / n
    middle, reach = share + z2 / 2, _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    low, high = (middle - reach) / (1 + z2), (middle + reach) / (1 + z2)
    return Estimate(share, max(0.0, low), min(1.0, high), n, n, 0, "wilson")


def balanced_estimate(caught: float, n: int, false_alarms: float, m: int) -> Estimate:
    """Return balanced accuracy ``(caught + 1 - false_alarms) / 2`` of ``n`` and ``m`` prompts.

    The interval is Newcombe's for the difference of the two rates, halved and moved. Shares that
    are means over repeated splits get the interval of a single one.
    """
    d = difference(share_estimate(caught, n), share_estimate(false_alarms, m))
    value, low, high = ((1 + x) / 2 for x in (d.value, d.low, d.high))
    return Estimate(value, low, high, n + m, n + m, 0, "newcombe")
