"""Two methods, or two languages, on the same prompts: McNemar's test, alignment, Holm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats as scipy_stats

from .bootstrap import PairedDifference, Resamples, change, paired_difference
from .intervals import Cell


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test: pairs where only ``b``, or only ``a``, refused, and the exact p value."""

    b_only: int
    a_only: int
    n: int
    n_dropped: int
    p: float


def mcnemar(a: Cell, b: Cell) -> PairedTest:
    """Return McNemar's exact test of equal rates on the same prompts, two-sided.

    ``p = 2 P(X <= min(b_only, a_only))``, at most 1, for X binomial with ``b_only + a_only`` trials
    and probability 1/2; 1 without any discordant pair, NaN without any pair. A pair with an
    unscored side is dropped and counted. It takes the pairs to be independent, so each prompt may
    stand in the cells once: languages are compared one at a time, averages over languages with the
    bootstrap. Source: McNemar 1947, Psychometrika 12, 153-157; exact form as in Fagerland, Lydersen
    and Laake 2013, BMC Medical Research Methodology 13:91.

    Raises:
        ValueError: if the two do not list the same groups in the same order.
    """
    both = change(a, b).scored
    b_only, a_only = int((both > 0).sum()), int((both < 0).sum())
    p = math.nan
    if len(both):
        # scipy's binomial test at 1/2 is the exact test; no second library is needed for it.
        discordant = b_only + a_only
        p = float(scipy_stats.binomtest(b_only, discordant).pvalue) if discordant else 1.0
    return PairedTest(b_only, a_only, len(both), len(a.values) - len(both), p)


@dataclass(frozen=True)
class Aligned:
    """Two cells cut to the prompts they share, in one order, and how many each had alone."""

    a: Cell
    b: Cell
    unmatched_a: int
    unmatched_b: int


def align(a: Cell, b: Cell) -> Aligned:
    """Return both cells on the groups they share, in the order of ``a``.

    A group that stands in a cell several times is matched first to first, second to second.
    """
    places = {key: i for i, key in enumerate(_numbered(b.groups))}
    pairs = [(i, places[key]) for i, key in enumerate(_numbered(a.groups)) if key in places]
    left, right = [i for i, _ in pairs], [j for _, j in pairs]
    groups = tuple(a.groups[i] for i in left)
    return Aligned(
        Cell(a.values[left], groups),
        Cell(b.values[right], groups),
        len(a.groups) - len(pairs),
        len(b.groups) - len(pairs),
    )


def _numbered(groups: Sequence[str]) -> list[tuple[str, int]]:
    """Return each group with how often it stood before: ``a b a`` is (a, 0) (b, 0) (a, 1)."""
    before: Counter[str] = Counter()
    found = []
    for group in groups:
        found.append((group, before[group]))
        before[group] += 1
    return found


@dataclass(frozen=True)
class LanguageDifference:
    """``b - a`` for two languages on the prompts both have.

    ``test`` is McNemar's, or None for a sum over several cells; ``n_unmatched`` prompts have no
    translation in the other language and are left out.
    """

    difference: PairedDifference
    test: PairedTest | None
    n_unmatched: int


def language_difference(
    pairs: Sequence[tuple[float, Cell, Cell]], resamples: Resamples
) -> LanguageDifference:
    """Return ``sum of sign x (mean b - mean a)`` for cells of two languages in any order.

    Each item is (sign, cell in language a, cell in language b): one with sign 1 is a rate, the
    harmful one with 1 and the harmless one with -1 are selectivity. Prompts are matched by group.
    """
    matched = [(sign, align(a, b)) for sign, a, b in pairs]
    test = None
    if len(matched) == 1:
        one = matched[0][1]
        # A group that repeats would be counted as independent pairs.
        if len(set(one.a.groups)) == len(one.a.groups):
            test = mcnemar(one.a, one.b)
    return LanguageDifference(
        paired_difference([(sign, m.a, m.b) for sign, m in matched], resamples),
        test,
        sum(m.unmatched_a + m.unmatched_b for _, m in matched),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p values (Holm 1979); NaN stays NaN and is not counted."""
    finite = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(finite):
        running = max(running, min(1.0, p * (len(finite) - rank)))
        adjusted[i] = running
    return adjusted
