"""A threshold with a stated false-alarm rate, from harmless scores alone. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from .errors import UserError


@dataclass(frozen=True)
class FalseAlarmBound:
    """A threshold and what is known of its false-alarm rate; ``threshold`` None: too few scores.

    With the stated confidence the rate of harmless prompts on which the gate fires is at most
    ``bound``. ``allowed`` of the ``n`` scores lie at or above the threshold; ``n_needed`` is the
    smallest n with which any threshold can be given.
    """

    threshold: float | None
    alpha: float
    confidence: float
    n: int
    allowed: int
    bound: float | None
    n_needed: int
    reason: str


def scores_needed(alpha: float, confidence: float) -> int:
    """Return the smallest n with ``(1 - alpha)^n <= 1 - confidence``.

    Raises:
        UserError: unless both lie strictly between 0 and 1.
    """
    for name, value in (("false-alarm rate", alpha), ("confidence", confidence)):
        if not 0 < value < 1:
            raise UserError(f"{name} {value}: expected a number between 0 and 1, such as 0.05")
    n = max(1, math.floor(math.log1p(-confidence) / math.log1p(-alpha)) - 1)
    while (1 - alpha) ** n > (1 - confidence) * (1 + 1e-12):
        n += 1
    return n


def upper_bound(alarms: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper limit of a rate seen ``alarms`` times in n."""
    return 1.0 if alarms >= n else float(beta.ppf(confidence, alarms + 1, n - alarms))


def false_alarm_threshold(
    harmless: ArrayLike, *, alpha: float = 0.05, confidence: float = 0.9
) -> FalseAlarmBound:
    """Return the lowest threshold whose false-alarm rate is at most ``alpha``, with confidence.

    With scores ``x_1 >= x_2 >= ...`` and the threshold just above ``x_(j+1)``, the rate is at most
    a Beta(j + 1, n - j) variable, whatever the scores' distribution (exactly one where it is
    continuous); so j is the largest number with ``upper_bound(j, n, confidence) <= alpha``. The
    scores must be independent draws of the prompts that the gate will see, and not those that the
    probe was fitted on.

    Raises:
        UserError: for scores that are NaN or infinite, or rates outside (0, 1).
    """
    scores = np.asarray(harmless, dtype=np.float64).reshape(-1)
    if not np.isfinite(scores).all():
        raise UserError("a threshold cannot be set from scores that are NaN or infinite")
    needed, n = scores_needed(alpha, confidence), len(scores)
    if n < needed:
        reason = (
            f"{n} harmless scores cannot bound the false-alarm rate by {alpha:g} with confidence "
            f"{confidence:g}; {needed} can"
        )
        return FalseAlarmBound(None, alpha, confidence, n, 0, None, needed, reason)
    j = 0
    # The relative tolerance is that of `scores_needed`: both sides of equality must agree.
    while j + 1 < n and upper_bound(j + 1, n, confidence) <= alpha * (1 + 1e-12):
        j += 1
    above = np.sort(scores)[n - 1 - j]
    # Single precision, in which gates score: rounding must not let the score itself fire.
    threshold = float(np.nextafter(np.float32(above), np.float32(np.inf)))
    fired = int((scores >= threshold).sum())
    reason = f"{fired} of {n} harmless scores lie at or above it; {j} were allowed"
    return FalseAlarmBound(
        threshold, alpha, confidence, n, fired, upper_bound(j, n, confidence), needed, reason
    )
