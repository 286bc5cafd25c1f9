"""Methods as points: harmful against harmless refusal, and what selectivity costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..comparing.results import Comparison
from ..types import Estimate
from .chart import Key, legend
from .compared_tables import (
    FAMILIES,
    costs_table,
    estimate_of,
    methods_tables,
    ordered,
)
from .figure import Figure, Layout
from .names import BASE
from .numbers import decimal, in_words, listed, percent
from .placing import Box, Named, place, write
from .svg import Canvas, Scale, shorten, text_width

#: Family -> colour class and shape.
_LOOKS = {
    "base": ("s0", "circle"),
    "gate": ("s1", "diamond"),
    "paper": ("s2", "square"),
    "rival": ("s5", "triangle"),
    "control": ("s6", "cross"),
}
_UNKNOWN = ("s7", "down")
_LONGEST_NAME = 30
_MOST_COST = 1e6


@dataclass(frozen=True)
class Spot:
    """A method in a picture: two estimates, of which ``x`` may have no interval."""

    name: str
    family: str
    x: Estimate
    y: Estimate

    @property
    def look(self) -> tuple[str, str]:
        """Colour class and shape."""
        return _LOOKS.get(self.family, _UNKNOWN)

    @property
    def hint(self) -> str:
        """What is shown when the pointer rests on the mark."""
        return f"{self.name}: {in_words(self.y)} harmful, {in_words(self.x)} harmless refused"


def frontier(spots: Sequence[Spot]) -> list[Spot]:
    """Return the spots that no other beats on both axes (less ``x``, more ``y``), by ``x``.

    A spot is beaten by one that is at least as good on both axes and better on one.
    """
    found: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.x.value, -s.y.value)):
        best = found[-1] if found else None
        same = best is not None and (spot.x.value, spot.y.value) == (best.x.value, best.y.value)
        if best is None or same or spot.y.value > best.y.value:
            found.append(spot)
    return found


def spots_of(comparison: Comparison) -> tuple[list[Spot], list[str]]:
    """Return the methods that can be drawn, in the order of the tables, and those that cannot."""
    spots, missing = [], []
    for method in ordered(comparison):
        x, y = (
            estimate_of(comparison, method.name, metric)
            for metric in ("harmless_refusal", "harmful_refusal")
        )
        if not (math.isfinite(x.value) and math.isfinite(y.value)):
            missing.append(method.name)
        else:
            spots.append(Spot(method.name, method.family, x, y))
    return spots, missing


def pareto_figure(comparison: Comparison) -> Figure | None:
    """Draw harmful over harmless refusal, a mark per method; None where nothing was scored."""
    spots, missing = spots_of(comparison)
    if not spots:
        return None
    best = frontier(spots)

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = legend(canvas, layout, _keys(spots)) + 44
        height = 330.0 if layout.compact else 480.0
        x_of, y_of = _scales(spots, layout, top, height)
        canvas.text(0, top - 20, "Harmful refused, %", "panel")
        _grid(canvas, x_of, y_of)
        _diagonals(canvas, x_of, y_of)
        title = "Harmless refused, %"
        canvas.text(x_of.end, y_of.start + 38, title, "panel", "end")
        _staircase(canvas, best, x_of, y_of)
        for spot in spots:
            _cross(canvas, spot, x_of, y_of)
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


def _keys(spots: Sequence[Spot]) -> list[Key]:
    families = {s.family: s.look for s in spots}
    known = [f for f in FAMILIES if f in families]
    rest = [f for f in families if f not in FAMILIES]
    return [Key(FAMILIES.get(f, f), *families[f]) for f in (*known, *rest)]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    """Return the value and the ends of its interval, which is a point where there is none."""
    low, high, value = estimate.low, estimate.high, estimate.value
    return value, low if math.isfinite(low) else value, high if math.isfinite(high) else value


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
    x_low, x_high = _range([v for s in spots for v in _ends(s.x)], 0.2)
    y_low, y_high = _range([v for s in spots for v in _ends(s.y)], 0.2)
    x_of = Scale(x_low, x_high, 34, layout.width - 38)
    return x_of, Scale(y_low, y_high, top + height, top)


def _grid(
    canvas: Canvas,
    x_of: Scale,
    y_of: Scale,
    write_x: Callable[[float], str] = lambda v: percent(v, 0),
    write_y: Callable[[float], str] = lambda v: percent(v, 0),
    most: int = 6,
) -> None:
    for tick in x_of.ticks(most):
        canvas.line(x_of(tick), y_of.start, x_of(tick), y_of.end, "grid")
        canvas.text(x_of(tick), y_of.start + 18, write_x(tick), "tick", "middle")
    for tick in y_of.ticks(most):
        canvas.line(x_of.start, y_of(tick), x_of.end, y_of(tick), "grid")
        canvas.text(x_of.start - 6, y_of(tick) + 4, write_y(tick), "tick", "end")
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


def _cross(canvas: Canvas, spot: Spot, x_of: Scale, y_of: Scale) -> None:
    css = f"whisker faint {spot.look[0]}"
    x, x_low, x_high = _ends(spot.x)
    y, y_low, y_high = _ends(spot.y)
    canvas.line(x_of(x_low), y_of(y), x_of(x_high), y_of(y), css)
    canvas.line(x_of(x), y_of(y_low), x_of(x), y_of(y_high), css)


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


# ---------------------------------------------------------------------------------------------
# what selectivity costs


@dataclass(frozen=True)
class _Cost:
    """A panel: its heading, how ticks are written, where nothing is added, its spots."""

    title: str
    write: Callable[[float], str]
    free: float
    spots: tuple[Spot, ...]
    absent: str


def costs_figure(comparison: Comparison) -> Figure | None:
    """Draw selectivity over each cost; None where no cost was measured."""
    panels = [panel for panel in _panels(comparison) if panel.spots]
    if not panels:
        return None
    base = estimate_of(comparison, BASE, "selectivity")
    everything = [s for panel in panels for s in panel.spots]
    values = [v for s in everything for v in _ends(s.y)]
    values += [] if base.missing else [base.value]
    values = [min(1.0, max(-1.0, v)) for v in values]
    low = math.floor(10 * min(values) - 0.2) / 10
    high = math.ceil(10 * max(values) + 0.2) / 10

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = legend(canvas, layout, _keys(everything)) + 16
        columns = 1 if layout.compact else len(panels)
        gutter = 22.0
        width = (layout.width - gutter * (columns - 1)) / columns
        height = 230.0 if layout.compact else 260.0
        bottom = top
        for i, panel in enumerate(panels):
            left = (i % columns) * (width + gutter)
            y = top + (i // columns) * (height + 86)
            frame = Box(left, y + 30, left + width, y + 30 + height)
            _panel(canvas, panel, frame, (max(-1.0, low), min(1.0, high)), base)
            bottom = max(bottom, frame.bottom + 50)
        canvas.height = bottom
        return canvas

    caption = (
        "Selectivity (up is better) against what a method costs (left is cheaper): replies that "
        "loop or break off into nothing, on harmful and harmless prompts alike; how far the next "
        "token on harmless prompts moves from the untouched model's; and the time of a reply over "
        "the untouched model's. The thin line is the untouched model's selectivity. Names "
        "that found no room are shown when the pointer rests on the mark, and in the table."
    )
    absent = [f"{p.title.split(',')[0]}: {p.absent}" for p in panels if p.absent]
    if absent:
        caption += f" Not measured, or fixed words only: {'; '.join(absent)}."
    return Figure("costs", "What selectivity costs", caption, draw, (costs_table(comparison),))


def _panels(comparison: Comparison) -> list[_Cost]:
    def plain(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
        found = [math.nan if v is None else float(v) for v in (value, low, high)]
        return Estimate(found[0], found[1], found[2], 0, 0, 0, "none")

    costs: list[tuple[str, Callable[[float], str], float, list[Estimate]]] = []
    methods = ordered(comparison)
    costs.append(
        (
            "Degenerate replies, %",
            lambda v: percent(v, 0),
            0.0,
            [estimate_of(comparison, m.name, "degenerate") for m in methods],
        )
    )
    costs.append(("KL, nats", lambda v: f"{v:g}", 0.0, [plain(m.kl) for m in methods]))
    times = [plain(m.latency, m.latency_low, m.latency_high) for m in methods]
    costs.append(("Time of a reply, ×", lambda v: f"{v:g}", 1.0, times))
    panels = []
    for title, write_tick, free, found in costs:
        spots, absent = [], []
        for method, cost in zip(methods, found):
            y = estimate_of(comparison, method.name, "selectivity")
            # Beyond all sense, as only a damaged file has it: nothing else could be told apart.
            drawable = math.isfinite(y.value) and abs(cost.value) < _MOST_COST
            if not drawable:
                absent += [method.name] if method.family != BASE else []
            else:
                spots.append(Spot(method.name, method.family, cost, y))
        some = listed(absent[:8] + ([f"{len(absent) - 8} more"] if len(absent) > 8 else []))
        panels.append(_Cost(title, write_tick, free, tuple(spots), some))
    return panels


def _panel(
    canvas: Canvas, panel: _Cost, frame: Box, bounds: tuple[float, float], base: Estimate
) -> None:
    canvas.text(frame.left, frame.top - 14, "Selectivity Δ", "tick")
    ends = [v for s in panel.spots for v in _ends(s.x) if abs(v) < _MOST_COST]
    low = min([panel.free, *ends])
    high = max([*ends, panel.free + 0.1])
    extra = (high - low) * 0.06
    # Room at the left too, so that marks at no cost do not sit on the axis.
    x_of = Scale(low - extra, high + extra, frame.left + 30, frame.right - 6)
    y_of = Scale(*bounds, frame.bottom, frame.top)
    for tick in x_of.ticks(4):
        if tick < low - 1e-9:
            continue
        canvas.line(x_of(tick), y_of.start, x_of(tick), y_of.end, "grid")
        canvas.text(x_of(tick), y_of.start + 18, panel.write(tick), "tick", "middle")
    for tick in y_of.ticks(6):
        canvas.line(x_of.start, y_of(tick), x_of.end, y_of(tick), "grid")
        canvas.text(x_of.start - 6, y_of(tick) + 4, percent(tick, 0), "tick", "end")
    canvas.line(x_of(panel.free), y_of.start, x_of(panel.free), y_of.end, "zero")
    if not base.missing:
        canvas.line(x_of.start, y_of(base.value), x_of.end, y_of(base.value), "zero")
    canvas.text(frame.right - 6, frame.bottom + 36, panel.title, "panel", "end")
    for spot in panel.spots:
        _cross(canvas, spot, x_of, y_of)
    for spot in reversed(panel.spots):
        css, shape = spot.look
        hint = f"{spot.name}: {panel.write(round(spot.x.value, 3))}, Δ {percent(spot.y.value, 0)}"
        canvas.mark(shape, x_of(spot.x.value), y_of(spot.y.value), 4.5, css, hint)
    inside = Box(x_of.start + 2, y_of.end - 4, frame.right, y_of.start - 2)
    named = [
        Named(x_of(s.x.value), y_of(s.y.value), shorten(s.name, 150, 11.5), "tick")
        for s in panel.spots
    ]
    write(canvas, place(named, inside, 11.5, reach=20))
