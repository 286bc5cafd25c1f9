"""Any JSON value as a nested definition list: ``run.json`` is free-form, and so may grow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .numbers import MISSING

_DEEPEST = 6
_MOST = 60


@dataclass(frozen=True)
class Definition:
    """A term with either a text or further definitions below it."""

    term: str
    text: str = ""
    below: tuple[Definition, ...] = ()


def definitions(value: Mapping[str, Any], depth: int = 0) -> tuple[Definition, ...]:
    """Turn a JSON object into definitions; what lies too deep or too far is counted, not shown."""
    items = list(value.items())
    found = [_definition(str(key), item, depth) for key, item in items[:_MOST]]
    if len(items) > _MOST:
        found.append(Definition("…", f"{len(items) - _MOST} more"))
    return tuple(found)


def _definition(term: str, value: Any, depth: int) -> Definition:
    name = term.replace("_", " ")
    if isinstance(value, Mapping) and value:
        if depth >= _DEEPEST:
            return Definition(name, f"… {len(value)} entries")
        return Definition(name, "", definitions(value, depth + 1))
    if isinstance(value, (list, tuple)):
        if term in ("command", "argv") and all(isinstance(v, str) for v in value):
            return Definition(name, shlex.join(value))
        if any(isinstance(v, (Mapping, list, tuple)) for v in value):
            return _definition(term, {str(i + 1): v for i, v in enumerate(value)}, depth)
        shown = ", ".join(_scalar(v) for v in value[:_MOST])
        more = f" … {len(value) - _MOST} more" if len(value) > _MOST else ""
        return Definition(name, shown + more or MISSING)
    return Definition(name, _scalar(value))


def _scalar(value: Any) -> str:
    if value is None or value == {} or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
