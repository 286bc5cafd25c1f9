"""Selections of refusal directions as ``directions.json`` holds them: what a page needs of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Grid = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class SelectionView:
    """One language's selection: how it ended, by which tokens, and every candidate's scores.

    ``bypass``, ``induce`` (log-odds) and ``kl`` (nats) are ``[n_positions, n_layers]``, NaN where
    they were not computed; ``kept`` says which candidates passed every filter. ``chosen`` is the
    candidate's own record. Column l is the state that block l reads.
    """

    language: str
    status: str
    words: str
    contrast: str
    tokens: Mapping[str, Any]
    chosen: Mapping[str, Any] | None
    positions: tuple[str, ...]
    token_texts: tuple[str, ...]
    bypass: Grid
    induce: Grid
    kl: Grid
    kept: tuple[tuple[bool, ...], ...]
    min_induce: float
    max_kl: float

    @property
    def found(self) -> bool:
        """Whether there is a direction."""
        return self.chosen is not None

    @property
    def chosen_place(self) -> tuple[int, int] | None:
        """Row and column of the chosen candidate."""
        if self.chosen is None:
            return None
        return self.positions.index(self.chosen["position"]), int(self.chosen["layer"])

    @staticmethod
    def of(data: Mapping[str, Any]) -> SelectionView:
        """Read one entry of ``selections``.

        Raises:
            KeyError, TypeError, ValueError: if it is damaged.
        """
        scores = data["map"] or {
            "positions": (), "tokens": (), "bypass": (), "induce": (), "kl": ()
        }  # fmt: skip
        return SelectionView(
            data["language"],
            data["status"],
            data["words"],
            data["contrast"],
            dict(data["tokens"]),
            data["chosen"],
            tuple(scores["positions"]),
            tuple(scores["tokens"]),
            _grid(scores["bypass"]),
            _grid(scores["induce"]),
            _grid(scores["kl"]),
            tuple(tuple(bool(v) for v in row) for row in data["kept"]),
            float(data["settings"]["min_induce"]),
            float(data["settings"]["max_kl"]),
        )


def _grid(rows: Sequence[Sequence[float | None]]) -> Grid:
    return tuple(tuple(math.nan if v is None else float(v) for v in row) for row in rows)
