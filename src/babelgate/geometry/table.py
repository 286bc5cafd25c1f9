"""What is known about each prompt beside its states, and the settings of an analysis. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..types import Outcome, Prompt


@dataclass(frozen=True)
class PromptTable:
    """Arrays ``[N]`` in the order of the states' rows.

    ``group`` is shared by translations of one prompt (empty: not aligned). ``tokens`` counts prompt
    tokens, NaN where unknown; ``refused`` is 1 for a refusal, 0 for an answer, NaN for anything
    else; either may be None.

    Raises:
        UserError: if the arrays differ in length or there are no prompts.
    """

    language: np.ndarray
    harmful: np.ndarray
    group: np.ndarray
    split: np.ndarray
    tokens: np.ndarray | None = None
    refused: np.ndarray | None = None

    def __post_init__(self) -> None:
        kinds = {"language": str, "harmful": bool, "group": str, "split": str}
        kinds |= {"tokens": np.float64, "refused": np.float64}
        n = len(self.language)
        if not n:
            raise UserError("the geometry needs prompts; there are none")
        for name, kind in kinds.items():
            values = getattr(self, name)
            if values is None:
                continue
            array = np.asarray(values, dtype=kind)
            if array.shape != (n,):
                raise UserError(
                    f"{name} has shape {list(array.shape)}; expected one value for each of the "
                    f"{n} prompts"
                )
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.language)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages in order of first appearance."""
        return tuple(str(code) for code in dict.fromkeys(self.language.tolist()))

    @staticmethod
    def of(
        prompts: Sequence[Prompt],
        tokens: Sequence[float] | None = None,
        outcomes: Sequence[Outcome | None] | None = None,
    ) -> PromptTable:
        """Return the table of prompts, their token counts and what the model's replies were.

        Only ``refused`` and ``answered`` count as outcomes: loops and echoes are neither.
        """
        known = {"refused": 1.0, "answered": 0.0}
        return PromptTable(
            language=np.array([p.language for p in prompts], dtype=str),
            harmful=np.array([p.harmful for p in prompts], dtype=bool),
            group=np.array([p.group_id for p in prompts], dtype=str),
            split=np.array([p.split for p in prompts], dtype=str),
            tokens=None if tokens is None else np.array(tokens, dtype=np.float64),
            refused=None
            if outcomes is None
            else np.array([known.get(o or "", np.nan) for o in outcomes]),
        )


@dataclass(frozen=True)
class Settings:
    """How the geometry is computed.

    Harmfulness directions, class centroids and length slopes come from the splits ``fit``;
    separability is judged on ``held_out``. Refusal directions, parallelism and translation
    identification describe and predict nothing: they use all prompts. ``pivot`` is the language
    that others are compared with, ``ranks`` the highest rank of the sources' subspace,
    ``halvings`` the number of random halves behind a reliability or an own threshold, ``least`` the
    fewest prompts per class, ``projection_layers`` those that pictures are made of.

    Raises:
        UserError: for a number below 1, or a split that is fitted and tested on.
    """

    fit: tuple[str, ...] = ("train",)
    held_out: tuple[str, ...] = ("val",)
    pivot: str = "en"
    ranks: int = 10
    halvings: int = 10
    least: int = 4
    seed: int = 0
    projection_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if both := set(self.fit) & set(self.held_out):
            raise UserError(
                f"the split {min(both)!r} is fitted and tested on; choose different splits"
            )
        for name, least in (("ranks", 1), ("halvings", 1), ("least", 4)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least {least}")
