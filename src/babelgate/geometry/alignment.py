"""Which prompts of two languages are translations of each other, by ``group_id``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .members import Members, difference
from .table import PromptTable


@dataclass(frozen=True)
class Alignment:
    """``places [L, G]``: the place of each group's prompt in each language, -1 where it has none.

    The first of several prompts of one group and class counts. ``harmful [G]`` is part of a group's
    identity, so that a label which differs between languages aligns nothing.
    """

    places: np.ndarray
    harmful: np.ndarray
    least: int
    sizes: tuple[int, ...]

    @staticmethod
    def of(table: PromptTable, members: Sequence[Members], least: int) -> Alignment:
        """Return the alignment of some languages' prompts; prompts without a group have none."""
        keys: dict[tuple[str, bool], int] = {}
        found: list[dict[int, int]] = []
        for m in members:
            own: dict[int, int] = {}
            for place, row in enumerate(m.rows):
                group, harmful = str(table.group[row]), bool(table.harmful[row])
                if group:
                    own.setdefault(keys.setdefault((group, harmful), len(keys)), place)
            found.append(own)
        places = np.full((len(members), len(keys)), -1)
        for i, own in enumerate(found):
            places[i, list(own)] = list(own.values())
        harmful = np.array([side for _, side in keys], dtype=bool)
        return Alignment(places, harmful, least, tuple(len(m.rows) for m in members))

    def counts(self, harmful: bool) -> np.ndarray:
        """Return how many groups of one class each pair of languages shares, ``[L, L]``."""
        has = (self.places[:, self.harmful == harmful] >= 0).astype(np.int64)
        return has @ has.T

    @cached_property
    def usable(self) -> np.ndarray:
        """Which pairs of languages share enough groups of both classes, ``[L, L]``."""
        return np.minimum(self.counts(True), self.counts(False)) >= self.least

    def shared(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the same groups in two languages."""
        both = (self.places[i] >= 0) & (self.places[j] >= 0)
        return self.places[i, both], self.places[j, both]

    @cached_property
    def weights(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Per language the weights ``[u, n]`` of its class differences and each partner's row.

        Row ``[L]`` says which of the ``u`` distinct differences belongs to which partner, -1 for
        none: languages that share the same groups share the product with the states.
        """
        found = []
        for i, n in enumerate(self.sizes):
            partners = np.flatnonzero(self.usable[i])
            own = np.flatnonzero(self.places[i] >= 0)
            shared = self.places[np.ix_(partners, own)] >= 0
            distinct, which = np.unique(shared, axis=0, return_inverse=True)
            masks = np.zeros((2, len(distinct), n))
            for side in range(2):
                columns = self.harmful[own] == (side == 0)
                masks[side][:, self.places[i, own[columns]]] = distinct[:, columns]
            row = np.full(len(self.sizes), -1)
            row[partners] = which.reshape(-1)
            found.append((difference(*masks), row))
        return tuple(found)
