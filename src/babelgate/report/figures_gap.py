"""The refusal gap: how much the untouched model refuses, by language and tier."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import Row
from ..types import Estimate
from .chart import Key, Slot, axis, language_rows, legend, rows_height
from .figure import Figure, Layout
from .names import TierGroup
from .numbers import in_words, points, span
from .svg import Canvas, Scale
from .tables import Table

_ROW = 28.0
_KEYS = (
    Key("harmful prompts refused", "harmful"),
    Key("harmless prompts refused", "harmless", "diamond"),
    Key("between them: selectivity", "span", "swatch"),
    Key("not measured", "", "hatch"),
)


def gap_figure(
    rows: dict[str, Row], groups: Sequence[TierGroup], method: str, tables: tuple[Table, ...]
) -> Figure:
    """Draw harmful and harmless refusal rates of one method per language."""
    missing = any(r.harmful_refusal.missing or r.harmless_refusal.missing for r in rows.values())
    keys = _KEYS if missing else _KEYS[:3]

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = legend(canvas, layout, keys) + 24
        right = 70 if layout.compact else 110
        scale = Scale(0, 1, layout.label + 8, layout.width - right)
        bottom = top + rows_height(groups, _ROW)
        axis(canvas, scale, top, bottom, lambda v: f"{100 * v:.0f}\u202f%", 4)
        canvas.text(layout.width, top - 6, "Δ" if layout.compact else "Δ, points", "tick", "end")
        for slot in language_rows(canvas, layout, groups, top, _ROW):
            _row(canvas, layout, scale, slot, rows.get(slot.key))
        canvas.height = bottom + 4
        return canvas

    caption = (
        f"Refusal rates of “{method}” with 95\u202f% intervals, grouped by resource tier and "
        "sorted by the harmful refusal rate. A safe model has the orange point at the right and "
        "the blue one at the left; the bar between them is the selectivity Δ, harmful minus "
        "harmless, reddish where it is below 0. A language where both points lie at the right "
        "refuses everything, harm or not."
    )
    return Figure("refusal-gap", "Refusal gap by language", caption, draw, tables)


def _row(canvas: Canvas, layout: Layout, scale: Scale, slot: Slot, row: Row | None) -> None:
    if row is None:
        canvas.hatch(scale.start, slot.top + 8, scale.end - scale.start, slot.height - 16)
        return
    a, b = row.harmless_refusal, row.harmful_refusal
    y = slot.middle
    if not a.missing and not b.missing:
        css = "span" if b.value >= a.value else "inverted"
        canvas.rect(scale(a.value), y - 4, scale(b.value) - scale(a.value), 8, css)
    _point(canvas, scale, y - 4.5, b, "harmful", "circle", f"{slot.key}: harmful prompts refused")
    _point(canvas, scale, y + 4.5, a, "harmless", "diamond", f"{slot.key}: harmless refused")
    delta = row.selectivity
    canvas.text(layout.width, y + 4.5, points(delta.value, 0), "value", "end")
    if not layout.compact and not delta.missing:
        width = span(delta.low, delta.high, 0).replace(" to ", "…")
        canvas.text(layout.width - 34, y + 4.5, width, "tick", "end")


def _point(
    canvas: Canvas, scale: Scale, y: float, e: Estimate, css: str, shape: str, what: str
) -> None:
    if e.missing:
        hint = f"{what}: not measured, {e.n_unscored} unscored"
        canvas.hatch(scale.start, y - 3, scale.end - scale.start, 6, hint)
        return
    canvas.whisker(scale(e.low), scale(e.high), y, css)
    canvas.mark(shape, scale(e.value), y, 4.5, css, f"{what}: {in_words(e)}, n = {e.n}")
