"""What the figures share: a legend, an axis, and rows of languages grouped by tier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .figure import Layout
from .names import TierGroup, language_name, tier_label
from .numbers import percent
from .palette import SERIES
from .svg import SHAPES, Canvas, Scale, clean, shorten, text_width

HEADING = 30.0
_LEGEND_LINE = 21.0


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a mark, a swatch (shape ``swatch``), or hatching (``hatch``)."""

    label: str
    css: str
    shape: str = "circle"


@dataclass(frozen=True)
class Slot:
    """The horizontal band of one row."""

    key: str
    top: float
    height: float

    @property
    def middle(self) -> float:
        """The vertical centre."""
        return self.top + self.height / 2


def series_css(index: int) -> str:
    """Return the colour class of a method or rule; index 0 is the reference."""
    return f"s{index if index < SERIES else 1 + (index - 1) % (SERIES - 1)}"


def series_shape(index: int) -> str:
    """Return the shape of a method or rule, so that colour is never the only difference."""
    return SHAPES[index % len(SHAPES)]


def legend(canvas: Canvas, layout: Layout, keys: Sequence[Key], top: float = 0) -> float:
    """Draw a legend that wraps, and return the y below it."""
    size = 12 if layout.compact else 13
    x, y = 0.0, top + 12
    for key in keys:
        label = shorten(key.label, layout.width - 24, size)
        width = 22 + text_width(label, size) + 16
        if x > 0 and x + width - 16 > layout.width:
            x, y = 0.0, y + _LEGEND_LINE
        if key.shape == "swatch":
            canvas.rect(x, y - 6, 14, 10, key.css)
        elif key.shape == "hatch":
            canvas.hatch(x, y - 6, 14, 10)
        else:
            canvas.mark(key.shape, x + 7, y - 1, 4.5, key.css)
        canvas.text(x + 20, y + 3.5, label, "small")
        x += width
    return y + 12


def axis(
    canvas: Canvas,
    scale: Scale,
    top: float,
    bottom: float,
    write: Callable[[float], str] = lambda v: percent(v, 0),
    most: int = 5,
) -> None:
    """Draw vertical grid lines with their values above; zero is drawn stronger."""
    for tick in scale.ticks(most):
        x = scale(tick)
        canvas.line(x, top, x, bottom, "zero" if tick == 0 and scale.low < 0 else "grid")
        canvas.text(x, top - 6, write(tick), "tick", "middle")


def rows_height(groups: Sequence[TierGroup], row: float) -> float:
    """Return the height that :func:`language_rows` will take."""
    return sum(HEADING + row * len(g.languages) for g in groups)


def language_rows(
    canvas: Canvas, layout: Layout, groups: Sequence[TierGroup], top: float, row: float
) -> list[Slot]:
    """Write tier headings and language names at the left, and return the bands of the rows."""
    slots = []
    y = top
    for group in groups:
        canvas.text(0, y + HEADING - 9, tier_label(group.tier), "tier")
        canvas.line(0, y + HEADING - 1, layout.width, y + HEADING - 1, "frame")
        y += HEADING
        for code in group.languages:
            row_label(canvas, layout, code, y + row / 2 + 4.5)
            slots.append(Slot(code, y, row))
            y += row
            canvas.line(0, y, layout.width, y, "row")
    return slots


def row_label(canvas: Canvas, layout: Layout, code: str, y: float, width: float = 0) -> None:
    """Write a language's name, and its code where there is room for it."""
    size = 12 if layout.compact else 13
    room = (width or layout.label) - 10
    name = shorten(language_name(code), room, size)
    both = text_width(f"{name} {code}", size) + 6
    tail = ""
    if name != code and both <= room:
        tail = f'<tspan class="code" dx="6">{clean(code)}</tspan>'
    css = "small" if layout.compact else "label"
    canvas.parts.append(f'<text x="0" y="{y:.1f}" class="{css}">{clean(name)}{tail}</text>')


def nice_bounds(values: Iterable[float], low: float, high: float) -> tuple[float, float]:
    """Widen ``low .. high`` to hold all values, in steps of 0.1, and at most -1 .. 1."""
    found = [v for v in values if math.isfinite(v)]
    least = math.floor(min([low, *found]) * 10 + 1e-9) / 10
    most = math.ceil(max([high, *found]) * 10 - 1e-9) / 10
    return max(-1.0, least), min(1.0, most)
