"""The tables of differences between methods and the untouched model, overall and by language."""

from __future__ import annotations

from ..comparing.results import Comparison, Difference
from .compared_values import ALL, difference_of, ordered, paired
from .names import BASE, group_label
from .numbers import MISSING, is_missing, p_value, points, span
from .result_tables import metric_label, short_reading
from .tables import Table, make

TESTED = ("selectivity", "harmful_refusal", "harmless_refusal", "degenerate")


def differences_table(comparison: Comparison) -> Table:
    """Return the differences from the untouched model over all languages, a row per method."""
    rows = []
    for method in ordered(comparison):
        found = [difference_of(comparison, method.name, metric) for metric in TESTED]
        if any(d is not None for d in found):
            rows.append([method.name, *(cell for d in found for cell in _change(d))])
    heads = ("Selectivity Δ", "Harmful refused", "Harmless refused", "Degenerate")
    columns = ["Method", *(cell for head in heads for cell in (head, "Holm p"))]
    note = (
        f"Method minus {BASE} on the same prompts, in points, with 95 % intervals; p corrected "
        "(Holm) within a metric over all its rows, those by language too."
    )
    return make(f"Differences from {BASE}, over all languages", columns, "l" + "r" * 8, rows, note)


def _change(difference: Difference | None) -> tuple[str, str]:
    if difference is None or is_missing(difference.delta):
        return MISSING, MISSING
    inside = span(difference.low, difference.high, 0).replace(" to ", "..")
    value = points(difference.delta)
    return value if inside == MISSING else f"{value} ({inside})", p_value(difference.p_holm)


def language_differences_table(comparison: Comparison) -> Table:
    """Return the differences from the untouched model in each language, a row per test."""
    place = {m.name: i for i, m in enumerate(ordered(comparison))}
    wanted = [d for d in comparison.differences if d.group != ALL]
    wanted.sort(key=lambda d: (_metric_place(d.metric), place.get(d.b, len(place))))
    rows = [
        (
            d.b,
            group_label(d.group),
            metric_label(d.metric),
            points(d.delta),
            span(d.low, d.high),
            p_value(d.p),
            p_value(d.p_holm),
            str(d.n),
            short_reading(paired(d)),
        )
        for d in wanted
    ]
    columns = ("Method", "Language", "Metric", "Points", "95 %", "p", "Holm p", "n", "Reading")
    return make(f"Differences from {BASE}, by language", columns, "lllrrrrrl", rows)


def _metric_place(metric: str) -> int:
    return TESTED.index(metric) if metric in TESTED else len(TESTED)
