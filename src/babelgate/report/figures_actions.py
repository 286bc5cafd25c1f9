"""The search for actions: what was tried, what was generated and judged, what was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .actions_tried import ActionsTried, PairRow
from .chart import Key, legend
from .figure import Figure, Layout
from .numbers import MISSING, decimal, is_missing, percent, plural, points
from .placing import Box, Named, place, write
from .svg import Canvas, Scale, shorten
from .tables import Table, make

_LONGEST_NAME = 34
_SIDES = {"fired": "where it fires", "silent": "where it is silent"}


def predicted_within(pair: PairRow, tried: ActionsTried) -> bool:
    """Whether the predictions keep the bounds, whatever was judged afterwards."""
    rise, kl = pair.harmless_rise, pair.kl
    kept = rise is not None and rise <= tried.bounds.harmless_refusal
    return kept and (kl is None or is_missing(kl) or kl <= tried.bounds.kl)


def actions_figure(tried: ActionsTried) -> Figure | None:
    """Draw selectivity over the rise in harmless refusals; None where nothing was predicted."""
    spots = [point for pair in tried.pairs for point in (pair.predicted, pair.judged) if point]
    if not spots:
        return None
    x_bounds = _ends([x for x, _ in spots] + [0.0, tried.bounds.harmless_refusal])
    y_bounds = _ends([y for _, y in spots])

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [
            Key("predicted, within the bounds", "s1 tried", "circle"),
            Key("predicted, beyond a bound", "s0", "cross"),
            Key("judged by replies", "s3", "diamond"),
            Key("chosen", "ring", "circle"),
        ]
        top = legend(canvas, layout, keys) + 42
        height = 300.0 if layout.compact else 380.0
        x_of = Scale(*x_bounds, 38, layout.width - 12)
        y_of = Scale(*y_bounds, top + height, top)
        canvas.text(0, top - 16, "Selectivity Δ, points", "panel")
        _frame(canvas, x_of, y_of)
        _limit(canvas, tried, x_of, y_of)
        for pair in tried.pairs:
            _predicted(canvas, pair, tried, x_of, y_of)
        for pair in reversed(tried.finalists):
            _judged(canvas, pair, x_of, y_of)
        inside = Box(x_of.start + 2, y_of.end + 2, layout.width, y_of.start - 2)
        title = "Rise in harmless refusals, worst language, points"
        canvas.text(layout.width - 12, y_of.start + 38, title, "panel", "end")
        canvas.height = _names(canvas, layout, tried, (x_of, y_of), inside, y_of.start + 50)
        return canvas

    return Figure("actions-tried", "Pairs of actions", _caption(tried), draw, (pairs_table(tried),))


def _caption(tried: ActionsTried) -> str:
    text = (
        f"{plural(len(tried.pairs), 'pair')} of actions (where the gate fires, and where it is "
        "silent) on validation prompts. Up is better, left is better. Small marks are predictions "
        "from the first token of the untouched model's judged replies; a line leads from a "
        f"finalist's prediction to what its replies showed ({plural(len(tried.finalists), 'pair')} "
        "generated). The dashed line bounds the rise in harmless refusals at "
        f"{percent(tried.bounds.harmless_refusal)} points in any language; a pair beyond the "
        f"bound on divergence ({decimal(tried.bounds.kl)} nats) is crossed out wherever it lies. "
    )
    chosen = tried.chosen
    if chosen is None:
        return text + "None is marked as chosen."
    text += f"Chosen: {chosen.fired} where it fires, {chosen.silent} where it is silent"
    return text + ("." if chosen.within else ", which exceeds a bound, but least of all finalists.")


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return ends around all values in steps of 0.05, with some room, within -1 .. 1."""
    values = [min(1.0, max(-1.0, v)) for v in values if math.isfinite(v)]
    room = max(0.02, 0.04 * (max(values) - min(values)))
    low = math.floor(20 * (min(values) - room)) / 20
    high = math.ceil(20 * (max(values) + room)) / 20
    return max(-1.0, low), min(1.0, high)


def _frame(canvas: Canvas, x_of: Scale, y_of: Scale) -> None:
    for tick in x_of.ticks(6):
        css = "zero" if tick == 0 else "grid"
        canvas.line(x_of(tick), y_of.start, x_of(tick), y_of.end, css)
        canvas.text(x_of(tick), y_of.start + 18, percent(tick, 0), "tick", "middle")
    for tick in y_of.ticks(6):
        css = "zero" if tick == 0 else "grid"
        canvas.line(x_of.start, y_of(tick), x_of.end, y_of(tick), css)
        canvas.text(x_of.start - 6, y_of(tick) + 4, percent(tick, 0), "tick", "end")


def _limit(canvas: Canvas, tried: ActionsTried, x_of: Scale, y_of: Scale) -> None:
    x = x_of(tried.bounds.harmless_refusal)
    canvas.line(x, y_of.start, x, y_of.end - 4, "bound")
    left = x > (x_of.start + x_of.end) / 2
    canvas.text(x + (4 if not left else -4), y_of.end - 8, "bound", "tick", "end" if left else "")


