"""Frozen dataclasses of numbers, estimates and nested tuples to JSON values and back."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import StoreError
from ..types import Estimate

T = TypeVar("T")

#: Seven digits are more than float32 products hold, and writing them twice changes nothing.
_DIGITS = ".7g"


def encode(value: Any) -> Any:
    """Return the JSON value: NaN as null, rows of one dataclass as lists under one head."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, float):
        return float(format(value, _DIGITS)) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def encode_rows(kind: type[Any], rows: tuple[Any, ...]) -> dict[str, Any]:
    """Return ``{"columns": [...], "rows": [[...]]}``: names once, since there are many rows."""
    names = [f.name for f in dataclasses.fields(kind)]
    return {"columns": names, "rows": [[encode(getattr(r, n)) for n in names] for r in rows]}


def decode(kind: type[T], data: Mapping[str, Any], name: str) -> T:
    """Return a dataclass from its :func:`encode` form, null as NaN, by its fields' types.

    Raises:
        StoreError: if a field is missing, unknown or of another type; ``name`` is in the message.
    """
    try:
        return _built(kind, data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{name} is incomplete or damaged: {error}") from error


def decode_rows(kind: type[T], data: Mapping[str, Any], name: str) -> tuple[T, ...]:
    """Inverse of :func:`encode_rows`.

    Raises:
        StoreError: as :func:`decode`.
    """
    try:
        columns = data["columns"]
        return tuple(_built(kind, dict(zip(columns, row, strict=True))) for row in data["rows"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{name} is incomplete or damaged: {error}") from error


def _built(kind: type[T], data: Mapping[str, Any]) -> T:
    hints = typing.get_type_hints(kind)
    if unknown := set(data) - set(hints):
        raise ValueError(f"unknown fields {sorted(unknown)}")
    return kind(**{name: _read(hint, data[name]) for name, hint in hints.items()})


def _read(hint: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return (
            None if value is None else _read(next(x for x in inner if x is not type(None)), value)
        )
    if origin is tuple:
        return tuple(_read(inner[0], item) for item in value)
    if hint is float:
        return math.nan if value is None else float(value)
    if hint is Estimate:
        return Estimate.from_json(value)
    if not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, got {value!r}")
    return value
