"""Selecting a refusal direction per language, as published (arXiv 2406.11717, 2505.17306)."""

from .results import Candidate, Selection, SelectionMap
from .selection import select_direction, select_directions
from .settings import SelectionSettings
from .tokens import RefusalTokens, derive_tokens

__all__ = [
    "Candidate",
    "RefusalTokens",
    "Selection",
    "SelectionMap",
    "SelectionSettings",
    "derive_tokens",
    "select_direction",
    "select_directions",
]
