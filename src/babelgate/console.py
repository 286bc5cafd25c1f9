"""The terminal: tables and progress for people, plain text where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

# Without a terminal there is no width to fit: a table that is piped must not lose its digits.
_NO_TERMINAL = 1000

# Results go to stdout, everything else to stderr, so that `--json` can be piped.
# Text is printed as it is: a path such as a:key:b holds no picture.
out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _NO_TERMINAL)
err = Console(
    stderr=True,
    highlight=False,
    emoji=False,
    width=None if sys.stderr.isatty() else _NO_TERMINAL,
)


def note(message: str) -> None:
    """Print one line of progress for a person."""
    err.print(message, markup=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; a column of numbers is recognised by its cells and aligned right."""
    cells = [[str(c) for c in row] for row in rows]
    # On a line of its own: a table's own title wraps at the table's width. As Text, since a plain
    # string would be read as markup.
    out.print(Text(title, style="table.title"), soft_wrap=True)
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        # The first column names the row, whatever it looks like.
        numeric = i > 0 and any(row[i].lstrip("-+.")[:1].isdigit() for row in cells)
        view.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for row in cells:
        view.add_row(*row)
    out.print(view, markup=False)


def progress(*, bytes_: bool = False) -> Progress | PlainProgress:
    """Return a progress bar on stderr; without a terminal, a line every so often instead."""
    if not sys.stderr.isatty():
        return PlainProgress(bytes_=bytes_)
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if bytes_ else [MofNCompleteColumn()]
    return Progress(*columns, TimeRemainingColumn(), console=err)


class PlainProgress:
    """Progress as plain lines, for logs: at most one every twenty seconds."""

    interval = 20.0

    def __init__(self, *, bytes_: bool) -> None:
        self._bytes = bytes_
        self._what, self._total, self._done = "", 0.0, 0.0
        self._last = time.monotonic()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add_task(
        self, description: str, total: float | None = None, completed: float = 0
    ) -> TaskID:
        """Name what is being done; there is one task at a time."""
        self._what, self._total, self._done = description, total or 0.0, completed
        return TaskID(0)

    def advance(self, _task: TaskID, amount: float = 1) -> None:
        """Count finished work, and say so when the last line is long enough ago."""
        self._done += amount
        if time.monotonic() - self._last < self.interval:
            return
        self._last = time.monotonic()
        scale, unit = (1e6, " MB") if self._bytes else (1.0, "")
        of = f" of {self._total / scale:.0f}" if self._total else ""
        note(f"{self._what}: {self._done / scale:.0f}{of}{unit}")
