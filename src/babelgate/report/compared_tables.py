"""The tables of a comparison of methods, the same for every kind of output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..comparing.results import Comparison, MethodFacts
from ..types import Estimate
from .compared_values import (
    ALL,
    FAMILIES,
    difference_of,
    estimate_of,
    languages_of,
    ordered,
    worst_rise,
)
from .names import language_label
from .numbers import MISSING, decimal, is_missing, p_value, percent, points
from .result_tables import metric_label
from .tables import Table, make

#: Metrics that other reports do not know, in words.
_LABELS = {"degenerate": "degenerate replies", "gate_selectivity": "selectivity of the decision Δ"}


def divergence_cell(method: MethodFacts, digits: int = 2) -> str:
    """Return the divergence, or the share answered with fixed words where nothing is generated."""
    said = method.said
    part = "" if said is None or is_missing(said) or said <= 0 else f"{percent(said, 0)} % fixed"
    if is_missing(method.kl):
        return f"{part} words" if part else MISSING
    return decimal(method.kl, digits) + (f" ({part})" if part else "")


def latency_cell(method: MethodFacts) -> str:
    """Return how many times the untouched model's time a reply takes."""
    return MISSING if is_missing(method.latency) else f"{decimal(method.latency)}×"


def interval_cell(estimate: Estimate, *, signed: bool = False, digits: int = 0) -> str:
    """Return ``84 (76..90)`` in per cent, or in points with a sign."""
    if estimate.missing:
        return MISSING
    value = (points if signed else percent)(estimate.value, digits)
    if is_missing(estimate.low) or is_missing(estimate.high):
        return value
    return f"{value} ({percent(estimate.low, digits)}..{percent(estimate.high, digits)})"


# A column: its heading, its alignment, and its cell of a method.
Column = tuple[str, str, Callable[[MethodFacts], str]]


def _columns(comparison: Comparison, digits: int) -> dict[str, list[Column]]:
    """Return the columns on what replies show, what it costs, and what decides."""

    def rate(metric: str, method: str) -> str:
        return percent(estimate_of(comparison, method, metric).value, digits)

    def change(m: MethodFacts) -> str:
        found = difference_of(comparison, m.name, "selectivity")
        return MISSING if found is None else points(found.delta, digits)

    def holm(m: MethodFacts) -> str:
        found = difference_of(comparison, m.name, "selectivity")
        return MISSING if found is None else p_value(found.p_holm)

    def rise(m: MethodFacts) -> str:
        found = worst_rise(comparison, m.name)
        return MISSING if found is None else f"{points(found[0], digits)} {found[1]}"

    def decides(m: MethodFacts) -> str:
        return points(estimate_of(comparison, m.name, "gate_selectivity").value, digits)

    def auroc(m: MethodFacts) -> str:
        row = comparison.row(m.name, ALL)
        return MISSING if row is None else decimal(row.auroc)

    def spread(m: MethodFacts) -> str:
        row = comparison.row(m.name, ALL)
        return MISSING if row is None else percent(row.seed_sd, 1)

    def selectivity(m: MethodFacts) -> str:
        value = estimate_of(comparison, m.name, "selectivity")
        return interval_cell(value, signed=True, digits=digits)

    return {
        "replies": [
            ("Selectivity", "r", selectivity),
            ("Change", "r", change),
            ("Holm p", "r", holm),
            ("Harmful %", "r", lambda m: rate("harmful_refusal", m.name)),
            ("Harmless %", "r", lambda m: rate("harmless_refusal", m.name)),
        ],
        "costs": [
            ("Worst rise", "r", rise),
            ("Degenerate %", "r", lambda m: rate("degenerate", m.name)),
            ("KL, nats", "r", divergence_cell),
            ("Latency", "r", latency_cell),
        ],
        "decisions": [
            ("Decides", "r", decides),
            ("AUROC", "r", auroc),
            ("Seed SD", "r", spread),
        ],
    }