def _predicted(
    canvas: Canvas, pair: PairRow, tried: ActionsTried, x_of: Scale, y_of: Scale
) -> None:
    if pair.predicted is None:
        return
    x, y = pair.predicted
    hint = f"{pair.name}: predicted Δ {percent(y, 0)}, rise {points(x, 0)}"
    if not is_missing(pair.kl):
        hint += f", {decimal(pair.kl)} nats"
    if predicted_within(pair, tried):
        canvas.mark("circle", x_of(x), y_of(y), 3.6, "s1 tried", hint)
    else:
        canvas.mark("cross", x_of(x), y_of(y), 3, "s0 tried", hint)


def _judged(canvas: Canvas, pair: PairRow, x_of: Scale, y_of: Scale) -> None:
    if pair.judged is None:
        return
    x, y = x_of(pair.judged[0]), y_of(pair.judged[1])
    if pair.predicted is not None:
        canvas.line(x_of(pair.predicted[0]), y_of(pair.predicted[1]), x, y, "join")
    if pair.chosen:
        canvas.mark("circle", x, y, 9.5, "ring")
    hint = f"{pair.name}: judged Δ {percent(pair.judged[1], 0)}, rise {points(pair.judged[0], 0)}"
    canvas.mark("diamond", x, y, 5, "s3", hint)


def _names(
    canvas: Canvas,
    layout: Layout,
    tried: ActionsTried,
    scales: tuple[Scale, Scale],
    inside: Box,
    below: float,
) -> float:
    """Write the finalists' names, or letters with a list below; return the y below it all."""
    x_of, y_of = scales
    shown = [pair for pair in tried.finalists if pair.judged is not None]
    marks = [(x_of(p.predicted[0]), y_of(p.predicted[1])) for p in tried.pairs if p.predicted]
    for pair in shown:
        if pair.chosen and pair.judged is not None:  # its ring is wider than a mark
            x, y = x_of(pair.judged[0]), y_of(pair.judged[1])
            marks += [(x + dx, y + dy) for dx in (-4, 4) for dy in (-4, 4)]

    def named(pair: PairRow, text: str) -> Named:
        assert pair.judged is not None
        css = "small strong" if pair.chosen else "small"
        return Named(x_of(pair.judged[0]), y_of(pair.judged[1]), text, css)

    if all(len(pair.name) <= _LONGEST_NAME for pair in shown):
        placed = place([named(p, p.name) for p in shown], inside, 12.5, reach=64, marks=marks)
        if all(p is not None for p in placed):
            write(canvas, placed)
            return below
    letters = [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(shown))]
    points_ = [named(pair, letter) for pair, letter in zip(shown, letters)]
    write(canvas, place(points_, inside, 12.5, marks=marks))
    for i, (pair, letter) in enumerate(zip(shown, letters)):
        css = "small strong" if pair.chosen else "small"
        y = below + 18 + 19 * i
        canvas.text(0, y, letter, css)
        canvas.text(20, y, shorten(pair.name, layout.width - 20, 12.5), css)
    return below + 18 + 19 * len(shown)


# ---------------------------------------------------------------------------------------------
# tables


def _mark(pair: PairRow) -> str:
    if pair.chosen:
        return "chosen" if pair.within else "chosen, beyond a bound"
    return "" if pair.within else "beyond a bound"


def _pair_rows(pairs: Sequence[PairRow], digits: int) -> list[tuple[str, ...]]:
    return [
        (
            pair.fired,
            pair.silent,
            percent(pair.false_alarm),
            points(pair.selectivity, digits),
            points(pair.harmless_rise, digits),
            decimal(pair.kl),
            points(pair.judged_selectivity, digits),
            points(pair.judged_harmless_rise, digits),
            points(pair.judged_degenerate_rise, digits),
            _mark(pair),
        )
        for pair in pairs
    ]


_COLUMNS = (
    *("Fires", "Silent", "False alarms, %", "Predicted Δ", "Rise", "KL, nats"),
    *("Judged Δ", "Rise, judged", "Degenerate", ""),
)


def finalists_table(tried: ActionsTried, *, digits: int = 1) -> Table:
    """Return the pairs that generated replies, predicted and judged, the chosen one first."""
    bounds = tried.bounds
    note = (
        f"Bounds: rise in harmless refusals {percent(bounds.harmless_refusal)} points in any "
        f"language, rise in degenerate replies {percent(bounds.degenerate)} points, KL "
        f"{decimal(bounds.kl)} nats on harmless prompts that the untouched model answers."
    )
    rows = _pair_rows(tried.finalists, digits)
    return make("Actions that were generated and judged", _COLUMNS, "llrrrrrrrl", rows, note)


def pairs_table(tried: ActionsTried) -> Table:
    """Return every pair that was tried, best prediction within the bounds first."""
    note = f"Rise: of harmless refusals, in the worst language. {MISSING}: nothing was generated."
    rows = _pair_rows(tried.pairs, 1)
    return make("All pairs of actions", _COLUMNS, "llrrrrrrrl", rows, note)


def sides_table(tried: ActionsTried) -> Table:
    """Return every candidate for one side with what its first tokens say."""
    rows = [
        (
            side.name,
            _SIDES.get(side.side, side.side),
            decimal(side.log_odds),
            percent(side.refusal),
            decimal(side.kl),
        )
        for side in tried.sides
    ]
    columns = ("Action", "Side", "Log-odds", "Predicted refusal, %", "KL, nats")
    note = (
        "Means over harmful prompts on which the gate fires, and over harmless ones on which it is "
        "silent. Log-odds of a refusal at the first token; none where fixed words are said."
    )
    return make("Actions tried on each side", columns, "llrrr", rows, note)
