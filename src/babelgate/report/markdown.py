"""The results as Markdown tables, for the README of an experiment."""

from __future__ import annotations

import html
import re

from ..results import Diagnosis, Results
from .judge_facts import judges_of
from .judge_tables import bounds_table, corrected_table, errors_table, parts_table, usage_table
from .judge_words import judge_paragraphs
from .language_gaps import language_table, language_words
from .names import order, reference_method
from .result_tables import overview_tables
from .tables import Table


def to_markdown(results: Results, diagnosis: Diagnosis | None = None) -> str:
    """Return the result tables and the judge as GitHub-flavoured Markdown, one heading each."""
    parts = [table_markdown(table) for table in overview_tables(results, diagnosis)]
    if results.rows:
        parts += [*_languages(results), *_judge(results)]
    return "\n\n".join(parts) + "\n" if parts else "Nothing was measured.\n"


def _languages(results: Results) -> list[str]:
    method = reference_method(results) or ""
    table = language_table(results, order(results), method=method)
    words = [escaped(text) for text in language_words(results, method)]
    return [table_markdown(table), *words] if table.rows else []


def _judge(results: Results) -> list[str]:
    groups, judges = order(results), judges_of(results)
    parts = ["### The judge", *(escaped(text) for text in judge_paragraphs(results))]
    parts += [f"Limits of {escaped(j.name)}: {escaped(note)}" for j in judges for note in j.notes]
    tables = [errors_table(j, results, groups, ()) for j in judges[:1]]
    tables += [parts_table(results, groups), usage_table(results)]
    tables += [errors_table(j, results, groups, ()) for j in judges[1:] if j.errors]
    tables += [bounds_table(results, groups), corrected_table(results, groups)]
    return parts + [table_markdown(table) for table in tables if table.rows]


def table_markdown(table: Table) -> str:
    """Return a table under a heading of its own."""
    rule = ["---:" if a == "r" else "---" for a in table.align]
    lines = [
        f"### {escaped(table.title)}",
        "",
        _line(tuple(map(escaped, table.columns))),
        _line(rule),
    ]
    lines += [_line(tuple(map(escaped, row))) for row in table.rows]
    if table.note:
        lines += ["", escaped(table.note)]
    return "\n".join(lines)


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Escape what would end a cell or become HTML, emphasis or a link."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", one_line)
