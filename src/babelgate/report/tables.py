"""A table as plain strings, the one form that HTML, Markdown and the terminal all print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells already written out; ``align`` holds one letter per column, ``l`` or ``r``.

    Raises:
        ValueError: if a row or ``align`` does not have one entry per column.
    """

    title: str
    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.align) != len(self.columns):
            raise ValueError(
                f"table {self.title!r}: {len(self.align)} alignments for {self.columns}"
            )
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: row {row} does not fit {self.columns}")


def make(
    title: str,
    columns: Sequence[str],
    align: str,
    rows: Sequence[Sequence[str]],
    note: str = "",
) -> Table:
    """Build a :class:`Table` from any sequences."""
    return Table(title, tuple(columns), align, tuple(tuple(r) for r in rows), note)
