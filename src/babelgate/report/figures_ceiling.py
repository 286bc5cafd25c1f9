"""What the gate decides beside what the replies show: how much of the ceiling was converted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..results import Row
from .chart import Key, Slot, axis, language_rows, legend, nice_bounds, rows_height
from .figure import Figure, Layout
from .names import TierGroup, language_label, tier_label
from .numbers import MISSING, decimal, in_words, percent, points, span
from .svg import Canvas, Scale
from .tables import make

_ROW = 30.0
_LEAST_CEILING = 0.05  # a share of less than 5 points says nothing


def converted(row: Row) -> float | None:
    """Return achieved selectivity over the gate's own, or None where that says nothing.

    It needs a ceiling that is measured, at least 5 points high and distinguishable from 0.
    """
    if row.gate is None or row.gate.selectivity.missing or row.selectivity.missing:
        return None
    ceiling = row.gate.selectivity
    if ceiling.value < _LEAST_CEILING or not ceiling.low > 0:
        return None
    return row.selectivity.value / ceiling.value


def ceiling_figure(
    method: str,
    place: int,
    rows: Mapping[str, Row],
    base: Mapping[str, Row],
    groups: Sequence[TierGroup],
) -> Figure:
    """Draw the gate's selectivity as an outline and the achieved one as a bar inside it.

    ``place`` is the method's number, used where its name cannot name a file.
    """
    ends = [r.selectivity.low for r in rows.values() if not r.selectivity.missing]
    ends += [r.gate.selectivity.value for r in rows.values() if r.gate is not None]
    ends += [r.selectivity.value for r in base.values()]
    low, high = nice_bounds(ends, 0, 1)

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [
            Key("the gate decides (ceiling)", "ceiling", "swatch"),
            Key("the replies show", "achieved", "swatch"),
            Key("without the gate", "s0", "bar"),
        ]
        top = legend(canvas, layout, keys) + (36 if layout.compact else 24)
        scale = Scale(low, high, layout.label + 8, layout.width - (62 if layout.compact else 96))
        bottom = top + rows_height(groups, _ROW)
        axis(canvas, scale, top, bottom, lambda v: percent(v, 0), 5)
        canvas.text(layout.width, top - (20 if layout.compact else 6), "converted", "tick", "end")
        for slot in language_rows(canvas, layout, groups, top, _ROW):
            _row(canvas, layout, scale, slot, rows.get(slot.key), base.get(slot.key))
        canvas.height = bottom + 4
        return canvas

    caption = (
        "Selectivity in points. The outline is what the gate decides: the share of harmful "
        "prompts on which it fires minus that of harmless ones. No action can do better than "
        "this ceiling by following the gate. The bar is what the replies then show, with its "
        "95\u202f% interval; “converted” is bar over outline. A wide outline with a short bar "
        "means that the gate knows and the action does not work; a bar beyond its outline owes "
        "something to the model's own refusals. No share is given where the ceiling is below 5 "
        "points or may be 0."
    )
    # A name becomes an id and a file name, and a method may be called anything.
    name = f"ceiling-{method if re.fullmatch('[A-Za-z0-9_-]+', method) else f'method-{place}'}"
    title = f"What “{method}” decides and what it achieves"
    return Figure(name, title, caption, draw, (_table(method, rows, groups),))


def _row(
    canvas: Canvas, layout: Layout, scale: Scale, slot: Slot, row: Row | None, base: Row | None
) -> None:
    y = slot.middle
    if row is None or row.gate is None:
        return
    ceiling, achieved = row.gate.selectivity, row.selectivity
    if ceiling.missing:
        canvas.hatch(scale(0), y - 9, scale(1) - scale(0), 18, f"{slot.key}: gate not measured")
    else:
        hint = f"{slot.key}: gate selectivity {in_words(ceiling)}"
        canvas.rect(scale(0), y - 9, scale(ceiling.value) - scale(0), 18, "ceiling", hint)
    if achieved.missing:
        canvas.hatch(scale(0), y - 4, scale(1) - scale(0), 8, f"{slot.key}: replies not scored")
    else:
        hint = f"{slot.key}: achieved {in_words(achieved)}, n = {achieved.n}"
        canvas.rect(scale(0), y - 4, scale(achieved.value) - scale(0), 8, "achieved", hint)
        canvas.whisker(scale(achieved.low), scale(achieved.high), y, "s1")
        canvas.mark("circle", scale(achieved.value), y, 4, "s1", hint)
    if base is not None and not base.selectivity.missing:
        hint = f"{slot.key}: without the gate {in_words(base.selectivity)}"
        canvas.mark("bar", scale(base.selectivity.value), y, 9, "s0", hint)
    share = converted(row)
    text = MISSING if share is None else f"{percent(share, 0)}\u202f%"
    canvas.text(layout.width, y + 4.5, text, "value", "end")


def _table(method: str, rows: Mapping[str, Row], groups: Sequence[TierGroup]):
    cells = []
    for group in groups:
        for code in group.languages:
            row = rows[code]
            gate = row.gate
            if gate is None:
                continue
            cells.append(
                (
                    language_label(code),
                    tier_label(group.tier),
                    percent(gate.fired_harmful.value),
                    percent(gate.fired_harmless.value),
                    points(gate.selectivity.value),
                    span(gate.selectivity.low, gate.selectivity.high),
                    points(row.selectivity.value),
                    span(row.selectivity.low, row.selectivity.high),
                    percent(converted(row), 0),
                    decimal(gate.auroc),
                    decimal(gate.balanced_accuracy),
                    decimal(gate.threshold),
                    ", ".join(f"{k} {n}" for k, n in gate.identified.items()) or MISSING,
                )
            )
    return make(
        f"Gate and replies, {method}",
        (
            "Language",
            "Tier",
            "Fired on harmful, %",
            "Fired on harmless, %",
            "Gate Δ",
            "95 %",
            "Achieved Δ",
            "95 %",
            "Converted, %",
            "AUROC",
            "Balanced accuracy",
            "Threshold",
            "Identified as",
        ),
        "llrrrrrrrrrrl",
        cells,
    )
