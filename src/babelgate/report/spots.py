"""Methods as points of a picture: their look, their intervals, and which no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..comparing.results import Comparison
from ..types import Estimate
from .chart import Key
from .compared_values import FAMILIES, estimate_of, ordered
from .numbers import in_words
from .svg import Canvas, Scale

#: Family -> colour class and shape.
_LOOKS = {
    "base": ("s0", "circle"),
    "gate": ("s1", "diamond"),
    "paper": ("s2", "square"),
    "rival": ("s5", "triangle"),
    "control": ("s6", "cross"),
}
_UNKNOWN = ("s7", "down")


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


def family_keys(spots: Sequence[Spot]) -> list[Key]:
    """Return the legend: the spots' families in the order of the tables, unknown ones last."""
    families = {s.family: s.look for s in spots}
    known = [f for f in FAMILIES if f in families]
    rest = [f for f in families if f not in FAMILIES]
    return [Key(FAMILIES.get(f, f), *families[f]) for f in (*known, *rest)]


def ends_of(estimate: Estimate) -> tuple[float, float, float]:
    """Return the value and the ends of its interval, which is a point where there is none."""
    low, high, value = estimate.low, estimate.high, estimate.value
    return value, low if math.isfinite(low) else value, high if math.isfinite(high) else value


def whiskers(canvas: Canvas, spot: Spot, x_of: Scale, y_of: Scale) -> None:
    """Draw both intervals of a spot."""
    css = f"whisker faint {spot.look[0]}"
    x, x_low, x_high = ends_of(spot.x)
    y, y_low, y_high = ends_of(spot.y)
    canvas.line(x_of(x_low), y_of(y), x_of(x_high), y_of(y), css)
    canvas.line(x_of(x), y_of(y_low), x_of(x), y_of(y_high), css)
