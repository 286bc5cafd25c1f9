"""Deciders that read the last prompt token with one vector: the rivals' linear probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..errors import BabelgateError
from ..rivals.probes import LinearReadout
from ..thresholds import fires
from .base import Batch, Decision, Phase
from .vectors import Placed


def decisions_on(
    scores: torch.Tensor, thresholds: Sequence[float], languages: Sequence[str | None], what: str
) -> list[Decision]:
    """Return one decision per score ``[B]``; waits for the device.

    Raises:
        BabelgateError: if a score is NaN or infinite; ``what`` names the reading.
    """
    if not bool(torch.isfinite(scores).all()):
        raise BabelgateError(
            f"the score of {what} is NaN or infinite for a prompt: the model's activations there "
            "are not finite; try `--dtype float32`"
        )
    return [
        Decision(score, threshold, bool(fires(score, threshold)), language)
        for score, threshold, language in zip(scores.tolist(), thresholds, languages)
    ]


@dataclass(frozen=True)
class LinearDecider:
    """Fires where a linear readout of one block's last prompt token reaches the threshold.

    ``thresholds`` are per language; other languages have the readout's own.
    """

    readout: LinearReadout
    layer: int
    thresholds: Mapping[str, float] = field(default_factory=dict)
    whole_prompt: bool = False
    _weight: Placed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        weight = torch.from_numpy(self.readout.weight).float()
        object.__setattr__(self, "_weight", Placed(weight))

    @property
    def layers(self) -> tuple[int, ...]:
        """The block that is read."""
        return (self.layer,)

    def start(self, batch: Batch) -> LinearReading:
        """Return fresh state for a batch of rows."""
        return LinearReading(self, batch.languages)

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return scores of last-token states ``[B, d] -> [B]``, in float32."""
        return hidden.float() @ self._weight.on(hidden.device) + self.readout.bias

    def threshold(self, language: str | None) -> float:
        """Return the language's threshold, or the readout's where it has none."""
        return self.thresholds.get(language or "", self.readout.threshold)


class LinearReading:
    """The scores of the rows of one batch."""

    def __init__(self, decider: LinearDecider, languages: tuple[str | None, ...]) -> None:
        self._decider = decider
        self._languages = languages
        self._score = torch.zeros(0)

    def read(self, layer: int, hidden: torch.Tensor, phase: Phase) -> None:
        """Score the last prompt token."""
        self._score = self._decider.score(hidden[:, -1])

    def decide(self) -> list[Decision]:
        """Compare with the thresholds."""
        thresholds = [self._decider.threshold(language) for language in self._languages]
        what = f"{self._decider.readout.name} at block {self._decider.layer}"
        return decisions_on(self._score, thresholds, self._languages, what)
