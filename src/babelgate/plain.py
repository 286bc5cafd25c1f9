"""Nested dataclasses as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .types import Estimate


def plain(value: Any, digits: int | None = None) -> Any:
    """Turn nested dataclasses into JSON values, estimates by their own rule.

    A missing number (NaN) becomes ``null``; ``digits`` rounds the others.
    """
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if digits is None else round(value, digits)
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name), digits) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, digits) for item in value]
    return value
