"""Directions pooled over source languages, without the language that they are used on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pooled:
    """Unweighted means over source languages: of all, and with each source left out.

    ``values [1 + n_sources, d]``, all sources first; ``sources`` are the languages' places. NaN
    where no source is left.
    """

    values: np.ndarray
    sources: tuple[int, ...]

    @staticmethod
    def of(rows: np.ndarray, sources: Sequence[int]) -> Pooled:
        """Pool the rows ``[L, d]`` of the sources whose row is known."""
        usable = tuple(s for s in sources if np.isfinite(rows[s]).all())
        total = rows[list(usable)].sum(0) if usable else np.full(rows.shape[1], np.nan)
        n = len(usable)
        values = [total / max(n, 1)]
        values += [(total - rows[s]) / (n - 1) if n > 1 else total * np.nan for s in usable]
        return Pooled(np.array(values), usable)

    def place(self, language: int) -> int:
        """Return the row for a language: the one that leaves it out, if it is a source."""
        return 1 + self.sources.index(language) if language in self.sources else 0

    def others(self, language: int) -> list[int]:
        """Return the sources that a language is judged by."""
        return [s for s in self.sources if s != language]
