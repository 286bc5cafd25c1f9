"""The results in the terminal: tables narrow enough for 80 columns, whole per cent, plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import console
from ..results import Diagnosis, Results
from ..types import Estimate
from .actions_tried import load_actions_tried
from .figures_actions import finalists_table
from .figures_ceiling import converted
from .harm_or_form import readings
from .judge_facts import judges_of
from .judge_tables import UNMEASURED, bounds_table, usage_table
from .judge_words import judge_paragraphs
from .names import (
    group_label,
    language_label,
    language_name,
    methods,
    order,
    reference_method,
    rows_by_key,
)
from .numbers import MISSING, decimal, p_value, percent, points
from .result_tables import layer_table, metric_label, reading_of, short_reading
from .tables import Table, make


def print_results(results: Results, diagnosis: Diagnosis | None = None) -> None:
    """Print rates, means, comparisons, what the gate did and who judged to standard output.

    Cells read ``84 (76..90)``: a rate in per cent, or a difference in points, with its 95 %
    interval.
    """
    tables = [_rates(results), _means(results), _comparisons(results), _languages(results)]
    tables.append(_gate(results))
    if diagnosis is not None:
        tables += [_verdicts(diagnosis), layer_table(diagnosis.layer_choice)]
    print_tables(tables)
    if results.rows:
        for text in judge_paragraphs(results):
            console.out.print(text, markup=False)
        console.out.print()
        print_tables(
            [_errors(results), bounds_table(results, order(results)), usage_table(results)]
        )


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what a calibration found: harm or form, layers, thresholds and their accuracy."""
    layers = layer_table(diagnosis.layer_choice)
    print_tables([_verdicts(diagnosis), layers, _thresholds(diagnosis)])


