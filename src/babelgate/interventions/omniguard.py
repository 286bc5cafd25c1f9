"""OmniGuard as a decider: a classifier of the mean over the prompt's tokens (arXiv 2505.23856)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..rivals.cast import masked_mean
from ..rivals.omniguard import OmniGuard
from .base import Batch, Decision, Phase
from .readouts import decisions_on


@dataclass(frozen=True)
class OmniGuardDecider:
    """Fires where the classifier's log-odds reach the threshold; 0 is even odds.

    The mean is over every prompt token, the template's included, and never over padding.
    ``thresholds`` are per language; others have ``default_threshold``.
    """

    guard: OmniGuard
    default_threshold: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    whole_prompt: bool = True

    @property
    def layers(self) -> tuple[int, ...]:
        """The block that is read."""
        return (self.guard.layer,)

    def start(self, batch: Batch) -> OmniGuardReading:
        """Return fresh state for a batch of rows."""
        return OmniGuardReading(self, batch.languages)


class OmniGuardReading:
    """The scores of the rows of one batch."""

    def __init__(self, decider: OmniGuardDecider, languages: tuple[str | None, ...]) -> None:
        self._decider = decider
        self._languages = languages
        self._score = torch.zeros(0)

    def read(self, layer: int, hidden: torch.Tensor, phase: Phase) -> None:
        """Score the mean over each row's tokens."""
        guard = self._decider.guard
        guard = guard if guard.mean.device == hidden.device else guard.to(hidden.device)
        self._score = guard.score(masked_mean(hidden, phase.mask))

    def decide(self) -> list[Decision]:
        """Compare with the thresholds."""
        decider = self._decider
        thresholds = [
            decider.thresholds.get(language or "", decider.default_threshold)
            for language in self._languages
        ]
        what = f"OmniGuard at block {decider.guard.layer}"
        return decisions_on(self._score, thresholds, self._languages, what)