METHODS_NOTE = (
    "Change and Holm p: selectivity against the untouched model on the same prompts. Worst rise: "
    "of harmless refusals in the language where they rise most. Decides: selectivity of the "
    "decision itself, before anything is said. Fixed: the share of harmless prompts answered with "
    "fixed words, where no divergence exists. Seed SD: of selectivity, over draws of the shots, in "
    "points."
)


def methods_tables(comparison: Comparison, *, digits: int = 1, apart: bool = False) -> list[Table]:
    """Return one row per method over all languages: one table, or three narrow ones if
    ``apart``.
    """
    parts = _columns(comparison, digits)
    names: list[Column] = [
        ("Method", "l", lambda m: m.name),
        ("Family", "l", lambda m: FAMILIES.get(m.family, m.family)),
    ]
    title = "Methods over all languages"
    if apart:
        return [
            _filled(comparison, f"{title}: {part}", [names[0], *columns], "")
            for part, columns in parts.items()
        ]
    everything = [column for columns in parts.values() for column in columns]
    return [_filled(comparison, title, [*names, *everything], METHODS_NOTE)]


def _filled(comparison: Comparison, title: str, columns: Sequence[Column], note: str) -> Table:
    rows = [[cell(m) for _, _, cell in columns] for m in ordered(comparison)]
    align = "".join(a for _, a, _ in columns)
    return make(title, [name for name, _, _ in columns], align, rows, note)


def language_tables(
    comparison: Comparison,
    metric: str = "selectivity",
    *,
    digits: int = 1,
    per_table: int = 1000,
    codes: bool = False,
) -> list[Table]:
    """Return one metric by method and language, at most ``per_table`` languages a table."""
    languages = languages_of(comparison)
    write = points if metric in ("selectivity", "gate_selectivity") else percent
    tables = []
    for start in range(0, len(languages), per_table):
        some = languages[start : start + per_table]
        rows = [
            [m.name]
            + [write(estimate_of(comparison, m.name, metric, x).value, digits) for x in some]
            for m in ordered(comparison)
        ]
        heads = [x if codes else language_label(x) for x in some]
        unit = "points" if write is points else "%"
        label = _LABELS.get(metric, metric_label(metric))
        title = f"{label[:1].upper()}{label[1:]} by language, {unit}"
        tables.append(make(title, ["Method", *heads], "l" + "r" * len(some), rows))
    return tables


def described_table(comparison: Comparison) -> Table:
    """Return what each method is, which labels it used, and what it does to a prompt."""
    rows = [
        (
            m.name,
            FAMILIES.get(m.family, m.family),
            m.summary or MISSING,
            m.fired or MISSING,
            MISSING if m.silent == m.fired else m.silent,
            m.labels or MISSING,
            MISSING if m.layer is None else str(m.layer),
        )
        for m in ordered(comparison)
    ]
    columns = ("Method", "Family", "What it is", "Where it fires", "Elsewhere", "Labels", "Block")
    note = (
        "Methods that name the same treatment share its replies. Labels: labelled examples used. "
        "Block: the last one that the decision reads, or where the method acts."
    )
    return make("Methods", columns, "llllllr", rows, note)


def costs_table(comparison: Comparison) -> Table:
    """Return what each method costs on harmless prompts, and in time."""
    rows = [
        (
            m.name,
            decimal(m.kl, 3),
            MISSING if is_missing(m.kl) else str(m.kl_n),
            percent(m.said),
            percent(estimate_of(comparison, m.name, "degenerate_harmful").value),
            percent(estimate_of(comparison, m.name, "degenerate_harmless").value),
            latency_cell(m),
            MISSING
            if is_missing(m.latency_low) or is_missing(m.latency_high)
            else f"{decimal(m.latency_low)} to {decimal(m.latency_high)}",
        )
        for m in ordered(comparison)
    ]
    columns = (
        *("Method", "KL, nats", "n", "Fixed words, %", "Degenerate harmful, %"),
        *("Degenerate harmless, %", "Latency", "Quartiles"),
    )
    note = (
        "KL divergence of the next token from the untouched model's, mean over the n harmless "
        "prompts on which something is generated. Latency: time of a reply over the untouched "
        "model's in the same run."
    )
    return make("Costs", columns, "l" + "r" * 7, rows, note)