def print_actions(folder: Path) -> None:
    """Print the pairs of actions that were judged and the chosen one; nothing without a search.

    Raises:
        StoreError: if ``actions_tried.json`` is damaged.
    """
    tried = load_actions_tried(folder)
    if tried is not None:
        print_tables([finalists_table(tried, digits=0)])


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables with their notes; those without rows are left out."""
    for table in tables:
        if table.rows:
            console.table(table.title, table.columns, table.rows)
            if table.note:
                console.out.print(table.note, markup=False)
            console.out.print()


def _thresholds(diagnosis: Diagnosis) -> Table:
    rows = [
        (
            language_label(row.language),
            row.rule,
            str(row.k),
            decimal(row.threshold),
            decimal(row.balanced_accuracy),
            str(row.n),
            "in use" if row.used else f"mean of {row.n_draws}",
        )
        for row in diagnosis.thresholds
    ]
    columns = ("Language", "Rule", "Shots", "Threshold", "Balanced accuracy", "n", "")
    return make("Thresholds of the target languages, on val prompts", columns, "llrrrrl", rows)


def _cell(estimate: Estimate, *, signed: bool = False) -> str:
    if estimate.missing:
        return MISSING
    value = (points if signed else percent)(estimate.value, 0)
    return f"{value} ({percent(estimate.low, 0)}..{percent(estimate.high, 0)})"


_RATES = ("Harmful, %", "Harmless, %", "Selectivity", "n")


def _rate_cells(harmful: Estimate, harmless: Estimate, delta: Estimate) -> tuple[str, ...]:
    n = f"{harmful.n}+{harmless.n}"
    return _cell(harmful), _cell(harmless), _cell(delta, signed=True), n


def _rates(results: Results) -> Table:
    cells = rows_by_key(results)
    rows, unscored = [], []
    for code in (c for group in order(results) for c in group.languages):
        for method in methods(results):
            row = cells.get((method, code))
            if row is None:
                continue
            rates = _rate_cells(row.harmful_refusal, row.harmless_refusal, row.selectivity)
            rows.append((language_label(code), method, *rates))
            n = row.harmful_refusal.n_unscored + row.harmless_refusal.n_unscored
            if n:
                unscored.append(f"{language_label(code)} {method} {n}")
    note = f"Unscored, in no rate: {', '.join(unscored)}." if unscored else ""
    columns = ("Language", "Method", *_RATES)
    return make("Refusal by language", columns, "llrrrr", rows, note)


def _means(results: Results) -> Table:
    rows = [
        (
            f"{group_label(m.group)} ({len(m.languages)})",
            m.method,
            *_rate_cells(m.harmful_refusal, m.harmless_refusal, m.selectivity),
        )
        for m in results.macro
    ]
    return make("Means over languages", ("Mean over", "Method", *_RATES), "llrrrr", rows)


def _comparisons(results: Results) -> Table:
    rows = []
    for c in results.comparisons:
        reading = reading_of(c)
        inside = f" ({percent(c.low)}..{percent(c.high)})" if reading != "not measured" else ""
        rows.append(
            (
                f"{c.b} − {c.a}",
                c.group,
                metric_label(c.metric),
                points(c.delta) + inside,
                p_value(c.p_holm),
                short_reading(c),
            )
        )
    columns = ("Methods", "Over", "Metric", "Points", "Holm p", "Reading")
    return make("Paired comparisons", columns, "lllrrl", rows)


def _languages(results: Results) -> Table:
    method = reference_method(results)
    rows = []
    own = [c for c in results.language_comparisons if c.method == method]
    for c in own:
        if c.metric == "harmful_refusal":
            inside = f" ({percent(c.low)}..{percent(c.high)})" if c.low is not None else ""
            rows.append(
                (
                    language_label(c.b),
                    points(c.delta) + inside,
                    p_value(c.p_mcnemar),
                    p_value(c.p_holm),
                    str(c.n),
                    short_reading(c),
                )
            )
    against = language_name(own[0].a) if own else ""
    columns = ("Language", "Points", "McNemar p", "Holm p", "Pairs", "Reading")
    return make(f"Harmful refused against {against}, {method}", columns, "lrrrrl", rows)


def _errors(results: Results) -> Table:
    judge = judges_of(results)[0]
    rows = []
    for code in (c for group in order(results) for c in group.languages):
        known = judge.known(code)
        if known is None:
            rows.append((language_label(code), *(MISSING,) * 4, UNMEASURED))
            continue
        rates = (known.kappa, known.sensitivity, known.specificity)
        n = MISSING if known.n is None else str(known.n)
        rows.append((language_label(code), *map(decimal, rates), n, known.basis))
    columns = ("Language", "Kappa", "Sensitivity", "Specificity", "n", "Measured with")
    return make(f"Known errors of {judge.name}", columns, "lrrrrl", rows if judge.errors else ())


def _gate(results: Results) -> Table:
    cells = rows_by_key(results)
    languages = [c for group in order(results) for c in group.languages]
    rows = []
    for row in (cells.get((m, c)) for c in languages for m in methods(results)):
        if row is not None and row.gate is not None:
            rows.append(
                (
                    language_label(row.language),
                    row.method,
                    _cell(row.gate.selectivity, signed=True),
                    _cell(row.selectivity, signed=True),
                    percent(converted(row), 0),
                    decimal(row.gate.auroc),
                )
            )
    columns = ("Language", "Method", "Gate decides", "Replies show", "Converted, %", "AUROC")
    return make("Selectivity of the gate and of the replies", columns, "llrrrr", rows)


def _verdicts(diagnosis: Diagnosis) -> Table:
    rows = [
        (
            language_label(code),
            decimal(reading.topic.auroc if reading.topic else None),
            decimal(reading.twins.auroc if reading.twins else None),
            reading.verdict,
        )
        for code, reading in readings(diagnosis.contrasts).items()
    ]
    columns = ("Language", "Topic AUROC", "Twins AUROC", "Verdict")
    return make("Harm or form", columns, "lrrl", rows)
