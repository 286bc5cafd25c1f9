"""The results as Markdown tables, for the README of an experiment."""

from __future__ import annotations

import html
import re

from ..results import Diagnosis, Results
from .result_tables import overview_tables
from .tables import Table


def to_markdown(results: Results, diagnosis: Diagnosis | None = None) -> str:
    """Return the result tables as GitHub-flavoured Markdown, one heading each."""
    tables = overview_tables(results, diagnosis)
    return "\n\n".join(_table(t) for t in tables) + "\n" if tables else "Nothing was measured.\n"


def _table(table: Table) -> str:
    rule = ["---:" if a == "r" else "---" for a in table.align]
    lines = [f"### {_cell(table.title)}", "", _line(table.columns), _line(rule)]
    lines += [_line(tuple(map(_cell, row))) for row in table.rows]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Escape what would end the cell or become HTML, emphasis or a link."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", one_line)
