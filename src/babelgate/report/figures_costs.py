"""What selectivity costs: degenerate replies, divergence and time, a panel each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..comparing.results import Comparison
from ..types import Estimate
from .chart import legend
from .compared_tables import costs_table
from .compared_values import estimate_of, ordered
from .figure import Figure, Layout
from .names import BASE
from .numbers import listed, percent
from .placing import Box, Named, place, write
from .spots import Spot, ends_of, family_keys, whiskers
from .svg import Canvas, Scale, shorten

_MOST_COST = 1e6


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
    values = [v for s in everything for v in ends_of(s.y)]
    values += [] if base.missing else [base.value]
    values = [min(1.0, max(-1.0, v)) for v in values]
    low = math.floor(10 * min(values) - 0.2) / 10
    high = math.ceil(10 * max(values) + 0.2) / 10

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        top = legend(canvas, layout, family_keys(everything)) + 16
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
    ends = [v for s in panel.spots for v in ends_of(s.x) if abs(v) < _MOST_COST]
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
        whiskers(canvas, spot, x_of, y_of)
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
