"""Small multiples: one small panel per language on a grid, in the report's order of languages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .chart import row_label
from .figure import Layout
from .names import TierGroup, tier_label
from .svg import Canvas

_GUTTER = 26.0
_TIER = 26.0
_TITLE = 22.0


@dataclass(frozen=True)
class Panel:
    """One language's drawing area below its name."""

    language: str
    left: float
    top: float
    width: float
    height: float
    first: bool

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width


def panels(
    canvas: Canvas, layout: Layout, groups: Sequence[TierGroup], top: float, height: float
) -> Iterator[Panel]:
    """Yield the panels, writing tiers and names; then ``canvas.height`` is set to fit them."""
    columns = 2 if layout.compact else 4
    gutter = 18.0 if layout.compact else _GUTTER
    width = (layout.width - gutter * (columns - 1)) / columns
    y = top
    for group in groups:
        canvas.text(0, y + _TIER - 9, tier_label(group.tier), "tier")
        canvas.line(0, y + _TIER - 2, layout.width, y + _TIER - 2, "frame")
        y += _TIER
        for i, code in enumerate(group.languages):
            column, line = i % columns, i // columns
            x = column * (width + gutter)
            panel_top = y + line * (height + _TITLE + 14) + _TITLE
            canvas.parts.append(f'<g transform="translate({x:.1f},0)">')
            row_label(canvas, layout, code, panel_top - 6, width)
            canvas.parts.append("</g>")
            yield Panel(code, x, panel_top, width, height, column == 0)
        y += math.ceil(len(group.languages) / columns) * (height + _TITLE + 14) + 4
    canvas.height = y
