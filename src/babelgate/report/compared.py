"""The comparison of methods: in the terminal, as ``compare.html``, and as Markdown."""

from __future__ import annotations

from pathlib import Path

from .. import console
from ..artifacts import write_text
from ..comparing.results import Comparison
from .compared_differences import differences_table
from .compared_sections import (
    compared_about,
    compared_facts,
    compared_sections,
    compared_summary,
)
from .compared_tables import (
    METHODS_NOTE,
    costs_table,
    described_table,
    language_tables,
    methods_tables,
)
from .load import load_compared
from .markdown import escaped, table_markdown
from .page import Head, Page, model_name
from .terminal import print_tables

# A terminal at least so wide shows a method's numbers in one row.
_WIDE = 170
_PER_LANGUAGE = 6
_NAMES = 30


def print_comparison(comparison: Comparison) -> None:
    """Print the methods over all languages and their selectivity by language to standard output.

    Sorted by selectivity within families. A terminal too narrow for one row per method shows
    costs and decisions in tables of their own, 80 columns wide.
    """
    width = console.out.width
    tables = methods_tables(comparison, digits=0, apart=width < _WIDE)
    per_table = max(1, (width - _NAMES) // _PER_LANGUAGE)
    tables += language_tables(comparison, digits=0, per_table=per_table, codes=True)
    print_tables([t for t in tables if len(t.columns) > 1])
    if width < _WIDE and comparison.methods:
        console.out.print(METHODS_NOTE, markup=False)
    for note in comparison.notes:
        console.out.print(f"Note: {note}", markup=False)


def render_comparison(folder: Path) -> str:
    """Return the page of a comparison's folder as one self-contained HTML document.

    Raises:
        StoreError: if ``compare.json`` is missing, or a file that exists is damaged.
    """
    loaded = load_compared(Path(folder))
    comparison = loaded.comparison
    return Page(
        Head("Methods compared", model_name(comparison.model), compared_facts(comparison)),
        compared_summary(comparison),
        compared_sections(loaded),
        compared_about(loaded),
    ).html


def write_comparison(folder: Path) -> Path:
    """Write ``compare.html`` from ``compare.json`` (and ``actions_tried.json``) beside it.

    Raises:
        StoreError: if ``compare.json`` is missing, a file that exists is damaged, or the page
            cannot be written.
    """
    path = Path(folder) / "compare.html"
    write_text(path, render_comparison(folder))
    return path


def comparison_markdown(comparison: Comparison) -> str:
    """Return the tables of a comparison as GitHub-flavoured Markdown, one heading each."""
    tables = [
        *methods_tables(comparison),
        *language_tables(comparison),
        *language_tables(comparison, "harmless_refusal"),
        differences_table(comparison),
        costs_table(comparison),
        described_table(comparison),
    ]
    parts = [escaped(text) for text in compared_summary(comparison)]
    parts += [table_markdown(t) for t in tables if t.rows and len(t.columns) > 1]
    parts += [f"Note: {escaped(note)}" for note in comparison.notes]
    return "\n\n".join(parts) + "\n"
