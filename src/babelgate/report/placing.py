"""Placing the names of points in a picture so that none covers another name or a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .svg import Canvas, text_width

# Aslant first: an interval's lines leave a mark to the sides, upwards and downwards.
_ANGLES = (50, 310, 130, 230, 0, 180, 90, 270, 25, 335, 155, 205)
_REACHES = (11.0, 14.0, 19.0, 27.0, 37.0, 49.0, 63.0, 79.0, 97.0)
_LEADER_FROM = 16.0
_MARK = 6.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether two boxes overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other box lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def crossed(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Whether a straight line passes through (Liang and Barsky's clipping)."""
        low, high = 0.0, 1.0
        steps = (end[0] - start[0], end[1] - start[1])
        for step, origin, least, most in (
            (steps[0], start[0], self.left, self.right),
            (steps[1], start[1], self.top, self.bottom),
        ):
            if step == 0:
                if not least < origin < most:
                    return False
                continue
            ends = sorted(((least - origin) / step, (most - origin) / step))
            low, high = max(low, ends[0]), min(high, ends[1])
        return low < high


@dataclass(frozen=True)
class Named:
    """A point with a name, in pixels."""

    x: float
    y: float
    name: str
    css: str = "small"


@dataclass(frozen=True)
class Placed:
    """Where a name goes: its baseline's start, its box, and the end of a line to its point."""

    point: Named
    box: Box
    baseline: float
    leader: tuple[float, float] | None


def place(
    points: Sequence[Named],
    inside: Box,
    size: float,
    *,
    reach: float = _REACHES[-1],
    marks: Sequence[tuple[float, float]] = (),
) -> list[Placed | None]:
    """Return a place per name in the order of the points, None where there is room for none.

    Names are placed one after another, so the first ones lie nearest; a name further than a few
    pixels from its point has a line to it, which crosses no name. ``marks`` are further points that
    names must leave free.
    """
    taken = [_around(x, y) for x, y in [*((p.x, p.y) for p in points), *marks]]
    boxes: list[Box] = []
    leaders: list[tuple[tuple[float, float], tuple[float, float]]] = []
    found: list[Placed | None] = []
    for point in points:
        placed = None
        for candidate in _candidates(point, size, reach):
            box, leader = candidate.box, candidate.leader
            line = None if leader is None else ((point.x, point.y), leader)
            if (
                inside.holds(box)
                and not any(box.meets(other) for other in (*boxes, *taken))
                and not any(box.crossed(*other) for other in leaders)
                and not (line is not None and any(other.crossed(*line) for other in boxes))
            ):
                placed = candidate
                boxes.append(box)
                if line is not None:
                    leaders.append(line)
                break
        found.append(placed)
    return found


def write(canvas: Canvas, placed: Sequence[Placed | None]) -> None:
    """Write the names that have a place, with their lines."""
    for one in placed:
        if one is None:
            continue
        if one.leader is not None:
            canvas.line(one.point.x, one.point.y, *one.leader, "leader")
        canvas.text(one.box.left + 1, one.baseline, one.point.name, f"{one.point.css} halo")


def _around(x: float, y: float) -> Box:
    return Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK)


def _candidates(point: Named, size: float, reach: float) -> list[Placed]:
    width, height = text_width(point.name, size) + 2, size * 1.15
    found = []
    for distance in (r for r in _REACHES if r <= reach):
        for angle in _ANGLES:
            dx = distance * math.cos(math.radians(angle))
            dy = -distance * math.sin(math.radians(angle))
            x, y = point.x + dx, point.y + dy
            # The box grows away from the point: sideways, or centred above and below it.
            left = x if dx > 1e-6 else x - width if dx < -1e-6 else x - width / 2
            top = y - height / 2
            if abs(dx) <= 1e-6:
                top = y - height if dy < 0 else y
            box = Box(left, top, left + width, top + height)
            near = (
                min(max(point.x, box.left), box.right),
                min(max(point.y, box.top + 2), box.bottom - 2),
            )
            leader = near if distance > _LEADER_FROM else None
            found.append(Placed(point, box, box.bottom - height * 0.24, leader))
    return found
