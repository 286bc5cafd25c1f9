"""Methods on two axes: harmful against harmless refusal, with the Pareto frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..comparing.results import Comparison
from .chart import legend
from .compared_tables import methods_tables
from .figure import Figure, Layout
from .numbers import decimal, listed, percent
from .placing import Box, Named, place, write
from .spots import Spot, ends_of, family_keys, frontier, spots_of, whiskers
from .svg import Canvas, Scale, shorten, text_width

_LONGEST_NAME = 30


def pareto_figure(comparison: Comparison) -> Figure | None:
    """Draw harmful over harmless refusal, a mark per method; None where nothing was scored."""
    spots, missing = spots_of(comparison)
    if not spots:
        return None
    best = frontier(spots)

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = legend(canvas, layout, family_keys(spots)) + 44
        height = 330.0 if layout.compact else 480.0
        x_of, y_of = _scales(spots, layout, top, height)
        canvas.text(0, top - 20, "Harmful refused, %", "panel")
        _grid(canvas, x_of, y_of)
        _diagonals(canvas, x_of, y_of)
        title = "Harmless refused, %"
        canvas.text(x_of.end, y_of.start + 38, title, "panel", "end")
        _staircase(canvas, best, x_of, y_of)
        for spot in spots:
            whiskers(canvas, spot, x_of, y_of)
        for spot in reversed(spots):  # the first ones, which matter most, lie on top
            css, shape = spot.look
            canvas.mark(shape, x_of(spot.x.value), y_of(spot.y.value), 5, css, spot.hint)
        inside = Box(x_of.start + 2, y_of.end - 4, x_of.end + 34, y_of.start - 2)
        below = y_of.start + 50
        canvas.height = _names(canvas, layout, spots, best, (x_of, y_of), inside, below)
        return canvas

    caption = (
        "Each method over all languages, which weigh alike, with 95\u202f% intervals. Up is better "
        "(harmful prompts refused), left is better (harmless prompts refused). Along a dotted "
        "diagonal selectivity is the same: a method that refuses more of everything moves along "
        "it and gains nothing. The solid line is the Pareto frontier: no method is at least as "
        "good as those on it in both and better in one. It follows the point values, so a method "
        "whose interval reaches the line may belong on it."
    )
    if missing:
        caption += f" Not drawn, since nothing was scored: {listed(missing)}."
    return Figure("pareto", "What is refused", caption, draw, tuple(methods_tables(comparison)))


def _range(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return round ends (steps of 0.05) around all values, at least so far apart, in 0..1."""
    values = [min(1.0, max(0.0, v)) for v in values]
    low = max(0.0, math.floor(min(values) * 20 - 0.2) / 20)
    high = min(1.0, math.ceil(max(values) * 20 + 0.2) / 20)
    if high - low < least:
        low = min(max(0.0, round(20 * ((low + high) / 2 - least / 2)) / 20), 1 - least)
        high = low + least
    return low, high


def _scales(
    spots: Sequence[Spot], layout: Layout, top: float, height: float
) -> tuple[Scale, Scale]:
    x_low, x_high = _range([v for s in spots for v in ends_of(s.x)], 0.2)
    y_low, y_high = _range([v for s in spots for v in ends_of(s.y)], 0.2)
    x_of = Scale(x_low, x_high, 34, layout.width - 38)
    return x_of, Scale(y_low, y_high, top + height, top)


def _grid(canvas: Canvas, x_of: Scale, y_of: Scale) -> None:
    for tick in x_of.ticks(6):
        canvas.line(x_of(tick), y_of.start, x_of(tick), y_of.end, "grid")
        canvas.text(x_of(tick), y_of.start + 18, percent(tick, 0), "tick", "middle")
    for tick in y_of.ticks(6):
        canvas.line(x_of.start, y_of(tick), x_of.end, y_of(tick), "grid")
        canvas.text(x_of.start - 6, y_of(tick) + 4, percent(tick, 0), "tick", "end")
    canvas.line(x_of.start, y_of.start, x_of.end, y_of.start, "frame")
    canvas.line(x_of.start, y_of.start, x_of.start, y_of.end, "frame")


def _diagonals(canvas: Canvas, x_of: Scale, y_of: Scale) -> None:
    """Draw lines of equal selectivity, written where they leave at the top or at the right."""
    shift = Scale(y_of.low - x_of.high, y_of.high - x_of.low, 0, 1)
    last = -math.inf
    for level in sorted(shift.ticks(12), reverse=True):
        low = max(x_of.low, y_of.low - level)
        high = min(x_of.high, y_of.high - level)
        if high - low < 0.12 * (x_of.high - x_of.low):
            continue
        ends = [(x_of(x), y_of(x + level)) for x in (low, high)]
        canvas.line(*ends[0], *ends[1], "iso")
        x, y = ends[1]
        label = f"Δ {decimal(100 * level, 0)}"
        if y > y_of.end + 1:  # it leaves at the right
            canvas.text(x + 4, y + 4, label, "tick")
        elif x - last > 44:
            canvas.text(x, y - 6, label, "tick", "middle")
            last = x


def _staircase(canvas: Canvas, best: Sequence[Spot], x_of: Scale, y_of: Scale) -> None:
    """Draw the edge of what the frontier beats: up at a method, then right to the next one."""
    path = f"M{x_of(best[0].x.value):.1f},{y_of.start:.1f}"
    for spot in best:
        path += f"H{x_of(spot.x.value):.1f}V{y_of(spot.y.value):.1f}"
    canvas.add("path", "frontier", d=f"{path}H{x_of.end:.1f}")


def _names(
    canvas: Canvas,
    layout: Layout,
    spots: Sequence[Spot],
    best: Sequence[Spot],
    scales: tuple[Scale, Scale],
    inside: Box,
    below: float,
) -> float:
    """Write names at the marks, or numbers with a list below, and return the y below it all."""
    x_of, y_of = scales
    first = sorted(range(len(spots)), key=lambda i: (spots[i] not in best, i))
    size = 12.5

    def named(i: int, text: str) -> Named:
        strong = " strong" if spots[i] in best else ""
        return Named(x_of(spots[i].x.value), y_of(spots[i].y.value), text, f"small{strong}")

    short = [s.name if len(s.name) <= _LONGEST_NAME else f"{s.name[:29]}…" for s in spots]
    placed = place([named(i, short[i]) for i in first], inside, size, reach=64)
    if all(p is not None for p in placed):
        write(canvas, placed)
        return below
    numbers = [str(i + 1) for i in range(len(spots))]
    write(canvas, place([named(i, numbers[i]) for i in first], inside, size))
    return _list(canvas, layout, spots, best, below)


def _list(
    canvas: Canvas, layout: Layout, spots: Sequence[Spot], best: Sequence[Spot], top: float
) -> float:
    """Write numbers, marks and names in columns, and return the y below them."""
    columns = 1 if layout.compact else 3
    lines = math.ceil(len(spots) / columns)
    width = layout.width / columns
    for i, spot in enumerate(spots):
        x, y = (i // lines) * width, top + 18 + (i % lines) * 19
        canvas.text(x + 20, y, str(i + 1), "small strong" if spot in best else "small", "end")
        css, shape = spot.look
        canvas.mark(shape, x + 32, y - 4, 4.5, css)
        value = percent(spot.y.value - spot.x.value, 0)
        tail = f"Δ {value}"
        room = width - 46 - text_width(tail, 12.5) - 20
        name = shorten(spot.name, room, 12.5)
        canvas.text(x + 44, y, name, "small strong" if spot in best else "small")
        canvas.text(x + width - 18, y, tail, "tick", "end")
    return top + 18 + lines * 19
