"""MultiJail (Deng et al. 2024, arXiv 2310.06474): one CSV row per prompt, one column per language.

Columns: ``id, source, en, zh, it, vi, ar, ko, th, bn, sw, jv, tags``. All prompts are harmful.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..languages import is_known, normalise_code
from ..types import Prompt
from .jsonl import csv_rows, parse_prompt, read_bytes, unique

SOURCE = "multijail"
_FILES = ("data/MultiJail.csv", "MultiJail.csv")
_ID = re.compile(r"multijail-\d+")


def is_table(columns: Iterable[str]) -> bool:
    """Whether a table's columns are MultiJail's."""
    return {"id", "en", "zh", "tags"} <= set(columns)


def find_file(folder: Path) -> Path | None:
    """Return the CSV file of a checkout of DAMO-NLP-SG/multilingual-safety-for-LLMs, or None."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def looks_like(prompts: Iterable[Prompt]) -> bool:
    """Whether prompts from a plain file carry MultiJail's ids."""
    pool = list(prompts)
    return bool(pool) and all(_ID.fullmatch(p.id) and p.harmful for p in pool)


def tidy(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return the prompts with readable categories and MultiJail as source."""
    return [replace(p, source=SOURCE, category=_category(p.category)) for p in prompts]


def read_table(path: Path, languages: frozenset[str] | None = None) -> list[Prompt]:
    """Return the prompts of ``MultiJail.csv``, only of ``languages`` if given.

    Raises:
        PromptError: if the columns are not MultiJail's, or a row is broken.
    """
    rows = csv_rows(read_bytes(path), str(path))
    if not rows or not is_table(rows[0][1]):
        raise PromptError(f"{path} has not MultiJail's columns: id, source, en, zh, ..., tags")
    return from_rows(rows, str(path), languages)


def from_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    name: str,
    languages: frozenset[str] | None = None,
) -> list[Prompt]:
    """Return the prompts of (where, row) pairs; ``source`` of a row goes to ``original_source``.

    Raises:
        PromptError: for a row without id or English text.
    """
    prompts: list[Prompt] = []
    for i, (where, row) in enumerate(rows):
        number = str(row["id"]) if row.get("id") is not None else str(i)
        number = f"{int(number):03d}" if number.isdecimal() else number
        for column in row:
            if column in ("id", "source", "tags") or not is_known(column):
                continue
            language = normalise_code(column)
            if row[column] is None or (languages is not None and language not in languages):
                continue
            record = {
                "id": f"multijail-{number}",
                "language": language,
                "label": "harmful",
                "split": "test",
                "text": row[column],
                "category": _category(row.get("tags")),
                "source": SOURCE,
                "original_source": row.get("source"),
            }
            prompts.append(parse_prompt(record, f"{where}, column {column!r}"))
    return unique(prompts, name)


def _category(tags: Any) -> str | None:
    """Return ``['A', 'B']`` (Python's notation, as in the file) or a list as ``A; B``."""
    if isinstance(tags, str) and tags.startswith("["):
        try:
            tags = ast.literal_eval(tags)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return tags
    if isinstance(tags, (list, tuple)):
        return "; ".join(map(str, tags)) or None
    return tags if isinstance(tags, str) else None
