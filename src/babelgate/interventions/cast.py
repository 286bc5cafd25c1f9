"""CAST in generation: a condition on the prompt's mean state and behaviour vectors to add.

Source: arXiv 2409.05907. The condition is checked for every row of a batch by itself, over its real
tokens only; the published code checks the first row, padding included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..errors import UserError
from ..rivals.cast import STRENGTH, ConditionPoint, condition_score, masked_mean
from .actions import Throughout
from .base import Batch, Decision, Phase
from .linear import add
from .readouts import decisions_on
from .vectors import Placed, vector_key


@dataclass(frozen=True)
class CastCondition:
    """Fires where ``cos(h, tanh(P h))`` is on the point's side of its threshold.

    ``h`` is the mean over all prompt tokens at ``point.layer``, ``P`` the projection on
    ``vector [d]``. A decision's score and threshold carry the point's sign, so that it fires at
    ``score >= threshold`` whichever side the condition is on.
    """

    vector: torch.Tensor
    point: ConditionPoint
    whole_prompt: bool = True
    _placed: Placed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_placed", Placed(self.vector))

    @property
    def layers(self) -> tuple[int, ...]:
        """The block that is read."""
        return (self.point.layer,)

    def start(self, batch: Batch) -> CastReading:
        """Return fresh state for a batch of rows."""
        return CastReading(self, batch.languages)

    def score(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return signed condition scores ``[B]`` of ``h [B, T, d]``."""
        mean = masked_mean(hidden, mask)
        return self.point.sign * condition_score(mean, self._placed.on(hidden.device))


class CastReading:
    """The condition scores of the rows of one batch."""

    def __init__(self, condition: CastCondition, languages: tuple[str | None, ...]) -> None:
        self._condition = condition
        self._languages = languages
        self._score = torch.zeros(0)

    def read(self, layer: int, hidden: torch.Tensor, phase: Phase) -> None:
        """Score the mean over each row's tokens."""
        self._score = self._condition.score(hidden, phase.mask)

    def decide(self) -> list[Decision]:
        """Compare with the threshold, the same in every language."""
        point = self._condition.point
        thresholds = [point.sign * point.threshold] * len(self._languages)
        what = f"CAST's condition at block {point.layer}"
        return decisions_on(self._score, thresholds, self._languages, what)


@dataclass(frozen=True)
class BehaviourVectors(Throughout):
    """Add ``strength v_l`` after each of some blocks, at every prompt token and generated token.

    ``vectors [n_layers, d]`` holds one unit vector per block of the model, ``layers`` says after
    which it is added (:func:`babelgate.rivals.cast.behaviour_layers`).

    Raises:
        UserError: if a block has no vector.
    """

    name: str = "behaviour"
    key: str = field(init=False)
    layers: tuple[int, ...] = field(kw_only=True)
    changes_prompt: bool = True
    vectors: torch.Tensor = field(kw_only=True)
    strength: float = field(default=STRENGTH, kw_only=True)
    _placed: Placed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.vectors)
        if not all(0 <= layer < count for layer in self.layers):
            raise UserError(
                f"behaviour vectors are for {count} blocks, not for all of {list(self.layers)}"
            )
        key = vector_key("behaviour", self.vectors, self.layers, self.strength)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "_placed", Placed(self.vectors))

    def applied(self, layer: int, hidden: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Add the block's vector."""
        vector = self._placed.on(hidden.device)[layer]
        return add(hidden, vector, where * self.strength)
