"""Nested dataclasses as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..types import Estimate


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NaN as null, estimates by their own rule."""
    if isinstance(value, Estimate):
        return value.to_json()
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
