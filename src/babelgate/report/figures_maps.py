"""Score maps of candidate directions: position by layer, with the chosen one ringed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .chart import Key, legend
from .figure import Figure, Layout
from .matrices import STRONGEST, Ramp, grid
from .numbers import MISSING, decimal, is_missing
from .svg import Canvas, shorten, text_width
from .tables import Table, make

_MOST_ROWS = 20
_SHRUNK = 0.45
_FAINTEST = 0.12


@dataclass(frozen=True)
class ScoreMap:
    """One score of every candidate ``[n_positions, n_layers]``; NaN where it was not computed.

    ``better`` says which end is wanted and ``unit`` what the numbers are; ``border`` is a filter's
    limit. Without values, ``reason`` says why.
    """

    name: str
    values: Sequence[Sequence[float]] | None
    better: str
    unit: str = ""
    border: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Maps:
    """The scores of one language's candidates.

    ``positions`` name the rows (tokens after the instruction), ``kept`` ``[n_positions,
    n_layers]`` says which passed every filter, ``chosen`` is a row and a column.

    Raises:
        ValueError: if shapes do not fit, or the chosen candidate lies outside.
    """

    name: str
    title: str
    positions: tuple[str, ...]
    layers: tuple[int, ...]
    scores: tuple[ScoreMap, ...]
    kept: Sequence[Sequence[bool]] | None = None
    chosen: tuple[int, int] | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        shape = len(self.positions), len(self.layers)
        for score in self.scores:
            if score.values is not None:
                object.__setattr__(score, "values", grid(score.values, *shape, score.name))
        if self.kept is not None:
            grid(self.kept, *shape, "kept candidates")
        row, column = self.chosen or (0, 0)
        if not (0 <= row < max(1, shape[0]) and 0 <= column < max(1, shape[1])):
            raise ValueError(f"chosen candidate {self.chosen} lies outside {shape}")

    def passed(self, row: int, column: int) -> bool:
        """Whether a candidate passed every filter."""
        return self.kept is None or bool(self.kept[row][column])


def _known(score: ScoreMap) -> list[float]:
    return sorted(v for row in score.values or () for v in row if math.isfinite(v))


def ramp_of(score: ScoreMap) -> Ramp | None:
    """Return the colours of a score: its middle 96 %, away from 0 where it has both signs.

    A few candidates early and late in the network score far beyond all others, and would leave the
    rest in one shade. None where nothing was computed.
    """
    known = _known(score)
    if not known:
        return None
    cut = int(0.02 * len(known))
    low, high = known[cut], known[-1 - cut]
    if low < 0 < high:
        return Ramp(low, high, 0.0)
    if score.border is not None and 0 <= low < 4 * score.border < high:
        high = 4 * score.border  # a divergence far beyond the filter's limit is just too much
    # Of one sign: the shade grows away from 0.
    return Ramp(low, high, high if high <= 0 else low)


def maps_figure(maps: Maps) -> Figure:
    """Draw one map per score, one below another, on the same layers."""

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        y = _legend(canvas, layout, maps)
        for score in maps.scores:
            y = _score(canvas, layout, maps, score, y + 12)
        canvas.height = y
        return canvas

    return Figure(maps.name, maps.title, _caption(maps), draw, _tables(maps))


def _legend(canvas: Canvas, layout: Layout, maps: Maps) -> float:
    keys = [Key("chosen", "ring", "square")] if maps.chosen else []
    if any(math.isnan(v) for s in maps.scores for row in s.values or () for v in row):
        keys.append(Key("not computed", "", "hatch"))
    bottom = legend(canvas, layout, keys) if keys else 0.0
    if maps.kept is None:
        return bottom
    x = 0.0
    for label, size in (("passed every filter", 12.0), ("filtered out", 12.0 * _SHRUNK)):
        _square(canvas, (x + 1, bottom + 2, 12, 12), size, ("harmless", STRONGEST))
        canvas.text(x + 20, bottom + 12.5, label, "small")
        x += 20 + text_width(label, 12.5) + 18
    return bottom + 20


def _square(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    size: float,
    shade: tuple[str, float],
    hint: str = "",
) -> None:
    """Draw a cell of a size in the middle of its box (a full one is as wide as the box)."""
    x, y, width, height = box
    w, h = (width, height) if size >= min(width, height) else (size, size)
    canvas.add(
        "rect",
        shade[0],
        hint,
        x=x + (width - w) / 2,
        y=y + (height - h) / 2,
        width=w,
        height=h,
        fill_opacity=f"{shade[1]:.3f}",
        stroke_width="0",
    )


def _score(canvas: Canvas, layout: Layout, maps: Maps, score: ScoreMap, top: float) -> float:
    """Draw one score's map and return the y below it."""
    canvas.text(0, top + 13, score.name, "panel")
    about = score.better + (f", {score.unit}" if score.unit else "")
    ramp = ramp_of(score)
    if ramp is None:
        words = f"not computed{f': {score.reason}' if score.reason else ''}"
        canvas.text(0, top + 32, shorten(words, layout.width, 12.5), "small")
        return top + 42
    start = text_width(score.name, 13.5) + 10
    if not layout.compact:
        canvas.text(start, top + 13, about, "tick")
    _scale(canvas, layout, ramp, top)
    y = top + 20
    if layout.compact:
        canvas.text(0, y + 10, shorten(about, layout.width, 11.5), "tick")
        y += 16
    label = min(layout.label, max(text_width(p, 12) for p in maps.positions) + 12)
    width = min((layout.width - label) / max(1, len(maps.layers)), 30.0)
    height = 18.0 if layout.compact else 22.0
    stride = next(s for s in (1, 2, 5, 10, 20, 50, 1000) if s * width >= 22)
    for column, layer in enumerate(maps.layers):
        if column % stride == 0:
            x = label + (column + 0.5) * width
            canvas.text(x, y + 12, str(layer), "tick", "middle")
    canvas.text(0, y + 12, "layer", "tick")
    y += 17
    for row, position in enumerate(maps.positions):
        name = shorten(position, label - 8, 12)
        canvas.text(0, y + height / 2 + 4, name, "small")
        for column in range(len(maps.layers)):
            box = (label + column * width, y, width - 0.8, height - 0.8)
            _candidate(canvas, maps, score, ramp, (row, column), box)
        y += height
    if maps.chosen is not None:
        row, column = maps.chosen
        canvas.add(
            "rect",
            "ring",
            x=label + column * width - 1.5,
            y=y - (len(maps.positions) - row) * height - 1.5,
            width=width + 2.2,
            height=height + 2.2,
            rx=2,
        )
    return y + 4


