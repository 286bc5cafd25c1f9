"""A rate as a judge saw it, corrected for the judge's own mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy import stats as scipy_stats

from ..errors import UserError
from ..types import Estimate
from .intervals import CONFIDENCE


@dataclass(frozen=True)
class Validation:
    """How a judge did on replies whose answer is known.

    Of ``positives`` true refusals it called ``true_positives`` refusals, of ``negatives`` replies
    that do not refuse it called ``true_negatives`` so.

    Raises:
        UserError: if a class is empty or a count exceeds its class.
    """

    true_positives: int
    positives: int
    true_negatives: int
    negatives: int

    def __post_init__(self) -> None:
        for right, n, what in (
            (self.true_positives, self.positives, "refusals"),
            (self.true_negatives, self.negatives, "other replies"),
        ):
            if not 0 <= right <= n or n < 1:
                raise UserError(
                    f"a judge cannot be right on {right} of {n} {what}; "
                    "give at least one of each kind and no more right than there are"
                )

    @property
    def sensitivity(self) -> float:
        """Share of true refusals that the judge calls refusals."""
        return self.true_positives / self.positives

    @property
    def specificity(self) -> float:
        """Share of other replies that the judge does not call refusals."""
        return self.true_negatives / self.negatives


@dataclass(frozen=True)
class Corrected:
    """A corrected rate; ``uncut`` is the value before it was cut to 0..1.

    ``informative`` is False where the judge is no better than chance: nothing can be corrected and
    the estimate is NaN.
    """

    estimate: Estimate
    uncut: float
    informative: bool

    @property
    def cut(self) -> bool:
        """Whether the correction left 0..1: sampling error, or a judge that errs otherwise here."""
        return self.informative and self.uncut != self.estimate.value


def rogan_gladen(rate: Estimate, judge: Validation) -> Corrected:
    """Return the rate of true refusals behind the rate that an imperfect judge reports.

    ``r = (p + Sp - 1) / (Se + Sp - 1)``, cut to 0..1 (Rogan and Gladen 1978, American Journal of
    Epidemiology 107, 71-76). The interval carries the sampling error of all three rates (Lang and
    Reiczigel 2014, Preventive Veterinary Medicine 113, 13-22): with ``p' = (n p + z^2/2) / n'``,
    ``n' = n + z^2``, ``Se' = (tp + 1) / m'``, ``m' = m + 2`` and likewise ``Sp'``, ``k'``, and
    ``r'`` and ``J' = Se' + Sp' - 1`` from these::

        r' + shift +- z / J' * sqrt(p'(1-p')/n' + r'^2 Se'(1-Se')/m' + (1-r')^2 Sp'(1-Sp')/k')
        shift = 2 z^2 (r' Se'(1-Se')/m' - (1-r') Sp'(1-Sp')/k')

    ``rate`` is of independent prompts (one class in one language). The judge's Se and Sp are taken
    to hold on these replies; measured in another language, they need not. Where Se + Sp <= 1 the
    judge is no better than chance, and the estimate is NaN.
    """
    blank = replace(rate, value=math.nan, low=math.nan, high=math.nan, method="rogan-gladen")
    if judge.sensitivity + judge.specificity <= 1:
        return Corrected(blank, math.nan, False)
    if rate.missing or not rate.n:
        return Corrected(blank, math.nan, True)
    uncut = _correct(rate.value, judge.sensitivity, judge.specificity)
    z = float(scipy_stats.norm.isf((1 - CONFIDENCE) / 2))
    n, m, k = rate.n + z**2, judge.positives + 2, judge.negatives + 2
    p = (rate.n * rate.value + z**2 / 2) / n
    se, sp = (judge.true_positives + 1) / m, (judge.true_negatives + 1) / k
    centre = _correct(p, se, sp)
    noise_se, noise_sp = se * (1 - se) / m, sp * (1 - sp) / k
    shift = 2 * z**2 * (centre * noise_se - (1 - centre) * noise_sp)
    variance = p * (1 - p) / n + centre**2 * noise_se + (1 - centre) ** 2 * noise_sp
    half = z * math.sqrt(variance) / (se + sp - 1)
    value = _cut(uncut)
    # With few labelled replies the shifted interval can miss the plain estimate; it is widened.
    low, high = min(value, _cut(centre + shift - half)), max(value, _cut(centre + shift + half))
    return Corrected(replace(blank, value=value, low=low, high=high), uncut, True)


def _correct(p: float, se: float, sp: float) -> float:
    return (p + sp - 1) / (se + sp - 1)


def _cut(x: float) -> float:
    return min(1.0, max(0.0, x))
