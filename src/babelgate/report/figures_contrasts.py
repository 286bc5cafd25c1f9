"""Harm or form: the fitted gate on topic and twins side by side, with a verdict per language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..results import ContrastRow
from .chart import Key, Slot, axis, language_rows, legend, rows_height
from .figure import Figure, Layout
from .harm_or_form import Reading, chance_band
from .names import TierGroup, language_label, tier_label
from .numbers import MISSING, decimal, is_missing
from .svg import Canvas, Scale
from .tables import Table, make

_ROW = 26.0


def contrasts_figure(readings: Mapping[str, Reading], groups: Sequence[TierGroup]) -> Figure:
    """Draw topic and twins AUROC per language over the band that chance alone would fill."""
    known = [
        c.auroc
        for r in readings.values()
        for c in (r.topic, r.twins)
        if c is not None and c.auroc is not None and not is_missing(c.auroc)
    ]
    low = min([0.3, *(int(v * 10) / 10 for v in known)])

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        row = 46.0 if layout.compact else _ROW
        keys = [
            Key("topic", "s0", "circle"),
            Key("twins", "twins", "diamond"),
            Key("twins: within chance", "span", "swatch"),
        ]
        top = legend(canvas, layout, keys) + 24
        right = 12.0 if layout.compact else 240.0
        scale = Scale(low, 1, layout.label + 8, layout.width - right)
        bottom = top + rows_height(groups, row)
        axis(canvas, scale, top, bottom, lambda v: decimal(v, 1), 7)
        for slot in language_rows(canvas, layout, groups, top, row):
            _row(canvas, layout, scale, slot, readings[slot.key])
        canvas.height = bottom + 4
        return canvas

    caption = (
        "AUROC of the fitted gate on held-out prompts of the two contrasts. The grey band is "
        "where 95\u202f% of twins AUROCs would fall by chance with that many prompts "
        "(Mann-Whitney). A green diamond inside its band says that nothing shows that the gate "
        "knows harm in this language; if the topic point still lies far right, what it reads is "
        "form. “Reads harm” needs twins above chance and at least 0.70; “reads some harm” above "
        "chance only; a verdict of form needs enough twins for the band to be narrow."
    )
    tables = (_table(readings, groups),)
    return Figure("harm-or-form", "Harm or form", caption, draw, tables)


def _row(canvas: Canvas, layout: Layout, scale: Scale, slot: Slot, reading: Reading) -> None:
    y = slot.middle - (9 if layout.compact else 0)
    if reading.twins is not None:
        band = chance_band(reading.twins.n_harmful, reading.twins.n_harmless)
        if band is not None:
            canvas.rect(scale(0.5 - band), y - 7, scale(0.5 + band) - scale(0.5 - band), 14, "span")
    canvas.line(scale(0.5), slot.top, scale(0.5), slot.top + slot.height, "zero")
    topic, twins = (_auroc(reading.topic), _auroc(reading.twins))
    if topic is not None and twins is not None:
        canvas.line(scale(topic), y, scale(twins), y, "join")
    if topic is not None:
        canvas.mark("circle", scale(topic), y, 4.5, "s0", f"topic {decimal(topic)}")
    if twins is not None:
        canvas.mark("diamond", scale(twins), y, 4.5, "twins", f"twins {decimal(twins)}")
    css = f"small verdict-{reading.kind}"
    if layout.compact:
        canvas.text(scale.start, slot.top + slot.height - 6, reading.verdict, css)
    else:
        canvas.text(scale.end + 22, y + 4.5, reading.verdict, css)


def _auroc(row: ContrastRow | None) -> float | None:
    return None if row is None or is_missing(row.auroc) else row.auroc


def _table(readings: Mapping[str, Reading], groups: Sequence[TierGroup]) -> Table:
    rows = []
    for group in groups:
        for code in group.languages:
            reading = readings[code]
            rows.append(
                (
                    language_label(code),
                    tier_label(group.tier),
                    *_cells(reading.topic),
                    *_cells(reading.twins),
                    reading.verdict,
                )
            )
    return make(
        "Harm or form, by language",
        (
            "Language",
            "Tier",
            "Topic AUROC",
            "Topic bal. acc.",
            "Topic n",
            "Twins AUROC",
            "Twins bal. acc.",
            "Twins n",
            "Verdict",
        ),
        "llrrrrrrl",
        rows,
        "n: harmful + harmless prompts.",
    )


def _cells(row: ContrastRow | None) -> tuple[str, str, str]:
    if row is None:
        return MISSING, MISSING, MISSING
    n = f"{row.n_harmful} + {row.n_harmless}"
    return decimal(row.auroc), decimal(row.balanced_accuracy), n
