"""The tables of ``results.json`` and of the layer choice, the same for every kind of output."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Comparison, Diagnosis, LanguageComparison, LayerChoice, Results
from ..types import Estimate
from .harm_or_form import readings
from .names import (
    TierGroup,
    group_label,
    language_label,
    methods,
    order,
    rows_by_key,
    tier_label,
)
from .numbers import MISSING, decimal, is_missing, p_value, percent, points, span
from .tables import Table, make

_RATE_COLUMNS = (
    *("Harmful refused, %", "95 %", "n"),
    *("Harmless refused, %", "95 %", "n"),
    *("Selectivity Δ", "95 %", "Unscored"),
)
_METRICS = {
    "harmful_refusal": "harmful refused",
    "harmless_refusal": "harmless refused",
    "selectivity": "selectivity Δ",
}


NOISE = "no change distinguishable from noise"
UNCORRECTED = "not significant after Holm's correction"
_SHORT = {NOISE: "within noise", UNCORRECTED: "not after Holm"}


def metric_label(metric: str) -> str:
    """Return the name of a metric in words."""
    return _METRICS.get(metric, metric.replace("_", " "))


def _rates(harmful: Estimate, harmless: Estimate, delta: Estimate) -> tuple[str, ...]:
    return (
        *(percent(harmful.value), span(harmful.low, harmful.high), str(harmful.n)),
        *(percent(harmless.value), span(harmless.low, harmless.high), str(harmless.n)),
        *(points(delta.value), span(delta.low, delta.high)),
        str(harmful.n_unscored + harmless.n_unscored),
    )


def rates_table(results: Results, groups: Sequence[TierGroup], only: str | None = None) -> Table:
    """Return refusal rates per language and method (or of one method)."""
    cells = rows_by_key(results)
    wanted = methods(results) if only is None else (only,)
    rows = []
    for group in groups:
        for code in group.languages:
            for method in wanted:
                row = cells.get((method, code))
                if row is None:
                    continue
                names = [language_label(code), tier_label(group.tier), row.role or MISSING]
                rates = _rates(row.harmful_refusal, row.harmless_refusal, row.selectivity)
                rows.append([*names, *([method] if only is None else []), *rates])
    first = ["Language", "Tier", "Role", *(["Method"] if only is None else [])]
    note = f"{MISSING}: nothing scored. Unscored prompts are in no rate."
    title = "Refusal by language" if only is None else f"Refusal by language, {only}"
    return make(title, [*first, *_RATE_COLUMNS], "l" * len(first) + "r" * 9, rows, note)


def macro_table(results: Results) -> Table:
    """Return the unweighted means over languages."""
    rows = [
        (
            f"{group_label(m.group)} ({len(m.languages)})",
            m.method,
            *_rates(m.harmful_refusal, m.harmless_refusal, m.selectivity),
        )
        for m in results.macro
    ]
    columns = ("Mean over", "Method", *_RATE_COLUMNS)
    return make("Means over languages", columns, "ll" + "r" * 9, rows)


def reading_of(comparison: Comparison | LanguageComparison) -> str:
    """Say what a comparison shows: up, down, or nothing distinguishable from noise."""
    delta, low, high = comparison.delta, comparison.low, comparison.high
    if delta is None or low is None or high is None or any(map(is_missing, (delta, low, high))):
        return "not measured"
    if low <= 0 <= high:
        return NOISE
    if comparison.p_holm is not None and comparison.p_holm > 0.05:
        return UNCORRECTED
    return "higher" if delta > 0 else "lower"


def short_reading(comparison: Comparison | LanguageComparison) -> str:
    """Say the same in as few words as a table's column has room for."""
    reading = reading_of(comparison)
    return _SHORT.get(reading, reading)


def comparisons_table(results: Results) -> Table:
    """Return the paired comparisons of methods, with McNemar's p where any rate has one."""
    tested = any(c.p_mcnemar is not None for c in results.comparisons)
    rows = [
        (
            f"{c.b} − {c.a}",
            group_label(c.group),
            metric_label(c.metric),
            points(c.delta),
            f"{points(c.low)} to {points(c.high)}" if not is_missing(c.low) else MISSING,
            *((p_value(c.p_mcnemar),) if tested else ()),
            p_value(c.p),
            p_value(c.p_holm),
            str(c.n),
            short_reading(c),
        )
        for c in results.comparisons
    ]
    exact = ("McNemar p",) if tested else ()
    columns = ("Methods", "Over", "Metric", "Change, points", "95 %", *exact)
    columns += ("p", "Holm p", "n", "Reading")
    note = "McNemar's exact test is of rates in one language; p and its correction are the others'."
    align = "lll" + "r" * (5 + tested) + "l"
    return make("Paired comparisons", columns, align, rows, note if tested else "")


def layer_table(choices: Sequence[LayerChoice], most: int = 12) -> Table:
    """Return the candidate layer sets, best first, the chosen one marked; at most so many.

    Best is the mean AUROC over contrasts, which is what layers are chosen by.
    """

    def merit(choice: LayerChoice) -> tuple[bool, float]:
        areas = [choice.auroc_topic, choice.auroc_twins]
        known = [x for x in areas if x is not None and not is_missing(x)]
        return not choice.chosen, -sum(known) / len(known) if known else 1.0

    ranked = sorted(choices, key=merit)
    left = len(ranked) - most
    rows = [
        (
            ", ".join(map(str, c.layers)),
            decimal(c.balanced_accuracy, 3),
            decimal(c.auroc_topic, 3),
            decimal(c.auroc_twins, 3),
            "chosen" if c.chosen else "",
        )
        for c in ranked[:most]
    ]
    columns = ("Layers", "Balanced accuracy", "AUROC topic", "AUROC twins", "")
    note = "Chosen by the mean of the AUROCs on source languages left out one at a time."
    if left > 0:
        note += f" {left} more sets were tried; diagnosis.json has them all."
    return make("Layer choice", columns, "lrrrl", rows, note)


def overview_tables(results: Results, diagnosis: Diagnosis | None) -> list[Table]:
    """Return the tables that a terminal or a README should show; empty ones are left out."""
    groups = order(results)
    tables = [rates_table(results, groups), macro_table(results), comparisons_table(results)]
    gated = [
        (
            language_label(r.language),
            r.method,
            points(r.gate.selectivity.value),
            span(r.gate.selectivity.low, r.gate.selectivity.high),
            points(r.selectivity.value),
            decimal(r.gate.auroc),
            decimal(r.gate.balanced_accuracy),
            decimal(r.gate.threshold),
        )
        for r in results.rows
        if r.gate is not None
    ]
    columns = ("Language", "Method", "Gate Δ", "95 %", "Achieved Δ")
    columns += ("AUROC", "Balanced accuracy", "Threshold")
    tables.append(make("What the gate decides and what is achieved", columns, "llrrrrrr", gated))
    if diagnosis is not None:
        found = readings(diagnosis.contrasts)
        verdicts = [
            (
                language_label(code),
                decimal(reading.topic.auroc if reading.topic else None),
                decimal(reading.twins.auroc if reading.twins else None),
                reading.verdict,
            )
            for code, reading in found.items()
        ]
        head = ("Language", "Topic AUROC", "Twins AUROC", "Verdict")
        tables.append(make("Harm or form", head, "lrrl", verdicts))
        tables.append(layer_table(diagnosis.layer_choice))
    return [t for t in tables if t.rows]
