"""What a fit is given: prompts with their states, and the train rows and weights of each fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from .errors import UserError
from .probe import balanced_totals, balanced_weights
from .types import CONTRASTS, Contrast, Prompt, contrast_members

#: What a layer's subspace is made of.
Basis = Literal["directions", "states"]

#: Row indices of harmful and of harmless prompts.
Sides = tuple[np.ndarray, np.ndarray]


def threshold_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts of one language that thresholds are set and scored on.

    Where there are harmful prompts without a twin, thresholds are for prompts of their sources, and
    a contrast set is there to train the probe; otherwise all prompts count. Sources and targets
    follow the same rule, since a target's shots are compared with the sources' scores.
    """
    plain = {p.source for p in prompts if p.harmful and p.pair_id is None}
    return [p for p in prompts if not plain or p.source in plain]


@dataclass(frozen=True)
class Data:
    """Prompts and their states: ``states(layer)`` is ``[N, d]`` float32 in the prompts' order."""

    prompts: tuple[Prompt, ...]
    states: Callable[[int], torch.Tensor]
    sources: tuple[str, ...]

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each prompt key."""
        return {p.key: i for i, p in enumerate(self.prompts)}

    @cached_property
    def harmful(self) -> np.ndarray:
        """``[N]`` bool."""
        return np.array([p.harmful for p in self.prompts], dtype=bool)

    def sides(self, members: Iterable[Prompt]) -> Sides:
        """Return the (harmful, harmless) rows of some prompts."""
        rows = np.array([self.row[p.key] for p in members], dtype=int)
        return rows[self.harmful[rows]], rows[~self.harmful[rows]]

    def pool(self, language: str, split: str) -> list[Prompt]:
        """Return the prompts of one language and split."""
        return [p for p in self.prompts if p.language == language and p.split == split]

    def held_out(self, language: str, contrast: Contrast) -> Sides:
        """Return the rows of one language's val prompts that a contrast compares."""
        return self._held_out[language, contrast]

    @cached_property
    def _held_out(self) -> dict[tuple[str, Contrast], Sides]:
        languages = dict.fromkeys(p.language for p in self.prompts)
        return self._by_contrast(languages, "val")

    @cached_property
    def train_groups(self) -> dict[tuple[str, Contrast], Sides]:
        """Rows of the sources' train prompts per language and contrast, where both sides exist."""
        found = self._by_contrast(self.sources, "train")
        return {key: sides for key, sides in found.items() if all(len(side) for side in sides)}

    def _by_contrast(
        self, languages: Iterable[str], split: str
    ) -> dict[tuple[str, Contrast], Sides]:
        found: dict[tuple[str, Contrast], Sides] = {}
        for language in languages:
            pool = self.pool(language, split)
            for contrast in CONTRASTS:
                found[language, contrast] = self.sides(contrast_members(pool, contrast))
        return found


@dataclass(frozen=True)
class Fold:
    """One fit of the probe: the sources it trains on, their train rows and their weights."""

    languages: frozenset[str]
    rows: np.ndarray
    weights: np.ndarray

    @staticmethod
    def of(data: Data, languages: Sequence[str], basis: Basis) -> Fold:
        """Return the fit on some of the source languages.

        Raises:
            UserError: if none of them has train prompts of both classes.
        """
        chosen = frozenset(languages)
        if not any(language in chosen for language, _ in data.train_groups):
            raise UserError(
                f"the source languages {', '.join(languages)} have no train prompts of both classes"
            )
        train = [p for p in data.prompts if p.split == "train" and p.language in chosen]
        rows = np.array([data.row[p.key] for p in train], dtype=int)
        # Each set of twins is a cell of its own: a large one does not drown a small one.
        cells = [(p.language, "plain" if p.pair_id is None else f"twin {p.source}") for p in train]
        weights = balanced_weights(cells, data.harmful[rows])
        if basis == "states":
            # Both contrasts count for half, as when layers are chosen, whatever sets there are.
            kinds = [("plain" if p.pair_id is None else "twin",) for p in train]
            weights = balanced_totals(weights, kinds, data.harmful[rows])
        return Fold(chosen, rows, weights)
