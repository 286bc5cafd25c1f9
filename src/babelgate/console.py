"""The terminal: tables and progress for people, plain text where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

# Without a terminal there is no width to fit: a table that is piped must not lose its digits.
_NO_TERMINAL = 1000

# Results go to stdout, everything else to stderr, so that `--json` can be piped.
out = Console(highlight=False, width=None if sys.stdout.isatty() else _NO_TERMINAL)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _NO_TERMINAL)


def note(message: str) -> None:
    """Print one line of progress for a person."""
    err.print(message, markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; a column of numbers is recognised by its cells and aligned right."""
    cells = [[str(c) for c in row] for row in rows]
    view = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        # The first column names the row, whatever it looks like.
        numeric = i > 0 and any(row[i][:1].isdigit() or row[i][:1] in "-+." for row in cells)
        view.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for row in cells:
        view.add_row(*row)
    out.print(view, markup=False)


def progress(*, bytes_: bool = False) -> Progress:
    """Return a progress bar on stderr that shows nothing without a terminal."""
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if bytes_ else [MofNCompleteColumn()]
    return Progress(*columns, TimeRemainingColumn(), console=err, disable=not sys.stderr.isatty())
