"""Scores of prompts before and after every edit: what a matrix is computed from. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..types import Label, Prompt
from .results import Evidence


@dataclass(frozen=True)
class Measured:
    """One kind of evidence on ``N`` prompts.

    ``base [N]`` is the untouched model, ``edited[name] [N]`` the model under an edit: log-odds of
    refusal in nats, or 1 refused and 0 not; NaN where it was not measured or could not be scored.
    ``broken`` arrays are 1 where a reply neither refuses nor answers. ``skipped`` says why an edit
    (by name) or a language was not measured.
    """

    evidence: Evidence
    languages: tuple[str, ...]
    labels: tuple[Label, ...]
    groups: tuple[str, ...]
    base: np.ndarray
    edited: Mapping[str, np.ndarray]
    broken_base: np.ndarray | None = None
    broken: Mapping[str, np.ndarray] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.languages)
        sizes = {len(self.labels), len(self.groups), *(len(x) for x in self.edited.values())}
        if sizes | {len(self.base)} != {n}:
            raise ValueError(f"scores of {sizes} prompts do not match {n} languages")

    @cached_property
    def _rows(self) -> dict[tuple[str, Label], np.ndarray]:
        found: dict[tuple[str, Label], list[int]] = {}
        for i, key in enumerate(zip(self.languages, self.labels)):
            found.setdefault(key, []).append(i)
        return {key: np.array(rows) for key, rows in found.items()}

    def rows(self, language: str, label: Label) -> np.ndarray:
        """Return the indices of a language's prompts of one class."""
        return self._rows.get((language, label), np.empty(0, dtype=int))


def prompt_facts(
    prompts: Sequence[Prompt],
) -> tuple[tuple[str, ...], tuple[Label, ...], tuple[str, ...]]:
    """Return the languages, labels and groups of prompts."""
    return (
        tuple(p.language for p in prompts),
        tuple(p.label for p in prompts),
        tuple(p.group_id for p in prompts),
    )
