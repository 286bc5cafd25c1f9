"""Before and after: every method beside the untouched model, per language and on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..results import MacroRow, Row
from ..types import Estimate
from .chart import (
    HEADING,
    Key,
    Slot,
    axis,
    language_rows,
    legend,
    nice_bounds,
    rows_height,
    series_css,
    series_shape,
)
from .figure import Figure, Layout
from .names import TierGroup, group_label
from .numbers import in_words, percent
from .svg import Canvas, Scale, shorten
from .tables import Table

# field of a row -> heading of its panel
_METRICS = {
    "harmful_refusal": "Harmful refused, %",
    "harmless_refusal": "Harmless refused, %",
    "selectivity": "Selectivity Δ, points",
}
Cells = Mapping[tuple[str, str], Row | MacroRow]


def methods_figure(
    rows: Mapping[tuple[str, str], Row],
    macro: Sequence[MacroRow],
    groups: Sequence[TierGroup],
    methods: Sequence[str],
    tables: tuple[Table, ...],
) -> Figure:
    """Draw three panels (harmful, harmless, selectivity), one mark per method and row."""
    cells: dict[tuple[str, str], Row | MacroRow] = dict(rows)
    means = list(dict.fromkeys(m.group for m in macro))
    mean_cells: Cells = {(m.method, m.group): m for m in macro}
    low, high = _selectivity_bounds([*rows.values(), *macro])

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key(m, series_css(i), series_shape(i)) for i, m in enumerate(methods)]
        missing = any(getattr(c, m).missing for c in [*rows.values(), *macro] for m in _METRICS)
        top = legend(canvas, layout, keys + [Key("not measured", "", "hatch")] * missing) + 14
        panels = [("harmful_refusal", 0.0, 1.0), ("harmless_refusal", 0.0, 1.0)]
        panels.append(("selectivity", low, high))
        # Side by side the panels share their labels; on a narrow screen they are stacked.
        if layout.compact:
            for metric, a, b in panels:
                scale = Scale(a, b, layout.label + 8, layout.width - 12)
                top = _panels(
                    canvas, layout, top, {metric: scale}, groups, means, methods, cells, mean_cells
                )
                top += 22
            canvas.height = top - 18
            return canvas
        gutter = 42
        width = (layout.width - layout.label - 8 - 2 * gutter - 14) / 3
        scales = {}
        for i, (metric, a, b) in enumerate(panels):
            start = layout.label + 8 + i * (width + gutter)
            scales[metric] = Scale(a, b, start, start + width)
        canvas.height = 4 + _panels(
            canvas, layout, top, scales, groups, means, methods, cells, mean_cells
        )
        return canvas

    caption = (
        "Each method on the same prompts, with 95\u202f% intervals: harmful prompts refused "
        "(more is better), harmless prompts refused (less is better), and the difference, "
        "selectivity. Means weigh every language equally. Overlapping intervals here do not "
        "mean that there is no difference, since the prompts are paired; the comparisons below "
        "take that into account."
    )
    return Figure("before-after", "Before and after, by language", caption, draw, tables)


def _selectivity_bounds(cells: Sequence[Row | MacroRow]) -> tuple[float, float]:
    known = [c.selectivity for c in cells if not c.selectivity.missing]
    ends = [end for e in known for end in (e.low, e.high)]
    return nice_bounds(ends, 0, 0.6)


def _panels(
    canvas: Canvas,
    layout: Layout,
    top: float,
    scales: Mapping[str, Scale],
    groups: Sequence[TierGroup],
    means: Sequence[str],
    methods: Sequence[str],
    cells: Cells,
    mean_cells: Cells,
) -> float:
    """Draw panels that share their row labels, and return the y below them."""
    row = max(26.0, 8 + 9.0 * len(methods))
    body = top + 44
    bottom = body + rows_height(groups, row) + (HEADING + row * len(means) if means else 0)
    for metric, scale in scales.items():
        canvas.text(scale.start, top + 14, _METRICS[metric], "panel")
        axis(canvas, scale, body, bottom, lambda v: percent(v, 0), 4)
    slots = [(slot, cells) for slot in language_rows(canvas, layout, groups, body, row)]
    slots += [(s, mean_cells) for s in _mean_rows(canvas, layout, means, bottom, row)]
    for slot, source in slots:
        for metric, scale in scales.items():
            for i, method in enumerate(methods):
                y = slot.middle + (i - (len(methods) - 1) / 2) * 9
                cell = source.get((method, slot.key))
                estimate = getattr(cell, metric) if cell is not None else None
                _mark(canvas, scale, y, estimate, i, f"{slot.key}, {method}")
    return bottom


def _mean_rows(
    canvas: Canvas, layout: Layout, means: Sequence[str], bottom: float, row: float
) -> list[Slot]:
    if not means:
        return []
    y = bottom - row * len(means)
    canvas.rect(0, y - HEADING + 4, layout.width, bottom - y + HEADING - 4, "band")
    canvas.text(0, y - 9, "Means over languages", "tier")
    canvas.line(0, y - 1, layout.width, y - 1, "frame")
    slots = []
    for group in means:
        name = group.capitalize() if layout.compact else group_label(group)
        label = shorten(name, layout.label - 10, 13)
        canvas.text(0, y + row / 2 + 4.5, label, "label strong")
        slots.append(Slot(group, y, row))
        y += row
    return slots


def _mark(
    canvas: Canvas, scale: Scale, y: float, estimate: Estimate | None, index: int, what: str
) -> None:
    if estimate is None:
        return
    if estimate.missing:
        hint = f"{what}: not measured, {estimate.n_unscored} unscored"
        canvas.hatch(scale.start, y - 3, scale.end - scale.start, 6, hint)
        return
    css = series_css(index)
    canvas.whisker(scale(estimate.low), scale(estimate.high), y, css)
    hint = f"{what}: {in_words(estimate)}, n = {estimate.n}"
    canvas.mark(series_shape(index), scale(estimate.value), y, 4, css, hint)
