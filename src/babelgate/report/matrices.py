"""Numbers between languages: as a grid with colours, and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .names import TierGroup, language_label
from .numbers import MISSING, decimal, percent
from .tables import Table, make

#: Cells are a hue over the paper; more of it would bring the numbers in them below 4.5:1.
STRONGEST = 0.55
#: Colour classes of numbers below and above the centre.
BELOW, ABOVE = "harmful", "harmless"
Grid = tuple[tuple[float, ...], ...]


def grid(values: Sequence[Sequence[float]], rows: int, columns: int, what: str) -> Grid:
    """Return numbers as a grid of floats.

    Raises:
        ValueError: if it does not have that many rows and columns.
    """
    found = tuple(tuple(float(v) for v in row) for row in values)
    if len(found) != rows or any(len(row) != columns for row in found):
        shape = f"{len(found)} x {len(found[0]) if found else 0}"
        raise ValueError(f"{what}: {shape} numbers for {rows} rows and {columns} columns")
    return found


def groups_of(languages: Sequence[str], tiers: dict[str, str]) -> tuple[TierGroup, ...]:
    """Group languages by tier, high to low and then others, in the order given."""
    found = dict.fromkeys(["high", "mid", "low", *(tiers.get(c, "unlisted") for c in languages)])
    groups = (
        TierGroup(t, tuple(c for c in languages if tiers.get(c, "unlisted") == t)) for t in found
    )
    return tuple(g for g in groups if g.languages)


@dataclass(frozen=True)
class Ramp:
    """How numbers become colours: from ``low`` to ``high``, away from ``centre``; ends are full.

    ``centre`` within the ends makes two hues; ``centre == low`` one.
    """

    low: float
    high: float
    centre: float = 0.0

    def shade(self, value: float) -> tuple[str, float]:
        """Return the colour class and its opacity, 0 at the centre."""
        css = BELOW if value < self.centre else ABOVE
        reach = self.centre - self.low if value < self.centre else self.high - self.centre
        share = min(1.0, abs(value - self.centre) / reach) if reach > 0 else 0.0
        return css, STRONGEST * share


@dataclass(frozen=True)
class Matrix:
    """Numbers of ``rows`` by ``columns`` (languages or controls); NaN where one is missing.

    ``marked`` cells stand out (they exceed the controls, say ``mark_label``); ``kind`` is
    ``decimal`` or ``points``, which writes a share of 1 in hundredths.

    Raises:
        ValueError: if the shapes do not fit.
    """

    name: str
    title: str
    row_title: str
    column_title: str
    rows: tuple[TierGroup, ...]
    columns: tuple[TierGroup, ...]
    values: Sequence[Sequence[float]]
    ramp: Ramp
    kind: str = "decimal"
    caption: str = ""
    marked: Sequence[Sequence[bool]] | None = None
    mark_label: str = "exceeds every control"
    missing: str = ""

    def __post_init__(self) -> None:
        shape = len(self.row_codes), len(self.column_codes)
        object.__setattr__(self, "values", grid(self.values, *shape, self.name))
        if self.marked is not None:
            grid(self.marked, *shape, f"marks of {self.name}")

    @property
    def row_codes(self) -> tuple[str, ...]:
        """The rows' codes from top to bottom."""
        return tuple(c for g in self.rows for c in g.languages)

    @property
    def column_codes(self) -> tuple[str, ...]:
        """The columns' codes from left to right."""
        return tuple(c for g in self.columns for c in g.languages)

    def is_marked(self, row: int, column: int) -> bool:
        """Whether a cell is marked."""
        return self.marked is not None and bool(self.marked[row][column])

    @property
    def n_missing(self) -> int:
        """How many numbers are missing."""
        return sum(math.isnan(v) for row in self.values for v in row)

    @property
    def axes(self) -> str:
        """What rows and columns are, in words."""
        if self.row_title == self.column_title:
            return f"Rows and columns: {self.row_title}."
        return f"Rows: {self.row_title}. Columns: {self.column_title}."

    def written(self, value: float) -> str:
        """Return a number as tables and hints show it."""
        return decimal(value) if self.kind == "decimal" else percent(value, 0)


def matrix_table(matrix: Matrix) -> Table:
    """Return the numbers, a row per row; marked ones have an asterisk."""
    rows = []
    for i, code in enumerate(matrix.row_codes):
        cells = [
            matrix.written(v) + ("*" if matrix.is_marked(i, j) else "")
            for j, v in enumerate(matrix.values[i])
        ]
        rows.append([language_label(code), *cells])
    note = matrix.axes + (" In hundredths." if matrix.kind == "points" else "")
    if matrix.marked is not None:
        note += f" *: {matrix.mark_label}."
    if matrix.n_missing:
        note += f" {MISSING}: missing" + (f" ({matrix.missing})." if matrix.missing else ".")
    columns = [matrix.row_title.capitalize(), *matrix.column_codes]
    return make(matrix.title, columns, "l" + "r" * len(matrix.column_codes), rows, note)
