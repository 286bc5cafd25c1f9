"""Prompts in the plane: one small scatter per language, all on the same two axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .chart import Key, legend
from .figure import Figure, Layout
from .multiples import Panel, panels
from .names import TierGroup, language_label, language_name
from .numbers import decimal, listed, percent
from .svg import Canvas, Scale
from .tables import Table, make

_MOST_POINTS = 150  # a class and language: more would only blacken the panel
_HEIGHT = 120.0


@dataclass(frozen=True)
class Cloud:
    """One language's prompts: ``x``, ``y`` and whether each is harmful; of one length.

    Raises:
        ValueError: if the lengths differ.
    """

    x: Sequence[float]
    y: Sequence[float]
    harmful: Sequence[bool]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.harmful):
            sizes = f"{len(self.x)}, {len(self.y)} and {len(self.harmful)}"
            raise ValueError(f"a projection has {sizes} coordinates and labels")

    def points(self, harmful: bool) -> list[tuple[float, float]]:
        """Return the finite points of one class."""
        found = zip(self.x, self.y, self.harmful, strict=True)
        return [
            (float(x), float(y))
            for x, y, label in found
            if bool(label) == harmful and math.isfinite(x) and math.isfinite(y)
        ]

    def centre(self, harmful: bool) -> tuple[float, float] | None:
        """Return the mean of one class; None where it is empty."""
        points = self.points(harmful)
        if not points:
            return None
        return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


@dataclass(frozen=True)
class Projection:
    """Clouds by language on shared axes; ``shares`` are what each axis has of the variance.

    ``reference`` is a language whose centres stand in every panel (usually English).
    """

    name: str
    title: str
    clouds: Mapping[str, Cloud]
    axes: tuple[str, str] = ("first axis", "second axis")
    shares: tuple[float, float] | None = None
    reference: str | None = None
    caption: str = ""


def projection_figure(projection: Projection, groups: Sequence[TierGroup]) -> Figure:
    """Draw the clouds, harmful prompts as squares and harmless ones as circles.

    Raises:
        ValueError: without a single point.
    """
    everything = [
        p for c in projection.clouds.values() for label in (True, False) for p in c.points(label)
    ]
    if not everything:
        raise ValueError(f"projection {projection.name}: there is no point to draw")
    bounds = [_bounds([p[i] for p in everything]) for i in (0, 1)]
    reference = projection.clouds.get(projection.reference or "")

    def draw(layout: Layout) -> Canvas:
        canvas = Canvas(layout.width)
        keys = [Key("harmful", "harmful", "square"), Key("harmless", "harmless", "circle")]
        keys.append(Key("centres, joined", "ink", "diamond"))
        if reference is not None:
            keys.append(
                Key(f"centres in {language_name(projection.reference or '')}", "s0", "cross")
            )
        top = legend(canvas, layout, keys) + 2
        for panel in panels(canvas, layout, groups, top, _HEIGHT):
            _panel(canvas, panel, projection, reference, bounds)
        return canvas

    return Figure(
        projection.name,
        projection.title,
        _caption(projection, len(everything)),
        draw,
        (_table(projection, groups),),
    )


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: all but the outermost 0.5 % on each side, with a margin.

    One prompt far out would press all others into a corner; points beyond are drawn at the edge.
    """
    ordered = sorted(values)
    cut = int(0.005 * len(ordered))
    low, high = ordered[cut], ordered[-1 - cut]
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _panel(
    canvas: Canvas,
    panel: Panel,
    projection: Projection,
    reference: Cloud | None,
    bounds: Sequence[tuple[float, float]],
) -> None:
    canvas.add("rect", "band", x=panel.left, y=panel.top, width=panel.width, height=panel.height)
    x_of = Scale(*bounds[0], panel.left + 5, panel.right - 5)
    y_of = Scale(*bounds[1], panel.bottom - 5, panel.top + 5)
    cloud = projection.clouds.get(panel.language)
    if cloud is None or not (cloud.points(True) or cloud.points(False)):
        canvas.hatch(panel.left, panel.top, panel.width, panel.height, "not measured")
        canvas.text(panel.left + panel.width / 2, panel.top + panel.height / 2 + 4,
                    "not measured", "small halo", "middle")  # fmt: skip
        return
    for harmful, css in ((False, "harmless"), (True, "harmful")):
        if not cloud.points(harmful):
            continue
        canvas.add("path", css, d=_marks(_thinned(cloud.points(harmful)), harmful, x_of, y_of),
                   fill_opacity=".4", stroke_width="0")  # fmt: skip
    centres = [cloud.centre(harmful) for harmful in (False, True)]
    if all(c is not None for c in centres):
        (a, b), (c, d) = (c for c in centres if c is not None)
        canvas.line(x_of(a), y_of(b), x_of(c), y_of(d), "frontier")
    if reference is not None and panel.language != projection.reference:
        for harmful, css in ((False, "harmless"), (True, "harmful")):
            centre = reference.centre(harmful)
            if centre is not None:
                hint = f"{projection.reference}, {'harmful' if harmful else 'harmless'}"
                canvas.mark("cross", x_of(centre[0]), y_of(centre[1]), 4.2, css, hint)
    for harmful, css, centre in zip((False, True), ("harmless", "harmful"), centres):
        if centre is not None:
            x, y = x_of(centre[0]), y_of(centre[1])
            hint = f"{panel.language}, centre of {css} prompts"
            # Shapes as of the points; a dark rim tells a centre from them.
            canvas.mark("square" if harmful else "circle", x, y, 5.6, "ink")
            canvas.mark("square" if harmful else "circle", x, y, 3.8, css, hint)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    n = len(points)
    if n <= _MOST_POINTS:
        return points
    return [points[i * n // _MOST_POINTS] for i in range(_MOST_POINTS)]


def _marks(points: Sequence[tuple[float, float]], square: bool, x_of: Scale, y_of: Scale) -> str:
    """Return all points of a class as one path: a few thousand elements would make a slow page."""
    if square:
        return "".join(f"M{x_of(x) - 1.7:.1f},{y_of(y) - 1.7:.1f}h3.4v3.4h-3.4z" for x, y in points)
    turn = "a2,2 0 1 0 4,0a2,2 0 1 0 -4,0"
    return "".join(f"M{x_of(x) - 2:.1f},{y_of(y):.1f}{turn}" for x, y in points)


def _axes(projection: Projection) -> list[str]:
    if projection.shares is None:
        return list(projection.axes)
    shares = zip(projection.axes, projection.shares, strict=True)
    return [f"{axis} ({percent(share, 0)}\u202f% of the variance)" for axis, share in shares]


def _caption(projection: Projection, n: int) -> str:
    across, up = _axes(projection)
    text = f"{projection.caption} Across: {across}; up: {up}; the same in every panel."
    crowded = any(
        len(c.points(label)) > _MOST_POINTS
        for c in projection.clouds.values()
        for label in (True, False)
    )
    if crowded:
        text += f" At most {_MOST_POINTS} points of a class are drawn; centres use all {n}."
    gone = [language_name(c) for c, cloud in projection.clouds.items() if not len(cloud.x)]
    text += f" Not measured: {listed(gone)}." if gone else ""
    return text.strip()


def _table(projection: Projection, groups: Sequence[TierGroup]) -> Table:
    rows = []
    for group in groups:
        for code in group.languages:
            cloud = projection.clouds.get(code)
            if cloud is None:
                continue
            cells = [language_label(code)]
            for harmful in (True, False):
                centre = cloud.centre(harmful) or (math.nan, math.nan)
                cells += [decimal(centre[0]), decimal(centre[1]), str(len(cloud.points(harmful)))]
            rows.append(cells)
    columns = ("Language", "Harmful across", "up", "n", "Harmless across", "up", "n")
    note = f"Centres of the classes. {'; '.join(_axes(projection)).capitalize()}."
    return make(f"{projection.title}: centres", columns, "lrrrrrr", rows, note)
