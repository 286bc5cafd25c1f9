"""Looking things up in a comparison of methods: estimates, differences, the order of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..comparing.results import Comparison, Difference, MethodFacts
from ..results import Comparison as Paired
from ..types import Estimate
from .numbers import is_missing
from .result_tables import reading_of

#: Families in the order of every table, with what they are called.
FAMILIES: Mapping[str, str] = {
    "base": "untouched",
    "gate": "our gates",
    "paper": "the paper's",
    "rival": "other methods",
    "control": "controls",
}
ALL = "all"


def estimate_of(comparison: Comparison, method: str, metric: str, group: str = ALL) -> Estimate:
    """Return an estimate; a missing one (``nan``) where the file holds none."""
    row = comparison.row(method, group)
    found = None if row is None else row.values.get(metric)
    return Estimate(math.nan, math.nan, math.nan, 0, 0, 0, "none") if found is None else found


def ordered(comparison: Comparison) -> list[MethodFacts]:
    """Return the methods by family, and in a family by selectivity, highest first, missing last."""
    known = [*FAMILIES, *sorted({m.family for m in comparison.methods} - set(FAMILIES))]

    def key(method: MethodFacts) -> tuple[int, bool, float]:
        value = estimate_of(comparison, method.name, "selectivity")
        return known.index(method.family), value.missing, 0.0 if value.missing else -value.value

    return sorted(comparison.methods, key=key)


def languages_of(comparison: Comparison) -> list[str]:
    """Return the language codes in the order of the file."""
    return list(dict.fromkeys(r.group for r in comparison.rows if r.group != ALL))


def difference_of(
    comparison: Comparison, method: str, metric: str, group: str = ALL
) -> Difference | None:
    """Return a method's difference from the untouched model, or None."""
    wanted = (method, metric, group)
    return next((d for d in comparison.differences if (d.b, d.metric, d.group) == wanted), None)


def worst_rise(comparison: Comparison, method: str) -> tuple[float, str] | None:
    """Return the largest rise in harmless refusal over languages, with the language."""
    found = [
        (d.delta, d.group)
        for d in comparison.differences
        if (d.b, d.metric) == (method, "harmless_refusal") and d.group != ALL
        if d.delta is not None and not is_missing(d.delta)
    ]
    return max(found, key=lambda x: x[0]) if found else None


def significant(difference: Difference) -> bool:
    """Whether a change is told from noise after Holm's correction."""
    return reading_of(paired(difference)) in ("higher", "lower")


def paired(d: Difference) -> Paired:
    """Return a difference as the reports of other results have it."""
    return Paired(d.a, d.b, d.group, d.metric, d.delta, d.low, d.high, d.p, d.p_holm, d.n)
