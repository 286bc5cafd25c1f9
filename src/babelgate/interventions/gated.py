"""The gate in generation: read in the prefill that generation runs anyway, then applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..errors import BabelgateError
from ..gate import Gate
from ..language_id import identify
from .base import Batch, Decision, Phase
from .linear import project_out, steer


def identified_language(text: str) -> str | None:
    """Return the identified language of a prompt, or None when identification is unsure."""
    return identify(text).code


@dataclass(frozen=True)
class GatedIntervention:
    """Add the harmfulness direction where the gate fires, project it out where it does not.

    With ``v`` the gate's unit direction and ``alpha`` its strength, after block L only:
    fired rows get ``h += alpha v`` at the last prompt token and every generated token, other rows
    ``h -= (h . v) v`` at every prompt token and every generated token. Source: arXiv 2606.01196.

    ``alpha`` overrides the gate's strength, ``ablate=False`` turns the second side off (both for
    controls: strength 0 without ablation is the unchanged model). ``language_of`` is asked for
    rows whose language is not given.
    """

    gate: Gate
    name: str = "gate"
    alpha: float | None = None
    ablate: bool = True
    language_of: Callable[[str], str | None] = field(default=identified_language)

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks that are read; the last is also changed."""
        return self.gate.layers

    def edit_opening(self, layer: int, hidden: torch.Tensor) -> torch.Tensor | None:
        """Project the direction out of the opening: what rows see on which the gate is silent."""
        if layer != self.gate.steer_layer or not self.ablate:
            return None
        everywhere = torch.ones(hidden.shape[:2], device=hidden.device)
        return project_out(hidden, self.gate.direction.to(hidden.device), everywhere)

    def start(self, batch: Batch) -> GatedSteering:
        """Return fresh state for a batch of rows."""
        languages = [
            self.language_of(text) if language is None else language
            for text, language in zip(batch.texts, batch.languages)
        ]
        return GatedSteering(self, languages)


class GatedSteering:
    """Scores, decisions and strengths of the rows of one batch."""

    def __init__(self, intervention: GatedIntervention, languages: list[str | None]) -> None:
        gate = intervention.gate
        self._gate = gate
        self._alpha = gate.alpha if intervention.alpha is None else intervention.alpha
        self._ablate = intervention.ablate
        self._languages = languages
        self._thresholds = [gate.threshold(language) for language in languages]
        self._vectors, constant = gate.readout
        self._score = torch.full((len(languages),), constant)
        self._decisions: list[Decision] = []
        # Per-row strengths and ablation marks, [B, 1], on the steered block's device.
        self._strength = torch.zeros(0)
        self._ablation = torch.zeros(0)
        self._direction = gate.direction

    def at_block(self, layer: int, hidden: torch.Tensor, phase: Phase) -> torch.Tensor | None:
        """Read in prefill; act after the last block that is read."""
        if phase.kind == "prefill":
            last = hidden[:, -1].float()
            vector = self._vectors[layer].to(hidden.device)
            self._score = self._score.to(hidden.device) + last @ vector
        if layer != self._gate.steer_layer:
            return None
        if phase.kind == "decode":
            strength, ablation = self._strength, self._ablation
            return steer(hidden, self._direction, strength, ablation)
        self._decide(hidden.device)
        strength = torch.zeros(hidden.shape[:2], device=hidden.device)
        strength[:, -1:] = self._strength
        ablation = self._ablation * phase.mask.to(hidden.device)
        return steer(hidden, self._direction, strength, ablation)

    def edited_openings(self) -> torch.Tensor:
        """Return ``[B]`` bool: rows on which the gate did not fire."""
        return self._ablation[:, 0] > 0

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        rows = rows.to(self._strength.device)
        self._strength, self._ablation = self._strength[rows], self._ablation[rows]

    def decisions(self) -> list[Decision]:
        """Return the decision of every row of the original batch."""
        return self._decisions

    def _decide(self, device: torch.device) -> None:
        """Turn scores into decisions: the only point that waits for the device, once a batch."""
        scores = self._score.tolist()
        if not torch.isfinite(self._score).all():
            raise BabelgateError(
                "the gate's score is NaN or infinite for a prompt: the model's activations at "
                f"block {self._gate.steer_layer} are not finite; try `--dtype float32`"
            )
        self._decisions = [
            Decision(score, threshold, score >= threshold, language)
            for score, threshold, language in zip(scores, self._thresholds, self._languages)
        ]
        fired = torch.tensor([[d.fired] for d in self._decisions], device=device)
        self._strength = fired.float() * self._alpha
        self._ablation = (~fired).float() * float(self._ablate)
        self._direction = self._gate.direction.to(device)