def _candidate(
    canvas: Canvas,
    maps: Maps,
    score: ScoreMap,
    ramp: Ramp,
    place: tuple[int, int],
    box: tuple[float, float, float, float],
) -> None:
    row, column = place
    assert score.values is not None
    value = score.values[row][column]
    hint = f"{maps.positions[row]}, layer {maps.layers[column]}: "
    if math.isnan(value):
        canvas.hatch(*box, hint + "not computed")
        return
    passed = maps.passed(row, column)
    hint += decimal(value) + ("" if passed else ", filtered out")
    hint += ", chosen" if maps.chosen == place else ""
    size = min(box[2], box[3]) * (1 if passed else _SHRUNK)
    # A faint floor, so that values near 0 are seen to be there.
    css, opacity = ramp.shade(value)
    if passed:
        size = max(box[2], box[3])
    _square(canvas, box, size, (css, max(_FAINTEST, opacity * 1.5)), hint)


def _scale(canvas: Canvas, layout: Layout, ramp: Ramp, top: float) -> None:
    """Draw the colours with their ends at the right."""
    steps, step = 11, 8.0 if layout.compact else 11.0
    high = f"≥ {decimal(ramp.high)}"
    end = layout.width - text_width(high, 12) - 6
    start = end - steps * step
    for i in range(steps):
        value = ramp.low + (ramp.high - ramp.low) * i / (steps - 1)
        css, opacity = ramp.shade(value)
        shade = css, max(_FAINTEST, opacity * 1.5)
        _square(canvas, (start + i * step, top + 3, step, 11), step, shade)
    canvas.text(start - 6, top + 13, f"≤ {decimal(ramp.low)}", "tick", "end")
    canvas.text(end + 6, top + 13, high, "tick")


def _caption(maps: Maps) -> str:
    text = maps.caption
    borders = [f"{s.name} {decimal(s.border)}" for s in maps.scores if s.border is not None]
    if borders:
        text += f" Filters: {', '.join(borders)}."
    if maps.chosen is not None:
        row, column = maps.chosen
        text += f" Ringed: {maps.positions[row]}, layer {maps.layers[column]}."
    elif maps.kept is not None and not any(any(row) for row in maps.kept):
        text += " No candidate passed every filter, so none is chosen."
    text += " Colours span the middle 96\u202f% of a score; values beyond take the ends' colours."
    return text.strip()


def _tables(maps: Maps) -> tuple[Table, ...]:
    """Return the candidates by the first score, those that passed first, the chosen one on top."""
    scores = [s for s in maps.scores if s.values is not None]
    if not scores:
        return ()
    first = scores[0].values
    assert first is not None
    places = [(r, c) for r in range(len(maps.positions)) for c in range(len(maps.layers))]
    places.sort(
        key=lambda p: (
            p != maps.chosen,
            not maps.passed(*p),
            math.inf if is_missing(first[p[0]][p[1]]) else first[p[0]][p[1]],
        )
    )
    rows = [
        [
            maps.positions[r],
            str(maps.layers[c]),
            *(decimal(s.values[r][c], 3) for s in scores if s.values is not None),
            "chosen" if (r, c) == maps.chosen else "passed" if maps.passed(r, c) else "filtered",
        ]
        for r, c in places[:_MOST_ROWS]
    ]
    left = len(places) - len(rows)
    note = f"{MISSING}: not computed." + (
        f" {left} further candidates are left out." if left else ""
    )
    columns = ["Position", "Layer", *(s.name for s in scores), "Filters"]
    return (make(f"{maps.title}: candidates", columns, "lr" + "r" * len(scores) + "l", rows, note),)
