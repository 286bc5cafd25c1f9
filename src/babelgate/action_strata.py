"""Rates of a pair of actions as if every validation prompt had been tried. Pure.

Actions are tried on few prompts, since trying costs a prefill or a reply; whether the gate fires is
known of every validation prompt for nothing. So a cell's rate is post-stratified on the decision
(Holt and Smith 1979, doi 10.2307/2344838):

    rate = f mean(fired side | tried, fired) + (1 - f) mean(silent side | tried, silent)

with ``f`` the share of all the cell's validation prompts on which the gate fires. With a dozen
prompts tried, a gate that fires on one harmless prompt in six often fires on none or one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .types import Prompt

#: Share of a cell's prompts on which the gate fires, by (language, label).
Shares = Mapping[tuple[str, str], float]


def fired_shares(prompts: Iterable[Prompt], fired: np.ndarray) -> dict[tuple[str, str], float]:
    """Return the share of prompts ``[N]`` on which a gate fires, per language and label."""
    cells: dict[tuple[str, str], list[bool]] = {}
    for prompt, own in zip(prompts, fired, strict=True):
        cells.setdefault((prompt.language, prompt.label), []).append(bool(own))
    return {cell: sum(own) / len(own) for cell, own in cells.items()}


@dataclass(frozen=True)
class Strata:
    """The tried prompts, the gate's decisions on them, and how often it fires on all of them.

    ``shares`` may lack a cell, or be empty: then the tried prompts' own share counts, and rates are
    plain means over them.
    """

    prompts: tuple[Prompt, ...]
    decided: np.ndarray
    shares: Shares

    def rate(
        self,
        language: str,
        label: str,
        fired: np.ndarray,
        silent: np.ndarray,
        *,
        untried: float = np.nan,
    ) -> float:
        """Return a cell's rate from what both sides do to the tried prompts, ``[N]`` shares.

        NaN marks what is not known of a prompt. A side that the gate gives to some of the cell's
        prompts, but to none of the tried ones, has its mean over the cell's prompts of the other
        decision, else over tried prompts of that label and decision in other languages, else
        ``untried``.
        """
        of_label = np.array([p.label == label for p in self.prompts], dtype=bool)
        cell = of_label & np.array([p.language == language for p in self.prompts], dtype=bool)
        if not cell.any():
            return float("nan")
        share = self.shares.get((language, label), float(self.decided[cell].mean()))
        total = 0.0
        for weight, values, own in (
            (share, fired, self.decided),
            (1.0 - share, silent, ~self.decided),
        ):
            if weight > 0:
                total += weight * _first_known(
                    values[cell & own], values[cell], values[of_label & own], untried=untried
                )
        return float(total)


def _first_known(*choices: np.ndarray, untried: float) -> float:
    """Return the mean of the first choice that holds a known value."""
    for values in choices:
        known = values[np.isfinite(values)]
        if len(known):
            return float(known.mean())
    return untried
