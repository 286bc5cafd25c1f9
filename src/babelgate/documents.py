"""JSON documents of a run folder: how they are read, versioned and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import StoreError

SCHEMA = 1

# What reading a document of another shape raises, from a missing field to an infinite count.
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def read_document(
    path: Path, made_by: str = "run `babelgate measure` or `babelgate evaluate` first"
) -> Mapping[str, Any]:
    """Return the JSON object in a file; ``made_by`` says how to get one that is missing.

    Raises:
        StoreError: if it is missing, damaged or no object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist; {made_by}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path} should hold a JSON object, not {type(data).__name__}")
    return data


def check_schema(data: Mapping[str, Any], name: str) -> None:
    """Raise StoreError for a document of another schema."""
    if data.get("schema") != SCHEMA:
        raise StoreError(
            f"{name} has schema {data.get('schema')!r}; this version reads schema {SCHEMA}"
        )
